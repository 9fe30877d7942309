//! Rounds the GMF features of items to half precision for quantized scans, which halves the bytes read. `BOUNDS.md`
//! proves the error bound.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::error::{Result, filled};
use crate::kernel::{LANES, Lanes, StandardFloats};

/// The exponent of the largest magnitude after scaling: far above the subnormals of half precision and below its
/// maximum, 65504.
const EXPONENT: i32 = 14;

/// The power of two by which items' features are multiplied before rounding, and users' weights divided.
#[derive(Debug, Clone, Copy)]
pub(super) struct HalfPrecision {
    scale: f64,
}

impl HalfPrecision {
    /// Chooses the scale for features `j` of magnitudes up to `largest[j]`.
    pub(super) fn new(largest: &[f32]) -> Self {
        let largest = f64::from(largest.iter().fold(0.0, |max: f32, &x| max.max(x)));
        let exponent = if largest > 0.0 { (largest.to_bits() >> 52) as i32 - 1023 } else { 0 };
        HalfPrecision { scale: 2f64.powi(EXPONENT - exponent) }
    }

    /// The number of lines for `features` features of sixteen items: two features per line.
    pub(super) fn lines(features: usize) -> usize {
        features.div_ceil(2)
    }

    /// A bound on the rounding error of a feature of magnitude `x`: 2^-11 of it, plus 2^-25 in scaled units for
    /// subnormals.
    pub(super) fn error(self, x: f32) -> f64 {
        f64::from(x) / 2048.0 + 2f64.powi(-25) / self.scale
    }

    /// A user's weights, scaled and padded to whole lines.
    pub(super) fn user(self, g: &[f32]) -> Result<Vec<f32>> {
        let mut weights = filled("quantized user", 2 * Self::lines(g.len()), 0.0)?;
        weights.iter_mut().zip(g).for_each(|(weight, &g)| *weight = (f64::from(g) / self.scale) as f32);
        Ok(weights)
    }

    /// Rounds the features of sixteen items; `features` has one line per feature, `to` one line per two features.
    pub(super) fn round(self, features: &[Lanes], to: &mut [Lanes]) {
        let _settings = StandardFloats::enter();
        for (pair, to) in features.chunks(2).zip(to) {
            let mut rounded = [f16::ZERO; 2 * LANES];
            for (feature, rounded) in pair.iter().zip(rounded.chunks_exact_mut(LANES)) {
                rounded.convert_from_f32_slice(&feature.map(|x| (f64::from(x) * self.scale) as f32));
            }
            for (word, two) in to.iter_mut().zip(rounded.chunks_exact(2)) {
                *word = f32::from_bits(u32::from(two[0].to_bits()) | u32::from(two[1].to_bits()) << 16);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_bound_holds_at_any_magnitude() {
        for largest in [0.0, f32::from_bits(1), 1e-40, 1e-20, 0.37, 1.0, 65504.0, 1e20, 1.9e38, f32::MAX] {
            let half_precision = HalfPrecision::new(&[0.0, largest]);
            assert!(
                largest == 0.0 || (16384.0..32768.0).contains(&(f64::from(largest) * half_precision.scale)),
                "{largest:e}"
            );
            let mut x: Vec<f32> = (0..1000).map(|n| largest * (0.99f32).powi(7 * n) * (-1f32).powi(n)).collect();
            x.resize(1008, -largest);
            for features in x.as_chunks::<LANES>().0.chunks(3) {
                let mut lines = [[0.0; LANES]; 2];
                half_precision.round(features, &mut lines);
                let bits =
                    lines.as_flattened().iter().flat_map(|word| [word.to_bits() as u16, (word.to_bits() >> 16) as u16]);
                for (half, &x) in bits.zip(features.as_flattened()) {
                    let kept = f16::from_bits(half).to_f64() / half_precision.scale;
                    assert!(
                        (kept - f64::from(x)).abs() <= half_precision.error(x.abs()),
                        "{x:e} of {largest:e}: {kept:e}"
                    );
                }
            }
        }
    }
}

//! The GMF features of items in half precision, for the estimates in integers: half of what a scan would have to read.
//! `BOUNDS.md` has the proof of the error.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::kernel::{LANES, Lanes, StandardFloats};

/// The exponent that the largest magnitude gets: far above where half precision loses digits, and below its end, 65504.
const EXPONENT: i32 = 14;

/// By which power of two features are multiplied before they are rounded, and users' weights divided.
#[derive(Debug, Clone, Copy)]
pub(super) struct HalfPrecision {
    scale: f64,
}

impl HalfPrecision {
    /// For features `j` of magnitudes up to `largest[j]`.
    pub(super) fn new(largest: &[f32]) -> Self {
        let largest = f64::from(largest.iter().fold(0.0, |most: f32, &x| most.max(x)));
        let exponent = if largest > 0.0 { (largest.to_bits() >> 52) as i32 - 1023 } else { 0 };
        HalfPrecision { scale: 2f64.powi(EXPONENT - exponent) }
    }

    /// Lines that `features` features take: two a line, sixteen items each.
    pub(super) fn lines(features: usize) -> usize {
        features.div_ceil(2)
    }

    /// By how much rounding changes a feature of magnitude `x` at most: by 2^-11 of it, or where it is subnormal by
    /// 2^-25.
    pub(super) fn error(self, x: f32) -> f64 {
        f64::from(x) / 2048.0 + 2f64.powi(-25) / self.scale
    }

    /// A user's weights, for as many features as fill the lines.
    pub(super) fn user(self, g: &[f32]) -> Vec<f32> {
        let mut weights: Vec<f32> = g.iter().map(|&g| (f64::from(g) / self.scale) as f32).collect();
        weights.resize(2 * Self::lines(g.len()), 0.0);
        weights
    }

    /// Writes the features of sixteen items, a line for each, as lines of pairs.
    pub(super) fn round(self, features: &[Lanes], to: &mut [Lanes]) {
        let _settings = StandardFloats::enter();
        for (pair, to) in features.chunks(2).zip(to) {
            let mut halves = [f16::ZERO; 2 * LANES];
            for (feature, halves) in pair.iter().zip(halves.chunks_exact_mut(LANES)) {
                halves.convert_from_f32_slice(&feature.map(|x| (f64::from(x) * self.scale) as f32));
            }
            for (word, two) in to.iter_mut().zip(halves.chunks_exact(2)) {
                *word = f32::from_bits(u32::from(two[0].to_bits()) | u32::from(two[1].to_bits()) << 16);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_off_by_no_more_than_is_said_at_any_magnitude() {
        for largest in [0.0, f32::from_bits(1), 1e-40, 1e-20, 0.37, 1.0, 65504.0, 1e20, 1.9e38, f32::MAX] {
            let halves = HalfPrecision::new(&[0.0, largest]);
            assert!(largest == 0.0 || (16384.0..32768.0).contains(&(f64::from(largest) * halves.scale)), "{largest:e}");
            let mut x: Vec<f32> = (0..1000).map(|n| largest * (0.99f32).powi(7 * n) * (-1f32).powi(n)).collect();
            x.resize(1008, -largest);
            for features in x.as_chunks::<LANES>().0.chunks(3) {
                let mut lines = [[0.0; LANES]; 2];
                halves.round(features, &mut lines);
                let bits =
                    lines.as_flattened().iter().flat_map(|word| [word.to_bits() as u16, (word.to_bits() >> 16) as u16]);
                for (half, &x) in bits.zip(features.as_flattened()) {
                    let kept = f16::from_bits(half).to_f64() / halves.scale;
                    assert!((kept - f64::from(x)).abs() <= halves.error(x.abs()), "{x:e} of {largest:e}: {kept:e}");
                }
            }
        }
    }
}

//! A rotation of vectors that spreads each feature over many, so that none of a vector's features is much larger than
//! the others and quantization wastes little of its range.
//!
//! Random signs and a Hadamard transform do it in `d log d` additions. Dot products stay as they are.

use crate::error::{Result, collected};

/// Rotates `x`: random signs, then a Hadamard transform of the first `2^m` features, and if these are not all, the same
/// of the last `2^m`; `2^m` is the largest power of two that is at most their number.
///
/// Computed in float64: each feature is within `2^-48 |x|` of its exact value.
pub(super) fn rotate(x: &[f32]) -> Result<Vec<f64>> {
    let mut rotated = collected("rotated features", x.iter().enumerate().map(|(j, &x)| sign(j as u64) * f64::from(x)))?;
    let Some(stages) = x.len().checked_ilog2() else { return Ok(rotated) };
    let len = 1 << stages;
    transform(&mut rotated[..len]);
    if len < x.len() {
        // Other signs: a Hadamard transform of a part of another's output would gather again what that has spread.
        let last = &mut rotated[x.len() - len..];
        last.iter_mut().zip(x.len() as u64..).for_each(|(x, j)| *x *= sign(j));
        transform(last);
    }
    Ok(rotated)
}

/// The orthogonal Hadamard transform of a power of two of features.
fn transform(x: &mut [f64]) {
    let mut half = 1;
    while half < x.len() {
        for pair in x.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (x.len() as f64).sqrt();
    x.iter_mut().for_each(|x| *x *= scale);
}

/// A random sign for feature `j`, always the same: the finalizer of splitmix64.
fn sign(j: u64) -> f64 {
    let mut z = (j + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    if z >> 63 == 0 { 1.0 } else { -1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn dot_products_are_kept(d in 1usize..300, seed in any::<u32>()) {
            let vector = |salt: u32| -> Vec<f32> {
                (0..d as u32).map(|j| ((j * 7 + salt).wrapping_mul(2_654_435_761) >> 8) as f32 / 1e7 - 0.8).collect()
            };
            let (a, b) = (vector(seed), vector(seed.wrapping_add(77)));
            let exact: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let rotated: f64 = rotate(&a).unwrap().iter().zip(rotate(&b).unwrap()).map(|(a, b)| a * b).sum();
            prop_assert!((exact - rotated).abs() < 1e-13 * d as f64, "{exact} {rotated}");
        }
    }

    #[test]
    fn a_single_feature_is_spread() {
        for d in [100, 128, 192, 250, 256] {
            for j in 0..d {
                let mut x = vec![0.0; d];
                x[j] = 1.0;
                let largest = rotate(&x).unwrap().into_iter().fold(0.0, |max: f64, x| max.max(x.abs()));
                assert!(largest < 5.0 / (d as f64).sqrt(), "feature {j} of {d}: {largest}");
            }
        }
    }
}

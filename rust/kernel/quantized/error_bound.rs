//! The common part of the int8 and int16 error bounds: how an error in the second layer propagates to the logit, and
//! what rounding to float32 adds. `BOUNDS.md` has the proof and the notation.
//!
//! All bounds are computed in float64 and multiplied by [`SLACK`].

use super::half_precision::HalfPrecision;
use crate::error::{Result, collected};
use crate::kernel::weights::Network;

/// The factor that covers the rounding errors of computing a bound in float64.
pub(super) const SLACK: f64 = 1.0 + 1.0 / (1 << 20) as f64;

/// Added to sums of products that may have underflowed float64.
pub(super) const TINY: f64 = 1e-250;

/// The maximum magnitude of an estimate's intermediates; the margin up to the maximum of float32 covers their rounding
/// errors.
const LIMIT: f64 = 2e38;

/// What the memory is for.
const WHAT: &str = "error bound";

/// The range of every feature, for which the bounds hold, and samples, on which the scales are tuned.
#[derive(Debug)]
pub(crate) struct ValueRanges<'a> {
    /// `max_i A[i, k]`.
    pub(crate) items: Vec<f32>,
    /// `max_u B[u, k]`.
    pub(crate) users: Vec<f32>,
    /// `max_i |q_G[i, j]|`.
    pub(crate) gmf: Vec<f32>,
    /// `A` of a sample of items.
    pub(crate) sample_items: Vec<&'a [f32]>,
    /// `B` and `g` of a sample of users.
    pub(crate) sample_users: Vec<(&'a [f32], &'a [f32])>,
}

/// The part of a bound that does not depend on the scales.
#[derive(Debug)]
pub(super) struct ErrorPaths {
    /// `G`: the maximum change of the logit when an output of the second layer changes by one.
    pub(super) second: Vec<f64>,
    /// `gamma`: the rounding error of an evaluation, relative to the sum of magnitudes.
    pub(super) gamma: f64,
    /// The rounding of GMF features.
    pub(super) half_precision: HalfPrecision,
    /// `D[j] + 2 gamma (max_i |q_G[i, j]| + D[j])`.
    pub(super) gmf: Vec<f64>,
    fixed: f64,
}

impl ErrorPaths {
    /// `None` if there are too many roundings for a useful bound.
    pub(super) fn new(network: &Network, largest_gmf: &[f32]) -> Result<Option<Self>> {
        let last = network.output_weight.len();
        let roundings = 4 + network.g + last + network.layers.iter().map(|layer| layer.inputs).sum::<usize>();
        let relative = roundings as f64 / f64::from(1 << 24);
        if relative >= 0.1 {
            return Ok(None);
        }
        let gamma = relative / (1.0 - relative);

        let half_precision = HalfPrecision::new(largest_gmf);
        let underflow = 2f64.powi(-148);
        let mut path = collected(WHAT, network.output_weight.iter().map(|w| f64::from(w.abs()) + TINY))?;
        let mut fixed = 2.0 * gamma * f64::from(network.output_bias.abs()) + underflow * (network.g + last) as f64;
        fixed += 2f64.powi(-133) * network.g as f64; // users' weights that are subnormal
        for (n, layer) in network.layers.iter().enumerate().rev() {
            for (path, bias) in path.iter().zip(layer.bias()) {
                fixed += path * (2.0 * gamma * f64::from(bias.abs()) + underflow * layer.inputs as f64);
            }
            if n > 0 {
                let through = |k| -> f64 {
                    let outputs = path.iter().enumerate();
                    outputs.map(|(o, path)| path * f64::from(layer.weight(o, k).abs())).sum::<f64>() + TINY
                };
                path = collected(WHAT, (0..layer.inputs).map(through))?;
            }
        }
        let weight = |&q: &f32| half_precision.error(q) + 2.0 * gamma * (f64::from(q) + half_precision.error(q));
        let gmf = collected(WHAT, largest_gmf.iter().map(weight))?;
        Ok(Some(ErrorPaths { second: path, gamma, half_precision, gmf, fixed }))
    }

    /// Bounds the error of rounding GMF features to half precision and all values to float32, for a user with GMF
    /// features `g`, except for errors that pass through the second layer.
    pub(super) fn rounding(&self, g: &[f32]) -> f64 {
        self.fixed + self.gmf.iter().zip(g).map(|(weight, g)| weight * f64::from(g.abs())).sum::<f64>()
    }

    pub(super) fn copied(&self) -> Result<Self> {
        let copied = |values: &[f64]| collected(WHAT, values.iter().copied());
        Ok(ErrorPaths { second: copied(&self.second)?, gmf: copied(&self.gmf)?, ..*self })
    }

    pub(super) fn nbytes(&self) -> usize {
        size_of_val(&self.second[..]) + size_of_val(&self.gmf[..])
    }
}

/// Whether no sum over a row of weights overflows int32. (Partial sums may: additions are modulo 2^32.)
pub(super) fn sums_fit(row: &[i16], x: &[i64]) -> bool {
    let sum = |sign: i64| row.iter().zip(x).map(|(&w, &x)| (sign * i64::from(w)).max(0) * x).sum::<i64>();
    sum(1).max(sum(-1)) <= i32::MAX.into()
}

/// Whether no intermediate of an estimate overflows float32, if `largest` bounds the outputs of the second layer.
pub(super) fn fits_float32(network: &Network, mut largest: Vec<f64>) -> Result<bool> {
    for layer in &network.layers[1..] {
        if largest.iter().any(|&x| x.is_nan() || x > LIMIT) {
            return Ok(false);
        }
        let of = |o| {
            let terms = largest.iter().enumerate().map(|(k, x)| f64::from(layer.weight(o, k).abs()) * x);
            f64::from(layer.bias()[o].abs()) + terms.sum::<f64>()
        };
        largest = collected(WHAT, (0..layer.outputs).map(of))?;
    }
    let logit: f64 = network.output_weight.iter().zip(&largest).map(|(w, x)| f64::from(w.abs()) * x).sum();
    Ok(largest.into_iter().chain([logit]).all(|x| x <= LIMIT))
}

//! The second layer in int16: its scales and its proven error bound. `BOUNDS.md` has the proof and the notation.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `layers`")]

use super::error_bound::{ErrorPaths, SLACK, TINY, ValueRanges, fits_float32, sums_fit};
use super::estimate::{QuantizedUser, round};
use super::tiles::{IntegerWidth, QuantizedLayer};
use crate::error::{Result, collected, filled, reserve};
use crate::kernel::weights::Network;
use crate::kernel::{Kernel, LANES, Lanes, Simd, StandardFloats};

/// What the memory is for.
const WHAT: &str = "int16 weights";

/// How many scales of activations are tried: the largest possible one and its halvings.
const SCALES_TRIED: i32 = 9;

/// The second layer in int16, and the error bound of its estimates.
#[derive(Debug)]
pub(crate) struct Int16 {
    pub(super) layer: QuantizedLayer,
    bias: Vec<f32>,
    /// `S`.
    scale: f32,
    features: Vec<Int16Feature>,
    pub(super) error_paths: ErrorPaths,
}

/// The part of the bound for a first-layer feature.
#[derive(Debug, Clone)]
struct Int16Feature {
    /// `max_i A[i, k]`.
    item: f64,
    /// `max_u b[u, k]`: up to this value, the int16 and int32 sums cannot overflow.
    user: i16,
    /// `P[k]`: the maximum error of the logit per unit of error of the activation.
    activation: f64,
    /// `R[k] + 2 gamma V[k]`: the maximum error of the logit due to rounding, per unit of the activation.
    rounding: f64,
}

impl Int16 {
    /// Chooses the scales with the smallest mean bound for the sample users, in blocks of at most `max_block` outputs.
    /// `None` if no bound holds: no second hidden layer, all activations zero, or magnitudes near the limits of
    /// float32.
    pub(crate) fn new(network: &Network, ranges: &ValueRanges<'_>, max_block: usize) -> Result<Option<Self>> {
        let _settings = StandardFloats::enter();
        let Some(error_paths) = ErrorPaths::new(network, &ranges.gmf)? else { return Ok(None) };
        let reach = ranges.items.iter().zip(&ranges.users).map(|(a, b)| f64::from(a.max(0.0)) + f64::from(b.max(0.0)));
        // Rounding two values to integers raises their sum by at most one.
        let largest = f64::from(i16::MAX - 1) / reach.fold(0.0, f64::max);
        let largest = (largest.min(1e30) as f32).next_down();
        let mut best: Option<(f64, Self)> = None;
        for halvings in 0..SCALES_TRIED {
            let scale = largest * 0.5f32.powi(halvings);
            let Some(int16) = Self::with_scale(network, ranges, &error_paths, scale, max_block)? else { continue };
            let mut bounds = 0.0;
            for (b, g) in &ranges.sample_users {
                bounds += int16.user(b, g)?.map_or(f64::INFINITY, |user| user.error);
            }
            if bounds.is_finite() && best.as_ref().is_none_or(|(least, _)| bounds < *least) {
                best = Some((bounds, int16));
            }
        }
        Ok(best.map(|(_, int16)| int16))
    }

    fn with_scale(
        network: &Network,
        ranges: &ValueRanges<'_>,
        error_paths: &ErrorPaths,
        scale: f32,
        max_block: usize,
    ) -> Result<Option<Self>> {
        let Some(second) = network.layers.first() else { return Ok(None) };
        let inputs = second.inputs;
        let s = f64::from(scale);
        let integers = |values: &[f32]| collected(WHAT, values.iter().map(|&x| quantize(scale, x)));
        let (items, users) = (integers(&ranges.items)?, integers(&ranges.users)?);
        // The largest activations, as integers and as real numbers.
        let x = collected(WHAT, items.iter().zip(&users).map(|(&a, &b)| (i64::from(a) + i64::from(b)).max(0)))?;
        if x.iter().any(|&x| x > i64::from(i16::MAX)) {
            return Ok(None);
        }
        let reach = collected(WHAT, x.iter().map(|&x| (x as f64 + 2.0) / s))?;

        let mut weight = reserve(WHAT, inputs * second.outputs)?;
        let mut scales = reserve(WHAT, second.outputs)?;
        // `P`, `R` and `V` of `BOUNDS.md`, and the largest outputs of the second layer.
        let sums = || filled(WHAT, inputs, TINY);
        let (mut p, mut r, mut v) = (sums()?, sums()?, sums()?);
        let mut largest = reserve(WHAT, second.outputs)?;
        let (mut row, mut quantized) = (filled(WHAT, inputs, 0.0)?, filled(WHAT, inputs, 0)?);
        for (o, path) in error_paths.second.iter().enumerate() {
            row.iter_mut().enumerate().for_each(|(k, w)| *w = second.weight(o, k));
            let Some(t) = weight_scale(&row, &x, s) else { return Ok(None) };
            quantized.iter_mut().zip(&row).for_each(|(q, &w)| *q = quantize(t, w));
            if !sums_fit(&quantized, &x) {
                return Ok(None);
            }
            let t64 = f64::from(t);
            let unit = 1.0 / (s * t64);
            if !(1e-36..1e36).contains(&unit) {
                return Ok(None);
            }
            let mut largest_output = f64::from(second.bias()[o].abs());
            for k in 0..inputs {
                let (exact, rounded) = (f64::from(row[k]), f64::from(quantized[k]) / t64);
                let larger = exact.abs().max(rounded.abs());
                p[k] += path * rounded.abs();
                r[k] += path * (rounded - exact).abs();
                v[k] += path * larger;
                largest_output += larger * reach[k];
            }
            largest.push(largest_output);
            scales.push(unit as f32);
            weight.extend_from_slice(&quantized);
        }
        if !fits_float32(network, largest)? {
            return Ok(None);
        }
        let features = (0..inputs).map(|k| Int16Feature {
            item: ranges.items[k].into(),
            user: users[k],
            activation: p[k],
            rounding: r[k] + 2.0 * error_paths.gamma * v[k],
        });
        Ok(Some(Int16 {
            layer: QuantizedLayer::new(IntegerWidth::Int16, &weight, scales, max_block)?,
            bias: collected(WHAT, second.bias().iter().copied())?,
            scale,
            features: collected(WHAT, features)?,
            error_paths: error_paths.copied()?,
        }))
    }

    /// Quantizes the user with first-layer features `b` and GMF features `g`. `None` if a feature exceeds those of the
    /// model's users.
    pub(super) fn user(&self, b: &[f32], g: &[f32]) -> Result<Option<QuantizedUser<'_>>> {
        let _settings = StandardFloats::enter();
        let s = f64::from(self.scale);
        let step = SLACK / s;
        let mut error = self.error_paths.rounding(g);
        let mut values = reserve(WHAT, b.len())?;
        for (feature, &b) in self.features.iter().zip(b) {
            let value = quantize(self.scale, b);
            if value > feature.user {
                return Ok(None);
            }
            let reach = (feature.item + f64::from(b) + step).max(0.0);
            let rounded = step / 2.0 + (f64::from(value) / s - f64::from(b)).abs();
            error += feature.activation * reach.min(rounded) + feature.rounding * reach;
            values.push(value);
        }
        error *= SLACK;
        let (words, gmf) = (IntegerWidth::Int16.pack(&values)?, self.error_paths.half_precision.user(g)?);
        let bias = collected(WHAT, self.bias.iter().copied())?;
        Ok(error.is_finite().then_some(QuantizedUser { layer: &self.layer, words, bias, gmf, error }))
    }

    /// Quantizes a tile: writes the lines of int16 words; `features` has one line per first-layer feature.
    pub(crate) fn quantize<'a>(&'a self, features: &'a [Lanes], to: &'a mut [Lanes]) -> impl Kernel<Output = ()> + 'a {
        QuantizeInt16 { scale: self.scale, features, to }
    }

    pub(super) fn nbytes(&self) -> usize {
        self.layer.nbytes() + size_of_val(&self.bias[..]) + size_of_val(&self.features[..]) + self.error_paths.nbytes()
    }
}

struct QuantizeInt16<'a> {
    scale: f32,
    features: &'a [Lanes],
    to: &'a mut [Lanes],
}

impl Kernel for QuantizeInt16<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let zeros = [0.0; LANES];
        for p in 0..self.to.len() {
            let (first, second) = (&self.features[2 * p], self.features.get(2 * p + 1).unwrap_or(&zeros));
            for l in 0..LANES {
                let (first, second) = (quantize(self.scale, first[l]), quantize(self.scale, second[l]));
                let word = IntegerWidth::Int16.place(first as u64, 0) | IntegerWidth::Int16.place(second as u64, 1);
                self.to[p][l] = f32::from_bits(word);
            }
        }
    }
}

/// `round(scale * x)`, clamped to int16; needs the standard floating-point settings.
#[inline(always)]
fn quantize(scale: f32, x: f32) -> i16 {
    let exact = f64::from(scale) * f64::from(x); // 48 bits, so exact
    round(exact.clamp(i16::MIN.into(), i16::MAX.into())).1 as i16
}

/// `T[o]`: the largest scale for which the weights fit into int16 and the sums into int32, with activations up to
/// `x[k]`.
fn weight_scale(row: &[f32], x: &[i64], s: f64) -> Option<f32> {
    let (mut largest, mut up, mut down) = (0.0, 0.0, 0.0);
    for (&w, &x) in row.iter().zip(x) {
        let w = f64::from(w);
        largest = f64::max(largest, w.abs());
        up += w.max(0.0) * x as f64;
        down += (-w).max(0.0) * x as f64;
    }
    // Each weight's rounding error is at most a half.
    let max_sum = f64::from(i32::MAX) - x.iter().sum::<i64>() as f64 / 2.0;
    let t = (f64::from(i16::MAX) / largest).min(max_sum / (f64::max(up, down) * SLACK)).min(1e30).min(1e30 / s);
    (max_sum > 0.0 && t >= 1e-37).then_some((t as f32).next_down())
}

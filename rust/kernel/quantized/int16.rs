//! The second layer in int16: its scales, and the proven bound of what they change. `BOUNDS.md` has the proof, and its
//! letters.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `layers`")]

use super::error_bound::{ErrorPaths, NOTHING, SLACK, ValueRanges, fits_float32, sums_fit};
use super::estimate::{QuantizedUser, round};
use super::tiles::{IntegerWidth, QuantizedLayer};
use crate::kernel::weights::Network;
use crate::kernel::{Kernel, LANES, Lanes, Simd, StandardFloats};

/// Halvings of the largest scale of activations that are tried.
const HALVINGS: i32 = 9;

/// The second layer in int16, and the bound of the estimates that it gives.
#[derive(Debug)]
pub(crate) struct Int16 {
    pub(super) layer: QuantizedLayer,
    bias: Vec<f32>,
    /// `S`.
    scale: f32,
    features: Vec<Int16Feature>,
    pub(super) error_paths: ErrorPaths,
}

/// What the bound needs of a first-layer feature.
#[derive(Debug, Clone)]
struct Int16Feature {
    /// `max_i A[i, k]`.
    item: f64,
    /// `max_u b[u, k]`: what the sums in int16 and int32 leave room for.
    user: i16,
    /// `P[k]`: what an error of the activation becomes in the logit, at most.
    activation: f64,
    /// `R[k] + 2 gamma V[k]`: what rounding becomes in the logit for each unit of the activation, at most.
    rounding: f64,
}

impl Int16 {
    /// Chooses the scales that give some users the smallest mean bound. `None` where no scale has one that holds: no
    /// hidden layer after the first, activations that are all zero, magnitudes near the ends of float32.
    pub(crate) fn new(network: &Network, ranges: &ValueRanges<'_>, most: usize) -> Option<Self> {
        let _settings = StandardFloats::enter();
        let error_paths = ErrorPaths::new(network, &ranges.gmf)?;
        let reach = ranges.items.iter().zip(&ranges.users).map(|(a, b)| f64::from(a.max(0.0)) + f64::from(b.max(0.0)));
        // Two values that are rounded to integers and added reach one more than their sum.
        let largest = f64::from(i16::MAX - 1) / reach.fold(0.0, f64::max);
        let largest = (largest.min(1e30) as f32).next_down();
        let candidates = (0..HALVINGS).filter_map(|halvings| {
            let int16 = Self::with_scale(network, ranges, &error_paths, largest * 0.5f32.powi(halvings), most)?;
            let users = ranges.sample_users.iter();
            let bounds = users.map(|(b, g)| int16.user(b, g).map_or(f64::INFINITY, |user| user.error)).sum::<f64>();
            bounds.is_finite().then_some((bounds, int16))
        });
        candidates.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, int16)| int16)
    }

    fn with_scale(
        network: &Network,
        ranges: &ValueRanges<'_>,
        error_paths: &ErrorPaths,
        scale: f32,
        most: usize,
    ) -> Option<Self> {
        let second = network.layers.first()?;
        let inputs = second.inputs;
        let s = f64::from(scale);
        let integers = |values: &[f32]| -> Vec<i16> { values.iter().map(|&x| quantize(scale, x)).collect() };
        let (items, users) = (integers(&ranges.items), integers(&ranges.users));
        // The largest activations, in integers and as real numbers.
        let x: Vec<i64> = items.iter().zip(&users).map(|(&a, &b)| (i64::from(a) + i64::from(b)).max(0)).collect();
        if x.iter().any(|&x| x > i64::from(i16::MAX)) {
            return None;
        }
        let reach: Vec<f64> = x.iter().map(|&x| (x as f64 + 2.0) / s).collect();

        let mut weight = Vec::with_capacity(inputs * second.outputs);
        let mut scales = Vec::with_capacity(second.outputs);
        // `P`, `R` and `V` of `BOUNDS.md`, and the largest values of the second layer.
        let (mut p, mut r, mut v) = (vec![NOTHING; inputs], vec![NOTHING; inputs], vec![NOTHING; inputs]);
        let mut largest = Vec::with_capacity(second.outputs);
        for (o, path) in error_paths.second.iter().enumerate() {
            let row: Vec<f32> = (0..inputs).map(|k| second.weight(o, k)).collect();
            let t = weight_scale(&row, &x, s)?;
            let quantized: Vec<i16> = row.iter().map(|&w| quantize(t, w)).collect();
            sums_fit(&quantized, &x).then_some(())?;
            let t64 = f64::from(t);
            let unit = 1.0 / (s * t64);
            (1e-36..1e36).contains(&unit).then_some(())?;
            let mut most_of_o = f64::from(second.bias()[o].abs());
            for k in 0..inputs {
                let (exact, rounded) = (f64::from(row[k]), f64::from(quantized[k]) / t64);
                let larger = exact.abs().max(rounded.abs());
                p[k] += path * rounded.abs();
                r[k] += path * (rounded - exact).abs();
                v[k] += path * larger;
                most_of_o += larger * reach[k];
            }
            largest.push(most_of_o);
            scales.push(unit as f32);
            weight.extend(quantized);
        }
        fits_float32(network, largest).then_some(())?;
        let features = (0..inputs).map(|k| Int16Feature {
            item: ranges.items[k].into(),
            user: users[k],
            activation: p[k],
            rounding: r[k] + 2.0 * error_paths.gamma * v[k],
        });
        Some(Int16 {
            layer: QuantizedLayer::new(IntegerWidth::Int16, &weight, scales, most),
            bias: second.bias().to_vec(),
            scale,
            features: features.collect(),
            error_paths: error_paths.clone(),
        })
    }

    /// The user with first-layer features `b` and GMF features `g`; `None` where a feature lies above the model's
    /// users'.
    pub(super) fn user(&self, b: &[f32], g: &[f32]) -> Option<QuantizedUser<'_>> {
        let _settings = StandardFloats::enter();
        let s = f64::from(self.scale);
        let step = SLACK / s;
        let mut error = self.error_paths.rounding(g);
        let mut values = Vec::with_capacity(b.len());
        for (feature, &b) in self.features.iter().zip(b) {
            let value = quantize(self.scale, b);
            if value > feature.user {
                return None;
            }
            let reach = (feature.item + f64::from(b) + step).max(0.0);
            let rounded = step / 2.0 + (f64::from(value) / s - f64::from(b)).abs();
            error += feature.activation * reach.min(rounded) + feature.rounding * reach;
            values.push(value);
        }
        error *= SLACK;
        let (words, gmf) = (IntegerWidth::Int16.pack(&values), self.error_paths.half_precision.user(g));
        error.is_finite().then(|| QuantizedUser { layer: &self.layer, words, bias: self.bias.clone(), gmf, error })
    }

    /// Makes a tile's lines of int16 from `features`, a line for each feature of the first layer.
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
        let nothing = [0.0; LANES];
        for p in 0..self.to.len() {
            let (first, second) = (&self.features[2 * p], self.features.get(2 * p + 1).unwrap_or(&nothing));
            for l in 0..LANES {
                let (first, second) = (quantize(self.scale, first[l]), quantize(self.scale, second[l]));
                let word = IntegerWidth::Int16.place(first as u64, 0) | IntegerWidth::Int16.place(second as u64, 1);
                self.to[p][l] = f32::from_bits(word);
            }
        }
    }
}

/// `round(scale * x)`, kept within int16; to nearest where the floats are the standard ones.
#[inline(always)]
fn quantize(scale: f32, x: f32) -> i16 {
    let exact = f64::from(scale) * f64::from(x); // 48 bits, so exact
    round(exact.clamp(i16::MIN.into(), i16::MAX.into())).1 as i16
}

/// `T[o]`: as large as int16 allows and the sums in int32, where no activation `k` exceeds `x[k]`.
fn weight_scale(row: &[f32], x: &[i64], s: f64) -> Option<f32> {
    let (mut largest, mut up, mut down) = (0.0, 0.0, 0.0);
    for (&w, &x) in row.iter().zip(x) {
        let w = f64::from(w);
        largest = f64::max(largest, w.abs());
        up += w.max(0.0) * x as f64;
        down += (-w).max(0.0) * x as f64;
    }
    // Each weight is rounded by a half at most.
    let room = f64::from(i32::MAX) - x.iter().sum::<i64>() as f64 / 2.0;
    let t = (f64::from(i16::MAX) / largest).min(room / (f64::max(up, down) * SLACK)).min(1e30).min(1e30 / s);
    (room > 0.0 && t >= 1e-37).then_some((t as f32).next_down())
}

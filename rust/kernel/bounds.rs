//! How the second layer goes to integers, and the proven bound of what that changes: `BOUNDS.md` has the proof, and its letters.
//!
//! Everything here is float64, and every bound is rounded up by [`SLACK`].

use super::StandardFloats;
use super::integer::{IntegerLayer, pair, quantise};
use super::network::Network;

/// Raises a bound by more than its own float64 arithmetic can have lowered it.
const SLACK: f64 = 1.0 + 1.0 / (1 << 20) as f64;

/// Added where products of small numbers may have vanished even from float64.
const NOTHING: f64 = 1e-250;

/// The largest magnitude an estimate's intermediates may have: what remains to the end of float32 covers their rounding.
const LIMIT: f64 = 2e38;

/// Halvings of the largest scale of activations that are tried.
const HALVINGS: i32 = 9;

/// The largest values in a model, feature by feature: what an estimate has to be good for.
#[derive(Debug)]
pub(crate) struct Ranges {
    /// `max_i A[i, k]`.
    pub(crate) items: Vec<f32>,
    /// `max_u B[u, k]`.
    pub(crate) users: Vec<f32>,
    /// `max_i |q_G[i, j]|`.
    pub(crate) gmf: Vec<f32>,
}

/// The second layer in integers, and the bound of the estimates that it gives.
#[derive(Debug, Clone)]
pub(crate) struct Integers {
    pub(crate) layer: IntegerLayer,
    /// `S`.
    scale: f32,
    features: Vec<Feature>,
    /// `2 gamma max_i |q_G[i, j]|`.
    gmf: Vec<f64>,
    /// The part of the bound that is the same for every user.
    fixed: f64,
}

/// What the bound needs of a first-layer feature.
#[derive(Debug, Clone)]
struct Feature {
    /// `max_i A[i, k]`.
    item: f64,
    /// `max_u b[u, k]`: what the sums in int16 and int32 leave room for.
    user: i16,
    /// `P[k]`: what an error of the activation becomes in the logit, at most.
    activation: f64,
    /// `R[k] + 2 gamma V[k]`: what rounding becomes in the logit for each unit of the activation, at most.
    rounding: f64,
}

/// A user's side of an estimate.
#[derive(Debug, Default, Clone)]
pub(crate) struct IntegerUser {
    /// `b[2p]` and `b[2p + 1]`.
    pub(crate) pairs: Vec<u32>,
    /// An estimate and the float32 logit differ by this at most.
    pub(crate) error: f64,
}

impl Integers {
    /// Chooses the scales that give `sample`, users as `(B, g)`, the smallest mean bound. `None` where no scale has one that holds:
    /// no hidden layer after the first, activations that are all zero, magnitudes near the ends of float32.
    pub(crate) fn new(network: &Network, ranges: &Ranges, sample: &[(&[f32], &[f32])], most: usize) -> Option<Self> {
        let _settings = StandardFloats::enter();
        let paths = Paths::new(network)?;
        let reach = ranges.items.iter().zip(&ranges.users).map(|(a, b)| f64::from(a.max(0.0)) + f64::from(b.max(0.0)));
        // Two values that are rounded to integers and added reach one more than their sum.
        let largest = f64::from(i16::MAX - 1) / reach.fold(0.0, f64::max);
        let largest = (largest.min(1e30) as f32).next_down();
        let candidates = (0..HALVINGS).filter_map(|halvings| {
            let integers = Self::with_scale(network, ranges, &paths, largest * 0.5f32.powi(halvings), most)?;
            let bounds = sample.iter().map(|(b, g)| integers.user(b, g).map_or(f64::INFINITY, |user| user.error));
            let mean = bounds.sum::<f64>() / sample.len() as f64;
            mean.is_finite().then_some((mean, integers))
        });
        candidates.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, integers)| integers)
    }

    fn with_scale(network: &Network, ranges: &Ranges, paths: &Paths, scale: f32, most: usize) -> Option<Self> {
        let second = network.layers.first()?;
        let inputs = second.inputs;
        let s = f64::from(scale);
        let integers = |values: &[f32]| -> Vec<i16> { values.iter().map(|&x| quantise(scale, x)).collect() };
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
        for (o, path) in paths.second.iter().enumerate() {
            let row: Vec<f32> = (0..inputs).map(|k| second.weight(o, k)).collect();
            let t = weight_scale(&row, &x, s)?;
            let quantised: Vec<i16> = row.iter().map(|&w| quantise(t, w)).collect();
            sums_fit(&quantised, &x).then_some(())?;
            let t64 = f64::from(t);
            let unit = 1.0 / (s * t64);
            (1e-36..1e36).contains(&unit).then_some(())?;
            let mut most_of_o = f64::from(second.bias()[o].abs());
            for k in 0..inputs {
                let (exact, rounded) = (f64::from(row[k]), f64::from(quantised[k]) / t64);
                let larger = exact.abs().max(rounded.abs());
                p[k] += path * rounded.abs();
                r[k] += path * (rounded - exact).abs();
                v[k] += path * larger;
                most_of_o += larger * reach[k];
            }
            largest.push(most_of_o);
            scales.push(unit as f32);
            weight.extend(quantised);
        }
        fits_float32(network, largest).then_some(())?;
        let features = (0..inputs).map(|k| Feature {
            item: ranges.items[k].into(),
            user: users[k],
            activation: p[k],
            rounding: r[k] + 2.0 * paths.gamma * v[k],
        });
        Some(Integers {
            layer: IntegerLayer::new(inputs, &weight, scales, second.bias(), most),
            scale,
            features: features.collect(),
            gmf: ranges.gmf.iter().map(|&q| 2.0 * paths.gamma * f64::from(q)).collect(),
            fixed: paths.fixed,
        })
    }

    /// `S`.
    pub(crate) fn scale(&self) -> f32 {
        self.scale
    }

    /// Length of a tile.
    pub(crate) fn tile_len(&self) -> usize {
        self.layer.pairs + self.gmf.len()
    }

    /// The user with first-layer features `b` and GMF features `g`; `None` where a feature lies above the model's users'.
    pub(crate) fn user(&self, b: &[f32], g: &[f32]) -> Option<IntegerUser> {
        let _settings = StandardFloats::enter();
        let s = f64::from(self.scale);
        let step = SLACK / s;
        let mut error = self.fixed;
        let mut pairs = Vec::with_capacity(self.layer.pairs);
        for (features, b) in self.features.chunks(2).zip(b.chunks(2)) {
            let mut two = [0; 2];
            for ((feature, &b), to) in features.iter().zip(b).zip(&mut two) {
                *to = quantise(self.scale, b);
                if *to > feature.user {
                    return None;
                }
                let reach = (feature.item + f64::from(b) + step).max(0.0);
                let rounded = step / 2.0 + (f64::from(*to) / s - f64::from(b)).abs();
                error += feature.activation * reach.min(rounded) + feature.rounding * reach;
            }
            pairs.push(pair(two[0], two[1]));
        }
        for (weight, g) in self.gmf.iter().zip(g) {
            error += weight * f64::from(g.abs());
        }
        error *= SLACK;
        error.is_finite().then_some(IntegerUser { pairs, error })
    }

    pub(crate) fn nbytes(&self) -> usize {
        self.layer.nbytes() + size_of_val(&self.features[..]) + size_of_val(&self.gmf[..])
    }
}

/// What does not depend on the scales.
struct Paths {
    /// `G`: by how much a change of one in an output of the second layer can change the logit.
    second: Vec<f64>,
    /// What the roundings of an evaluation change, relative to the sum of magnitudes.
    gamma: f64,
    fixed: f64,
}

impl Paths {
    fn new(network: &Network) -> Option<Self> {
        let last = network.output_weight.len();
        let roundings = 4 + network.g + last + network.layers.iter().map(|layer| layer.inputs).sum::<usize>();
        let relative = roundings as f64 / f64::from(1 << 24);
        (relative < 0.5).then_some(())?;
        let gamma = relative / (1.0 - relative);

        let underflow = 2f64.powi(-148);
        let mut path: Vec<f64> = network.output_weight.iter().map(|w| f64::from(w.abs()) + NOTHING).collect();
        let mut fixed = 2.0 * gamma * f64::from(network.output_bias.abs()) + underflow * last as f64;
        for (n, layer) in network.layers.iter().enumerate().rev() {
            for (path, bias) in path.iter().zip(layer.bias()) {
                fixed += path * (2.0 * gamma * f64::from(bias.abs()) + underflow * layer.inputs as f64);
            }
            if n > 0 {
                let through = |k| -> f64 {
                    let outputs = path.iter().enumerate();
                    outputs.map(|(o, path)| path * f64::from(layer.weight(o, k).abs())).sum::<f64>() + NOTHING
                };
                path = (0..layer.inputs).map(through).collect();
            }
        }
        Some(Paths { second: path, gamma, fixed })
    }
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

/// Whether no sum of a row of weights leaves int32. (What a partial sum leaves comes back: the additions are modulo 2^32.)
fn sums_fit(row: &[i16], x: &[i64]) -> bool {
    let sum = |sign: i64| row.iter().zip(x).map(|(&w, &x)| (sign * i64::from(w)).max(0) * x).sum::<i64>();
    sum(1).max(sum(-1)) <= i32::MAX.into()
}

/// Whether no intermediate of an estimate leaves float32: `largest` bounds the outputs of the second layer.
fn fits_float32(network: &Network, mut largest: Vec<f64>) -> bool {
    for layer in &network.layers[1..] {
        if largest.iter().any(|&x| x.is_nan() || x > LIMIT) {
            return false;
        }
        let of = |o| {
            let terms = largest.iter().enumerate().map(|(k, x)| f64::from(layer.weight(o, k).abs()) * x);
            f64::from(layer.bias()[o].abs()) + terms.sum::<f64>()
        };
        largest = (0..layer.outputs).map(of).collect();
    }
    let logit: f64 = network.output_weight.iter().zip(&largest).map(|(w, x)| f64::from(w.abs()) * x).sum();
    largest.into_iter().chain([logit]).all(|x| x <= LIMIT)
}

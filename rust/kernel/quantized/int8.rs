//! The second layer in int8: its scales, and the proven bound of what they change. `INT8.md` has the proof, and its
//! letters.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `layers`")]

use super::error_bound::{ErrorPaths, NOTHING, SLACK, ValueRanges, fits_float32, sums_fit};
use super::estimate::{QuantizedUser, round};
use super::gradient_bound::GradientBound;
use super::tiles::{IntegerWidth, QuantizedLayer};
use crate::kernel::weights::{Network, Packed};
use crate::kernel::{Kernel, LANES, Lanes, Simd, StandardFloats};

/// The largest activation as an integer: two values that are rounded and added reach one more than their sum.
const MOST: f64 = 254.0;

/// The largest weight as an integer.
const MOST_WEIGHT: f64 = 127.0;

/// The most weights of a second layer: the bound keeps some matrices of float64.
const MOST_WEIGHTS: usize = 1 << 20;

/// The largest spread of an item: small beside what `fits_float32` leaves to the end of float32.
const MOST_SPREAD: f64 = 1e37;

/// The second layer in int8, and the bound of the estimates that it gives.
#[derive(Debug)]
pub(crate) struct Int8 {
    pub(super) layer: QuantizedLayer,
    bias: Vec<f32>,
    features: Vec<Int8Feature>,
    /// `M`, `[features, outputs]`: the second layer's weights for activations in integers.
    exact: Vec<f64>,
    /// `r - M`, `[features, outputs]`: what rounding did to them.
    rounded: Vec<f64>,
    /// `lambda`: what an error of the activations becomes in the logit.
    activation: f64,
    /// `lambda'`: what a difference of the activations from those corrected for becomes in the logit.
    weight: f64,
    error_paths: ErrorPaths,
}

/// What is needed of a first-layer feature.
#[derive(Debug, Clone)]
struct Int8Feature {
    /// `S[k]`; 0 for a feature that no item wakes.
    scale: f32,
    /// `round(S max_u B[u, k])`.
    shift: f64,
    /// `c[k]`: about the mean of the items' bytes, a multiple of 1/16.
    centre: f64,
    /// `F[k]^2`, for errors of the activations.
    of_activation: f64,
    /// `F'[k]^2`, for errors of the weights.
    of_weight: f64,
    /// `max_i A[i, k]`.
    item: f64,
    /// `max_u B[u, k]`.
    user: f32,
    /// `1/S[k]`, rounded up, or 0.
    step: f64,
    /// `2 gamma V[k]`: what rounding to float32 becomes in the logit for each unit of the activation, at most.
    rounding: f64,
    /// `2 gamma P[k]` and `2 gamma R[k]`: what it becomes for each unit that the biases are corrected for.
    corrections: [f64; 2],
}

impl Int8Feature {
    fn new(item: f32, user: f32) -> Self {
        let reach = f64::from(item) + f64::from(user);
        let scale = if reach > 0.0 { ((MOST / reach).min(1e30) as f32).next_down() } else { 0.0 };
        Int8Feature {
            scale,
            shift: round(f64::from(scale) * f64::from(user)).0,
            centre: 0.0,
            of_activation: 1.0,
            of_weight: 1.0,
            item: item.into(),
            user,
            step: if scale > 0.0 { SLACK / f64::from(scale) } else { 0.0 },
            rounding: 0.0,
            corrections: [0.0; 2],
        }
    }

    /// The largest byte of an item.
    fn top(&self) -> i64 {
        (round(f64::from(self.scale) * self.item).0 + self.shift).max(0.0) as i64
    }

    /// `S x`, exact, and rounded.
    #[inline(always)]
    fn quantize(&self, x: f32) -> (f64, f64) {
        const FAR: f64 = (1u64 << 40) as f64;
        let exact = f64::from(self.scale) * f64::from(x); // 48 bits, so exact
        (exact, round(exact.clamp(-FAR, FAR)).0)
    }

    /// An item's byte, and its error.
    #[inline(always)]
    fn item_byte(&self, x: f32) -> (f64, f64) {
        let (exact, rounded) = self.quantize(x);
        let byte = rounded + self.shift;
        if byte < 0.0 { (0.0, 0.0) } else { (byte, exact - rounded) }
    }

    /// A user's byte, and its error, for a value that is not above the model's users'.
    fn user_byte(&self, x: f32) -> (f64, f64) {
        let (exact, rounded) = self.quantize(x);
        let byte = self.shift - rounded;
        if byte > 255.0 { (255.0, 0.0) } else { (byte, exact - rounded) }
    }
}

impl Int8 {
    /// `None` where there is no bound that holds: no hidden layer after the first, magnitudes near the ends of float32;
    /// and for a huge second layer.
    pub(crate) fn new(network: &Network, ranges: &ValueRanges<'_>, most: usize) -> Option<Self> {
        let _settings = StandardFloats::enter();
        let second = network.layers.first().filter(|second| second.inputs * second.outputs <= MOST_WEIGHTS)?;
        let error_paths = ErrorPaths::new(network, &ranges.gmf)?;
        let extremes = ranges.items.iter().zip(&ranges.users);
        let mut features: Vec<Int8Feature> = extremes.map(|(&item, &user)| Int8Feature::new(item, user)).collect();
        let Weights { exact, rounded, integers, units, larger } = Weights::new(second, &features)?;
        let tops: Vec<i64> = features.iter().map(Int8Feature::top).collect();
        let fit = tops.iter().all(|&top| top <= 255) && integers.iter().all(|row| sums_fit(row, &tops));
        let largest = (0..second.outputs).map(|o| {
            let of = |k: usize| {
                let feature: &Int8Feature = &features[k];
                larger[o][k] * (tops[k] as f64 + 2.0) * feature.step + exact[o][k].abs() + 255.0 * rounded[o][k].abs()
            };
            f64::from(second.bias()[o].abs()) + (0..second.inputs).map(of).sum::<f64>()
        });
        (fit && fits_float32(network, largest.collect())).then_some(())?;

        for (k, feature) in features.iter_mut().enumerate() {
            let values = ranges.sample_items.iter().map(|a| a[k]);
            feature.tune(values, column(&exact, k), column(&rounded, k));
            let in_logit =
                |rows| error_paths.second.iter().zip(column(rows, k)).map(|(path, x)| path * x.abs()).sum::<f64>();
            [feature.rounding, feature.corrections[0], feature.corrections[1]] =
                [&larger, &exact, &rounded].map(|rows| 2.0 * error_paths.gamma * (in_logit(rows) + NOTHING));
        }
        even(features.iter_mut().map(|feature| &mut feature.of_activation).collect());
        even(features.iter_mut().map(|feature| &mut feature.of_weight).collect());
        let of_activations = || features.iter().map(|feature| feature.of_activation);
        let of_weights = || features.iter().map(|feature| feature.of_weight);
        let gradients = GradientBound::new(network);
        let activation = gradients.largest_norm(&divide(&exact, of_activations()));
        // `exact` and `rounded` are themselves off by some 2^-52 of `exact`.
        let off =
            error_paths.second.iter().zip(divide(&exact, of_weights())).map(|(path, row)| path * norm(row.into_iter()));
        let weight = gradients.largest_norm(&divide(&rounded, of_weights())) + off.sum::<f64>() / 2f64.powi(50);
        let most_spread =
            activation * of_activations().sum::<f64>().sqrt() + 255.0 * weight * of_weights().sum::<f64>().sqrt();
        (most_spread <= MOST_SPREAD).then(|| Int8 {
            layer: QuantizedLayer::new(IntegerWidth::Int8, &integers.concat(), units, most),
            bias: second.bias().to_vec(),
            exact: (0..second.inputs).flat_map(|k| column(&exact, k)).collect(),
            rounded: (0..second.inputs).flat_map(|k| column(&rounded, k)).collect(),
            features,
            activation,
            weight,
            error_paths,
        })
    }

    /// The user with first-layer features `b` and GMF features `g`; `None` where a feature lies above the model's
    /// users'.
    pub(super) fn user(&self, b: &[f32], g: &[f32]) -> Option<QuantizedUser<'_>> {
        let _settings = StandardFloats::enter();
        let outputs = self.bias.len();
        let mut bias: Vec<f64> = self.bias.iter().map(|&bias| bias.into()).collect();
        let mut error = self.error_paths.rounding(g);
        let mut of_activations = 0.0;
        let mut bytes = Vec::with_capacity(b.len());
        let matrices = self.exact.chunks_exact(outputs).zip(self.rounded.chunks_exact(outputs));
        for ((feature, &b), (exact, rounded)) in self.features.iter().zip(b).zip(matrices) {
            if b > feature.user {
                return None;
            }
            let (byte, off) = feature.user_byte(b);
            let typical = (feature.centre - byte).max(0.0);
            for o in 0..outputs {
                bias[o] += exact[o] * (off / 2.0) - rounded[o] * typical;
            }
            of_activations += feature.of_activation * off * off;
            error += feature.rounding * (feature.item + f64::from(b) + feature.step).max(0.0);
            error += feature.corrections[0] * off.abs() / 2.0 + feature.corrections[1] * typical;
            bytes.push(byte as i16);
        }
        error = (error + self.activation * of_activations.sqrt() / 2.0) * SLACK;
        let bias = bias.into_iter().map(|bias| bias as f32).collect();
        let (words, gmf) = (IntegerWidth::Int8.pack(&bytes), self.error_paths.half_precision.user(g));
        error.is_finite().then_some(QuantizedUser { layer: &self.layer, words, bias, gmf, error })
    }

    /// Makes a tile's lines of bytes and its line of spreads from `features`, a line for each feature of the first
    /// layer.
    pub(crate) fn quantize<'a>(
        &'a self,
        features: &'a [Lanes],
        to: &'a mut [Lanes],
        spread: &'a mut Lanes,
    ) -> impl Kernel<Output = ()> + 'a {
        QuantizeInt8 { int8: self, features, to, spread }
    }

    pub(super) fn nbytes(&self) -> usize {
        let matrices = size_of_val(&self.exact[..]) + size_of_val(&self.rounded[..]);
        self.layer.nbytes()
            + matrices
            + size_of_val(&self.features[..])
            + size_of_val(&self.bias[..])
            + self.error_paths.nbytes()
    }
}

impl Int8Feature {
    /// Chooses what the bound is free to choose, so that it is small for items with these `values`: `c`, and `F` and
    /// `F'` from the columns of `M` and `r - M`.
    fn tune(
        &mut self,
        values: impl Iterator<Item = f32>,
        exact: impl Iterator<Item = f64>,
        rounded: impl Iterator<Item = f64>,
    ) {
        let bytes: Vec<(f64, f64)> = values.map(|x| self.item_byte(x)).collect();
        let count = bytes.len() as f64;
        self.centre = (bytes.iter().map(|(byte, _)| byte).sum::<f64>() / count * 16.0).round() / 16.0;
        let error = norm(bytes.iter().map(|(_, error)| *error)) / count.sqrt();
        let difference = norm(bytes.iter().map(|(byte, _)| byte - self.centre)) / count.sqrt();
        // (A thousandth of a step, so that nothing is divided by zero.)
        self.of_activation = norm(exact) / (error + 1e-3);
        self.of_weight = norm(rounded) / (difference + 1e-3);
    }
}

/// The second layer's weights, row by row.
struct Weights {
    /// `M`.
    exact: Vec<Vec<f64>>,
    /// `r - M`.
    rounded: Vec<Vec<f64>>,
    /// `round(T M)`.
    integers: Vec<Vec<i16>>,
    /// `1/T`.
    units: Vec<f32>,
    /// The larger of `|W|` and `|r S|`.
    larger: Vec<Vec<f64>>,
}

impl Weights {
    /// `None` where a scale would leave float32.
    fn new(second: &Packed, features: &[Int8Feature]) -> Option<Self> {
        let mut all = Weights { exact: vec![], rounded: vec![], integers: vec![], units: vec![], larger: vec![] };
        for o in 0..second.outputs {
            let weights =
                features.iter().enumerate().map(|(k, feature)| (f64::from(feature.scale), second.weight(o, k)));
            let row: Vec<f64> =
                weights.clone().map(|(scale, w)| if scale > 0.0 { f64::from(w) / scale } else { 0.0 }).collect();
            let most = row.iter().fold(0.0, |most: f64, m| most.max(m.abs()));
            let t = f64::from(((MOST_WEIGHT / most).min(1e30) as f32).next_down());
            let unit = 1.0 / t;
            (1e-36..1e36).contains(&unit).then_some(())?;
            let whole: Vec<f64> = row.iter().map(|m| round(t * m).0).collect();
            all.rounded.push(whole.iter().zip(&row).map(|(q, m)| q / t - m).collect());
            all.larger
                .push(whole.iter().zip(weights).map(|(q, (s, w))| f64::from(w.abs()).max((q / t).abs() * s)).collect());
            all.integers.push(whole.into_iter().map(|q| q as i16).collect());
            all.units.push(unit as f32);
            all.exact.push(row);
        }
        Some(all)
    }
}

/// Makes the largest 1, and the others no smaller than a millionth of a millionth.
fn even(squares: Vec<&mut f64>) {
    let largest = squares.iter().fold(0.0, |largest: f64, square| largest.max(**square));
    squares.into_iter().for_each(|square| *square = if largest > 0.0 { (*square / largest).max(1e-12) } else { 1.0 });
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

fn column(rows: &[Vec<f64>], k: usize) -> impl Iterator<Item = f64> {
    rows.iter().map(move |row| row[k])
}

/// `rows / F`, column by column, from `F^2`.
fn divide(rows: &[Vec<f64>], squares: impl Iterator<Item = f64> + Clone) -> Vec<Vec<f64>> {
    rows.iter().map(|row| row.iter().zip(squares.clone()).map(|(x, square)| x / square.sqrt()).collect()).collect()
}

struct QuantizeInt8<'a> {
    int8: &'a Int8,
    features: &'a [Lanes],
    to: &'a mut [Lanes],
    spread: &'a mut Lanes,
}

impl Kernel for QuantizeInt8<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let (mut activation, mut weight, mut word) = ([0.0; LANES], [0.0; LANES], [0; LANES]);
        for k in 0..self.features.len() {
            let feature = &self.int8.features[k];
            for l in 0..LANES {
                let (byte, error) = feature.item_byte(self.features[k][l]);
                let difference = byte - feature.centre;
                activation[l] += feature.of_activation * error * error;
                weight[l] += feature.of_weight * difference * difference;
                word[l] |= IntegerWidth::Int8.place(round(byte).1, k % 4);
            }
            if k % 4 == 3 || k + 1 == self.features.len() {
                self.to[k / 4] = word.map(f32::from_bits);
                word = [0; LANES];
            }
        }
        for l in 0..LANES {
            let spread = self.int8.activation * activation[l].sqrt() + self.int8.weight * weight[l].sqrt();
            self.spread[l] = ((spread * SLACK) as f32).next_up();
        }
    }
}

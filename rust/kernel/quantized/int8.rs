//! The second layer in int8: its scales and its proven error bound. `INT8.md` has the proof and the notation.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `layers`")]

use super::error_bound::{ErrorPaths, SLACK, TINY, ValueRanges, fits_float32, sums_fit};
use super::estimate::{QuantizedUser, round};
use super::gradient_bound::GradientBound;
use super::tiles::{IntegerWidth, QuantizedLayer};
use crate::error::{Result, collected, reserve, try_collected};
use crate::kernel::weights::{Network, Packed};
use crate::kernel::{Kernel, LANES, Lanes, Simd, StandardFloats};

/// The largest weight, as an integer.
const MAX_WEIGHT: f64 = 127.0;

/// The maximum number of weights of a second layer: the bound needs several float64 matrices of its size.
const MAX_NUM_WEIGHTS: usize = 1 << 20;

/// The maximum spread of an item: small relative to the margin that `fits_float32` leaves.
const MAX_SPREAD: f64 = 1e37;

/// What the memory is for.
const WHAT: &str = "int8 weights";

/// The second layer in int8, and the error bound of its estimates.
#[derive(Debug)]
pub(crate) struct Int8 {
    /// The largest byte of an activation, `Z` in `INT8.md`.
    max_byte: f64,
    pub(super) layer: QuantizedLayer,
    bias: Vec<f32>,
    features: Vec<Int8Feature>,
    /// `M`, `[features, outputs]`: the second layer's weights, for integer activations.
    exact: Vec<f64>,
    /// `r - M`, `[features, outputs]`: their rounding errors.
    rounded: Vec<f64>,
    /// `lambda`: the maximum error of the logit per unit of error of the activations.
    activation: f64,
    /// `lambda'`: the maximum error of the logit per unit of deviation of the activations from those corrected for.
    weight: f64,
    error_paths: ErrorPaths,
}

/// The quantization of a first-layer feature, and its part of the bound.
#[derive(Debug, Clone)]
struct Int8Feature {
    /// `S[k]`; 0 for a feature that no item activates.
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
    /// `2 gamma V[k]`: the maximum error of the logit due to rounding to float32, per unit of the activation.
    rounding: f64,
    /// `2 gamma P[k]` and `2 gamma R[k]`: the same per unit of the corrections of the biases.
    corrections: [f64; 2],
}

impl Int8Feature {
    /// Rounding two values to integers raises their sum by at most one, so activations stay below `max_byte`.
    fn new(item: f32, user: f32, max_byte: f64) -> Self {
        let reach = f64::from(item) + f64::from(user);
        let scale = if reach > 0.0 { (((max_byte - 1.0) / reach).min(1e30) as f32).next_down() } else { 0.0 };
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

    /// `S x`, exact and rounded.
    #[inline(always)]
    fn quantize(&self, x: f32) -> (f64, f64) {
        const FAR: f64 = (1u64 << 40) as f64;
        let exact = f64::from(self.scale) * f64::from(x); // 48 bits, so exact
        (exact, round(exact.clamp(-FAR, FAR)).0)
    }

    /// An item's byte and its rounding error.
    #[inline(always)]
    fn item_byte(&self, x: f32) -> (f64, f64) {
        let (exact, rounded) = self.quantize(x);
        let byte = rounded + self.shift;
        if byte < 0.0 { (0.0, 0.0) } else { (byte, exact - rounded) }
    }

    /// A user's byte and its rounding error, for a value that does not exceed those of the model's users.
    fn user_byte(&self, x: f32, max_byte: f64) -> (f64, f64) {
        let (exact, rounded) = self.quantize(x);
        let byte = self.shift - rounded;
        if byte > max_byte { (max_byte, 0.0) } else { (byte, exact - rounded) }
    }
}

impl Int8 {
    /// Quantizes the second layer, with activations up to `max_byte`, in blocks of at most `max_block` outputs. `None`
    /// if no bound holds (no second hidden layer, or magnitudes near the limits of float32) or the layer is huge.
    pub(crate) fn new(
        network: &Network,
        ranges: &ValueRanges<'_>,
        max_block: usize,
        max_byte: u8,
    ) -> Result<Option<Self>> {
        let _settings = StandardFloats::enter();
        let max_byte = f64::from(max_byte);
        let second = network.layers.first().filter(|second| second.inputs * second.outputs <= MAX_NUM_WEIGHTS);
        let Some(second) = second else { return Ok(None) };
        let Some(error_paths) = ErrorPaths::new(network, &ranges.gmf)? else { return Ok(None) };
        let extremes = ranges.items.iter().zip(&ranges.users);
        let mut features = collected(WHAT, extremes.map(|(&item, &user)| Int8Feature::new(item, user, max_byte)))?;
        let Some(weights) = Weights::new(second, &features)? else { return Ok(None) };
        let Weights { exact, rounded, integers, units, larger } = weights;
        let tops = collected(WHAT, features.iter().map(Int8Feature::top))?;
        let fit = tops.iter().all(|&top| top as f64 <= max_byte)
            && integers.chunks_exact(second.inputs).all(|row| sums_fit(row, &tops));
        let largest = (0..second.outputs).map(|o| {
            let of = |k: usize| {
                let feature: &Int8Feature = &features[k];
                larger[o][k] * (tops[k] as f64 + 2.0) * feature.step
                    + exact[o][k].abs()
                    + max_byte * rounded[o][k].abs()
            };
            f64::from(second.bias()[o].abs()) + (0..second.inputs).map(of).sum::<f64>()
        });
        if !fit || !fits_float32(network, collected(WHAT, largest)?)? {
            return Ok(None);
        }

        for (k, feature) in features.iter_mut().enumerate() {
            let values = ranges.sample_items.iter().map(|a| a[k]);
            feature.tune(values, column(&exact, k), column(&rounded, k))?;
            let in_logit =
                |rows| error_paths.second.iter().zip(column(rows, k)).map(|(path, x)| path * x.abs()).sum::<f64>();
            [feature.rounding, feature.corrections[0], feature.corrections[1]] =
                [&larger, &exact, &rounded].map(|rows| 2.0 * error_paths.gamma * (in_logit(rows) + TINY));
        }
        normalise(&mut features, |feature| &mut feature.of_activation);
        normalise(&mut features, |feature| &mut feature.of_weight);
        let of_activations = || features.iter().map(|feature| feature.of_activation);
        let of_weights = || features.iter().map(|feature| feature.of_weight);
        let gradients = GradientBound::new(network)?;
        let activation = gradients.largest_norm(&divide(&exact, of_activations())?)?;
        // `exact` and `rounded` themselves have rounding errors of about 2^-52 of `exact`.
        let divided = divide(&exact, of_weights())?;
        let off = error_paths.second.iter().zip(divided).map(|(path, row)| path * norm(row.into_iter()));
        let weight = gradients.largest_norm(&divide(&rounded, of_weights())?)? + off.sum::<f64>() / 2f64.powi(50);
        let max_spread =
            activation * of_activations().sum::<f64>().sqrt() + max_byte * weight * of_weights().sum::<f64>().sqrt();
        if max_spread.is_nan() || max_spread > MAX_SPREAD {
            return Ok(None);
        }
        let transposed = |rows: &[Vec<f64>]| -> Result<Vec<f64>> {
            let mut columns = reserve(WHAT, second.inputs * second.outputs)?;
            (0..second.inputs).for_each(|k| columns.extend(column(rows, k)));
            Ok(columns)
        };
        Ok(Some(Int8 {
            max_byte,
            layer: QuantizedLayer::new(IntegerWidth::Int8, &integers, units, max_block)?,
            bias: collected(WHAT, second.bias().iter().copied())?,
            exact: transposed(&exact)?,
            rounded: transposed(&rounded)?,
            features,
            activation,
            weight,
            error_paths,
        }))
    }

    /// Quantizes the user with first-layer features `b` and GMF features `g`. `None` if a feature exceeds those of the
    /// model's users.
    pub(super) fn user(&self, b: &[f32], g: &[f32]) -> Result<Option<QuantizedUser<'_>>> {
        let _settings = StandardFloats::enter();
        let outputs = self.bias.len();
        let mut bias = collected(WHAT, self.bias.iter().map(|&bias| f64::from(bias)))?;
        let mut error = self.error_paths.rounding(g);
        let mut of_activations = 0.0;
        let mut bytes = reserve(WHAT, b.len())?;
        let matrices = self.exact.chunks_exact(outputs).zip(self.rounded.chunks_exact(outputs));
        for ((feature, &b), (exact, rounded)) in self.features.iter().zip(b).zip(matrices) {
            if b > feature.user {
                return Ok(None);
            }
            let (byte, off) = feature.user_byte(b, self.max_byte);
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
        let bias = collected(WHAT, bias.into_iter().map(|bias| bias as f32))?;
        let (words, gmf) = (IntegerWidth::Int8.pack(&bytes)?, self.error_paths.half_precision.user(g)?);
        Ok(error.is_finite().then_some(QuantizedUser { layer: &self.layer, words, bias, gmf, error }))
    }

    /// Quantizes a tile: writes its lines of bytes and its line of spreads; `features` has one line per first-layer
    /// feature.
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
    /// Chooses the free parameters of the bound so that it is small for items with these `values`: `c`, and `F` and
    /// `F'` from the columns of `M` and `r - M`.
    fn tune(
        &mut self,
        values: impl ExactSizeIterator<Item = f32>,
        exact: impl Iterator<Item = f64>,
        rounded: impl Iterator<Item = f64>,
    ) -> Result<()> {
        let bytes = collected(WHAT, values.map(|x| self.item_byte(x)))?;
        let count = bytes.len() as f64;
        self.centre = (bytes.iter().map(|(byte, _)| byte).sum::<f64>() / count * 16.0).round() / 16.0;
        let error = norm(bytes.iter().map(|(_, error)| *error)) / count.sqrt();
        let difference = norm(bytes.iter().map(|(byte, _)| byte - self.centre)) / count.sqrt();
        // A thousandth of a step is added to avoid division by zero.
        self.of_activation = norm(exact) / (error + 1e-3);
        self.of_weight = norm(rounded) / (difference + 1e-3);
        Ok(())
    }
}

/// The second layer's weights, row by row.
struct Weights {
    /// `M`.
    exact: Vec<Vec<f64>>,
    /// `r - M`.
    rounded: Vec<Vec<f64>>,
    /// `round(T M)`.
    integers: Vec<i16>,
    /// `1/T`.
    units: Vec<f32>,
    /// The larger of `|W|` and `|r S|`.
    larger: Vec<Vec<f64>>,
}

impl Weights {
    /// `None` if a scale would be outside the range of float32.
    fn new(second: &Packed, features: &[Int8Feature]) -> Result<Option<Self>> {
        let (inputs, outputs) = (second.inputs, second.outputs);
        let mut all = Weights {
            exact: reserve(WHAT, outputs)?,
            rounded: reserve(WHAT, outputs)?,
            integers: reserve(WHAT, inputs * outputs)?,
            units: reserve(WHAT, outputs)?,
            larger: reserve(WHAT, outputs)?,
        };
        for o in 0..outputs {
            let weights =
                features.iter().enumerate().map(|(k, feature)| (f64::from(feature.scale), second.weight(o, k)));
            let scaled = |(scale, w)| if scale > 0.0 { f64::from(w) / scale } else { 0.0 };
            let row = collected(WHAT, weights.clone().map(scaled))?;
            let largest = row.iter().fold(0.0, |largest: f64, m| largest.max(m.abs()));
            let t = f64::from(((MAX_WEIGHT / largest).min(1e30) as f32).next_down());
            let unit = 1.0 / t;
            if !(1e-36..1e36).contains(&unit) {
                return Ok(None);
            }
            let whole = collected(WHAT, row.iter().map(|m| round(t * m).0))?;
            let larger = |(q, (s, w)): (&f64, (f64, f32))| f64::from(w.abs()).max((q / t).abs() * s);
            all.rounded.push(collected(WHAT, whole.iter().zip(&row).map(|(q, m)| q / t - m))?);
            all.larger.push(collected(WHAT, whole.iter().zip(weights).map(larger))?);
            all.integers.extend(whole.into_iter().map(|q| q as i16));
            all.units.push(unit as f32);
            all.exact.push(row);
        }
        Ok(Some(all))
    }
}

/// Scales the features' squares so that the largest is 1, and raises the others to at least 1e-12.
fn normalise(features: &mut [Int8Feature], square: impl Fn(&mut Int8Feature) -> &mut f64) {
    let largest = features.iter_mut().fold(0.0, |largest: f64, feature| largest.max(*square(feature)));
    for square in features.iter_mut().map(square) {
        *square = if largest > 0.0 { (*square / largest).max(1e-12) } else { 1.0 };
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

fn column(rows: &[Vec<f64>], k: usize) -> impl Iterator<Item = f64> {
    rows.iter().map(move |row| row[k])
}

/// `rows / F`, column by column, from `F^2`.
fn divide(rows: &[Vec<f64>], squares: impl ExactSizeIterator<Item = f64> + Clone) -> Result<Vec<Vec<f64>>> {
    let divided =
        |row: &Vec<f64>| collected(WHAT, row.iter().zip(squares.clone()).map(|(x, square)| x / square.sqrt()));
    try_collected(WHAT, rows.iter().map(divided))
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

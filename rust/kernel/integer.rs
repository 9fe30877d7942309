//! The second layer in integers: an estimate of the logits at about half the cost of the float32 scan. [`super::bounds`] says how
//! far from the float32 logits it can be.
//!
//! `S` and `T[o]` scale what is rounded to int16: `a = round(S A)`, `b = round(S B)`, `w[o, k] = round(T[o] W[o, k])`. Then
//! `x[k] = max(a[k] + b[k], 0)`, `sum[o] = w[o, :] . x` in int32, and `h[o] = relu(fma(sum[o], 1 / (S T[o]), bias[o]))`; all else is
//! the float32 arithmetic of [`super::network`].
//!
//! A tile is sixteen items: a line for each pair of features, `a[2p]` and `a[2p + 1]` of the first item, of the second, ..., and then
//! the GMF features in float32, a line each. Pairs of int16 are kept in the bits of float32 values, so that a tile is one array.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `network`")]

use super::network::{Activations, Network, Output, Scratch, Sink, block_size, hidden_after};
use super::{IntegerKernel, IntegerSimd, Kernel, LANES, Lanes, Simd};

/// `round(scale * x)`, kept within int16; to nearest where the floats are the standard ones.
#[inline(always)]
pub(super) fn quantise(scale: f32, x: f32) -> i16 {
    /// Added to a small number, it leaves the nearest integer in the low bits.
    const TO_INTEGER: f64 = (3u64 << 51) as f64;
    let exact = f64::from(scale) * f64::from(x); // 48 bits, so exact
    (exact.clamp(i16::MIN.into(), i16::MAX.into()) + TO_INTEGER).to_bits() as i16
}

/// Two int16 values in one lane.
#[inline(always)]
pub(super) fn pair(first: i16, second: i16) -> u32 {
    u32::from(first as u16) | u32::from(second as u16) << 16
}

/// A layer's weights in int16, packed like [`super::network::Packed`] but for pairs of inputs.
#[derive(Debug, Clone)]
pub(crate) struct IntegerLayer {
    /// Pairs of inputs; the last is filled up with a zero.
    pub(super) pairs: usize,
    block: usize,
    weight: Vec<u32>,
    /// `1 / (S T[o])`.
    scale: Vec<f32>,
    bias: Vec<f32>,
}

impl IntegerLayer {
    /// Packs `weight`, `[outputs, inputs]`, for blocks of at most `most` outputs.
    pub(super) fn new(inputs: usize, weight: &[i16], scale: Vec<f32>, bias: &[f32], most: usize) -> Self {
        let (pairs, outputs) = (inputs.div_ceil(2), bias.len());
        let block = block_size(outputs, most);
        let at = |o: usize, k: usize| if k < inputs { weight[o * inputs + k] } else { 0 };
        let mut packed = Vec::with_capacity(pairs * outputs);
        for first in (0..outputs).step_by(block) {
            for p in 0..pairs {
                packed.extend((first..outputs.min(first + block)).map(|o| pair(at(o, 2 * p), at(o, 2 * p + 1))));
            }
        }
        IntegerLayer { pairs, block, weight: packed, scale, bias: bias.to_vec() }
    }

    pub(super) fn nbytes(&self) -> usize {
        size_of_val(&self.weight[..]) + size_of_val(&self.scale[..]) + size_of_val(&self.bias[..])
    }
}

/// Makes a tile of sixteen items from their float32 features.
pub(crate) struct Quantise<'a> {
    /// `S`.
    pub(crate) scale: f32,
    /// One for each feature of the first layer.
    pub(crate) features: &'a [Lanes],
    /// One for each pair of them.
    pub(crate) pairs: &'a mut [Lanes],
}

impl Kernel for Quantise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let nothing = [0.0; LANES];
        for p in 0..self.pairs.len() {
            let (first, second) = (&self.features[2 * p], self.features.get(2 * p + 1).unwrap_or(&nothing));
            for l in 0..LANES {
                let bits = pair(quantise(self.scale, first[l]), quantise(self.scale, second[l]));
                self.pairs[p][l] = f32::from_bits(bits);
            }
        }
    }
}

/// Estimates of the logits of one user and the items of some tiles, and which of them reach a threshold.
pub(crate) struct Estimate<'a> {
    pub(crate) network: &'a Network,
    pub(crate) layer: &'a IntegerLayer,
    pub(crate) tiles: &'a [Lanes],
    /// The tiles that will be read after these: fetched from memory meanwhile.
    pub(crate) ahead: &'a [Lanes],
    /// The user's first-layer features, in pairs.
    pub(crate) user: &'a [u32],
    /// The user's GMF features.
    pub(crate) gmf: &'a [f32],
    pub(crate) threshold: f32,
    pub(crate) scratch: &'a mut Scratch,
    /// One for each tile.
    pub(crate) estimates: &'a mut [Lanes],
    /// One for each tile: bit `l` is set where lane `l` has at least `threshold`.
    pub(crate) hits: &'a mut [u16],
}

impl IntegerKernel for Estimate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: IntegerSimd>(self, s: S) {
        let Estimate { network, layer, user, gmf, scratch, .. } = self;
        let tile_len = layer.pairs + gmf.len();
        for t in 0..self.tiles.len() / tile_len {
            let ahead = self.ahead.get(t * tile_len..).unwrap_or_default();
            for line in ahead.iter().take(tile_len) {
                s.prefetch(line);
            }
            let (items, items_gmf) = self.tiles[t * tile_len..][..tile_len].split_at(layer.pairs);
            let mut logits = s.splat(network.output_bias);
            for j in 0..gmf.len() {
                logits = s.fma(s.splat(gmf[j]), s.load(&items_gmf[j]), logits);
            }
            let deeper = &network.layers[1..];
            if deeper.is_empty() {
                let mut output = Output { weight: &network.output_weight, logits };
                second(s, layer, items, user, &mut output);
                logits = output.logits;
            } else {
                second(s, layer, items, user, &mut Activations(&mut scratch.to));
                logits = hidden_after(s, network, deeper, logits, scratch);
            }
            let logits = s.add(logits, s.splat(0.0));
            s.store(logits, &mut self.estimates[t]);
            self.hits[t] = s.at_least(logits, s.splat(self.threshold));
        }
    }
}

/// The first layer's addition and ReLU, and the second layer, block after block into `sink`.
#[inline(always)]
fn second<S: IntegerSimd>(s: S, layer: &IntegerLayer, items: &[Lanes], user: &[u32], sink: &mut impl Sink<S>) {
    let outputs = layer.bias.len();
    let mut weight = &layer.weight[..];
    let mut first = 0;
    while first < outputs {
        let n = layer.block.min(outputs - first);
        let (block, rest) = weight.split_at(n * layer.pairs);
        macro_rules! of_size {
            ($($n:literal)*) => {
                match n {
                    $($n => block_of::<S, $n>(s, layer, block, items, user, first, sink),)*
                    _ => unreachable!("a block has at most 16 outputs"),
                }
            };
        }
        of_size!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
        weight = rest;
        first += n;
    }
}

#[inline(always)]
fn block_of<S: IntegerSimd, const N: usize>(
    s: S,
    layer: &IntegerLayer,
    weight: &[u32],
    items: &[Lanes],
    user: &[u32],
    first: usize,
    sink: &mut impl Sink<S>,
) {
    if N > S::SUMS {
        unreachable!("packed for other registers"); // and so not compiled
    }
    let mut sums = [s.zero_sums(); N];
    let (weight, _) = weight.as_chunks::<N>();
    assert!(weight.len() == items.len() && weight.len() == user.len(), "one pair of inputs for each column of weights");
    for p in 0..weight.len() {
        let x = s.add_relu(s.load_pairs(&items[p]), s.splat_pair(user[p]));
        for n in 0..N {
            sums[n] = s.dot(s.splat_pair(weight[p][n]), x, sums[n]);
        }
    }
    let (scale, bias) = (&layer.scale[first..first + N], &layer.bias[first..first + N]);
    let mut values = [s.splat(0.0); N];
    for n in 0..N {
        values[n] = s.fma(s.to_floats(sums[n]), s.splat(scale[n]), s.splat(bias[n]));
    }
    sink.take(s, first, values);
}

//! Estimates logits with a quantized second layer, whose multiply-adds cost a half (int16) or a quarter (int8).
//! [`super::int16`] and [`super::int8`] choose the scales and bound the error, the distance from the float32 logits.
//!
//! - *int16*: `a = round(S A)`, `b = round(S B)`, `x[k] = max(a[k] + b[k], 0)`.
//! - *int8*: `a` and `t` are unsigned bytes: the item's value, and the user's threshold up to which the activation is
//!   zero; `x[k] = max(a[k] - t[k], 0)`.
//!
//! For both, `sum[o] = w[o, :] . x` in int32, with weights of the same width, and `h[o] = relu(fma(sum[o], scale[o],
//! bias[o]))`; all else is the float32 arithmetic of [`crate::kernel::layers`].

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `layers`")]

use super::tiles::{IntegerWidth, QuantizedLayer, QuantizedTiles};
use crate::kernel::layers::{AddToLogits, Sink, StoreActivations, hidden_after, prefetch};
use crate::kernel::survivors::Survivors;
use crate::kernel::weights::{Network, Scratch};
use crate::kernel::{IntegerKernel, IntegerSimd, Lanes};

/// A user, quantized for a layer.
#[derive(Debug, Clone)]
pub(crate) struct QuantizedUser<'a> {
    pub(super) layer: &'a QuantizedLayer,
    /// The first-layer features: `b` in int16, `t` in int8.
    pub(super) words: Vec<u32>,
    /// The second layer's biases; in int8, corrected for the user's known rounding errors.
    pub(super) bias: Vec<f32>,
    /// The weights of the items' GMF features, padded to whole lines.
    pub(super) gmf: Vec<f32>,
    /// An estimate differs from the float32 logit by at most this plus the item's spread.
    pub(crate) error: f64,
}

impl QuantizedUser<'_> {
    /// The width of the integers of this user's estimates.
    pub(crate) fn width(&self) -> IntegerWidth {
        self.layer.width
    }
}

/// Estimates the logits of one user and the items of a panel of tiles, raises each by the item's spread, and records
/// those that reach the threshold of `survivors`.
pub(crate) struct Estimate<'a> {
    pub(crate) network: &'a Network,
    pub(crate) tiles: QuantizedTiles<'a>,
    /// The tiles that are read next, to prefetch meanwhile.
    pub(crate) ahead: Option<QuantizedTiles<'a>>,
    pub(crate) user: &'a QuantizedUser<'a>,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) survivors: &'a mut Survivors,
}

impl IntegerKernel for Estimate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: IntegerSimd>(self, s: S) {
        match self.user.layer.width {
            IntegerWidth::Int8 => self.scan::<S, true>(s),
            IntegerWidth::Int16 => self.scan::<S, false>(s),
        }
    }
}

impl Estimate<'_> {
    #[inline(always)]
    fn scan<S: IntegerSimd, const INT8: bool>(self, s: S) {
        let Estimate { network, tiles, user, scratch, .. } = self;
        let layout = tiles.layout;
        for t in 0..tiles.count() {
            let none = QuantizedTiles { layout, tiles: &[], int16: &[] };
            let ahead = self.ahead.map_or(none, |ahead| ahead.from(t));
            let items_ahead = if INT8 { ahead.tiles } else { ahead.int16 };
            if INT8 {
                prefetch(s, ahead.tiles, layout.len() - 1);
            }
            let QuantizedTiles { tiles: tile, int16, .. } = tiles.slice(t..t + 1);
            let items = if INT8 { &tile[..layout.int8] } else { int16 };
            let items_gmf = &tile[layout.gmf()];
            let mut logits = s.splat(network.output_bias);
            for (j, gmf) in user.gmf.as_chunks::<2>().0.iter().enumerate() {
                prefetch(s, ahead.tiles, layout.int8 + j);
                let q = s.load_f16(&items_gmf[j]);
                logits = s.fma(s.splat(gmf[0]), q[0], logits);
                logits = s.fma(s.splat(gmf[1]), q[1], logits);
            }
            let first = FirstLayer::<INT8> { items, user: &user.words, ahead: items_ahead };
            let deeper = &network.layers[1..];
            if deeper.is_empty() {
                let mut output = AddToLogits { weight: &network.output_weight, logits };
                second_layer(s, first, user, &mut scratch.first, &mut output);
                logits = output.logits;
            } else {
                second_layer(s, first, user, &mut scratch.first, &mut StoreActivations(&mut scratch.to));
                logits = hidden_after(s, network, deeper, logits, scratch);
            }
            let spread = if INT8 { s.load(&tile[tile.len() - 1]) } else { s.splat(0.0) };
            self.survivors.record(s, t, s.add(logits, spread));
        }
    }
}

/// Words of the second layer's input activations.
trait Words<S: IntegerSimd>: Copy {
    fn at(self, s: S, p: usize) -> S::Words;
}

/// The first layer's addition and ReLU; prefetches as it goes.
#[derive(Clone, Copy)]
struct FirstLayer<'a, const INT8: bool> {
    items: &'a [Lanes],
    user: &'a [u32],
    ahead: &'a [Lanes],
}

impl<S: IntegerSimd, const INT8: bool> Words<S> for FirstLayer<'_, INT8> {
    #[inline(always)]
    fn at(self, s: S, p: usize) -> S::Words {
        prefetch(s, self.ahead, p);
        let (item, user) = (s.load_words(&self.items[p]), s.splat_word(self.user[p]));
        if INT8 { s.subtract_relu(item, user) } else { s.add_relu(item, user) }
    }
}

#[derive(Clone, Copy)]
struct StoredWords<'a>(&'a [Lanes]);

impl<S: IntegerSimd> Words<S> for StoredWords<'_> {
    #[inline(always)]
    fn at(self, s: S, p: usize) -> S::Words {
        s.load_words(&self.0[p])
    }
}

/// Computes the second layer and passes its outputs to `sink` block by block. If there are several blocks, its input is
/// computed once, into `stored`.
#[inline(always)]
fn second_layer<S: IntegerSimd, const INT8: bool>(
    s: S,
    input: FirstLayer<'_, INT8>,
    user: &QuantizedUser<'_>,
    stored: &mut [Lanes],
    sink: &mut impl Sink<S>,
) {
    let (layer, outputs) = (user.layer, user.bias.len());
    assert!(input.items.len() == layer.words && input.user.len() == layer.words, "one word of inputs for each column");
    if outputs <= layer.block {
        return blocks::<S, INT8>(s, input, user, sink);
    }
    let stored = &mut stored[..layer.words];
    for p in 0..layer.words {
        s.store_words(input.at(s, p), &mut stored[p]);
    }
    blocks::<S, INT8>(s, StoredWords(stored), user, sink);
}

#[inline(always)]
fn blocks<S: IntegerSimd, const INT8: bool>(
    s: S,
    input: impl Words<S>,
    user: &QuantizedUser<'_>,
    sink: &mut impl Sink<S>,
) {
    let (layer, outputs) = (user.layer, user.bias.len());
    let mut weight = &layer.weight[..];
    let mut first = 0;
    while first < outputs {
        let n = layer.block.min(outputs - first);
        let (block, rest) = weight.split_at(n * layer.words);
        let (scale, bias) = (&layer.scale[first..first + n], &user.bias[first..first + n]);
        macro_rules! of_size {
            ($($n:literal)*) => {
                match n {
                    $($n => sink.take(s, first, block_of::<S, INT8, $n>(s, block, scale, bias, input)),)*
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
fn block_of<S: IntegerSimd, const INT8: bool, const N: usize>(
    s: S,
    weight: &[u32],
    scale: &[f32],
    bias: &[f32],
    input: impl Words<S>,
) -> [S::V; N] {
    if N > S::SUMS {
        unreachable!("blocks are packed for this instruction set's registers"); // so larger blocks are not compiled
    }
    let mut sums = [s.zero_sums(); N];
    let (weight, _) = weight.as_chunks::<N>();
    for p in 0..weight.len() {
        let x = input.at(s, p);
        for n in 0..N {
            let w = s.splat_word(weight[p][n]);
            sums[n] = if INT8 { s.dot_i8(w, x, sums[n]) } else { s.dot_i16(w, x, sums[n]) };
        }
    }
    let mut values = [s.splat(0.0); N];
    for n in 0..N {
        values[n] = s.fma(s.to_floats(sums[n]), s.splat(scale[n]), s.splat(bias[n]));
    }
    values
}

/// `x` rounded to an integer, as float64 and as the low bits of a word, for `|x| < 2^40`; needs the standard
/// floating-point settings.
#[inline(always)]
pub(super) fn round(x: f64) -> (f64, u64) {
    /// Added to a small number, it leaves the nearest integer in the low bits of the sum.
    const TO_INTEGER: f64 = (3u64 << 51) as f64;
    let shifted = x + TO_INTEGER;
    (shifted - TO_INTEGER, shifted.to_bits())
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::kernel::{IntegerIsa, Isa, LANES};

    struct Dots<'a> {
        /// Any words, any words, and words of bytes that `dot_i8` takes.
        words: [&'a Lanes; 3],
        out: &'a mut [Lanes; 3],
    }

    impl IntegerKernel for Dots<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: IntegerSimd>(self, s: S) {
            let [a, b, bytes] = self.words.map(|words| s.load_words(words));
            let x = s.subtract_relu(bytes, a);
            s.store(s.to_floats(s.dot_i8(a, bytes, s.zero_sums())), &mut self.out[0]);
            s.store(s.to_floats(s.dot_i8(a, x, s.zero_sums())), &mut self.out[1]);
            s.store(s.to_floats(s.dot_i16(a, b, s.zero_sums())), &mut self.out[2]);
        }
    }

    struct ToFloats<'a>(&'a Lanes, &'a mut [Lanes; 2]);

    impl IntegerKernel for ToFloats<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: IntegerSimd>(self, s: S) {
            let values = s.load_f16(self.0);
            (0..2).for_each(|n| s.store(values[n], &mut self.1[n]));
        }
    }

    #[test]
    fn every_half_precision_number_converts_exactly_on_every_instruction_set() {
        let all: Vec<u16> = (0..=u16::MAX).filter(|&bits| f16::from_bits(bits).is_finite()).collect();
        for values in all.as_chunks::<{ 2 * LANES }>().0 {
            let line: Lanes =
                std::array::from_fn(|w| f32::from_bits(u32::from(values[2 * w]) | u32::from(values[2 * w + 1]) << 16));
            for isa in Isa::supported().into_iter().flat_map(IntegerIsa::of) {
                let mut out = [[0.0; LANES]; 2];
                isa.run(ToFloats(&line, &mut out));
                let expected = values.map(|bits| f16::from_bits(bits).to_f32().to_bits());
                assert_eq!(out.as_flattened().iter().map(|x| x.to_bits()).collect::<Vec<_>>(), expected, "{isa:?}");
            }
        }
    }

    #[test]
    fn products_of_words_are_exact_on_every_instruction_set() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        for round in 0..2000 {
            // Every fourth round uses extreme values, for which sums of two products of bytes above 127 would saturate.
            let mut word =
                || if round % 4 == 0 { [0xff7f_807f, 0xffff_ffff, 0x7f7f_7f7f][next() as usize % 3] } else { next() };
            let words: [[u32; LANES]; 2] = std::array::from_fn(|_| std::array::from_fn(|_| word()));
            for isa in Isa::supported().into_iter().flat_map(IntegerIsa::of) {
                let bytes = words[1].map(|word| word & u32::from_ne_bytes([isa.max_byte(); 4]));
                let expected: [Lanes; 3] = std::array::from_fn(|what| {
                    std::array::from_fn(|l| {
                        let [a, b] = [words[0][l], words[1][l]];
                        let of_bytes = |f: fn(i32, i32) -> i32| -> i32 {
                            let at = |word: u32, n: usize| word.to_le_bytes()[n];
                            let x = |n| f(at(bytes[l], n).into(), at(a, n).into());
                            (0..4).map(|n| i32::from(at(a, n) as i8) * x(n)).sum()
                        };
                        let pairs = |word: u32| [word as i16, (word >> 16) as i16].map(i32::from);
                        let sum = match what {
                            0 => of_bytes(|b, _| b),
                            1 => of_bytes(|b, a| (b - a).max(0)),
                            _ => pairs(a).iter().zip(pairs(b)).fold(0i32, |sum, (&a, b)| sum.wrapping_add(a * b)),
                        };
                        sum as f32
                    })
                });
                let lanes = [words[0], words[1], bytes].map(|words| words.map(f32::from_bits));
                let mut out = [[0.0; LANES]; 3];
                isa.run(Dots { words: lanes.each_ref(), out: &mut out });
                assert_eq!(out, expected, "{isa:?} {words:x?}");
            }
        }
    }
}

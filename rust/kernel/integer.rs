//! The second layer in integers: an estimate of the logits at a half or a quarter of the multiply-adds' cost. [`super::int16`] and
//! [`super::int8`] choose the scales, and say how far from the float32 logits it can be.
//!
//! - *int16*: `a = round(S A)`, `b = round(S B)`, `x[k] = max(a[k] + b[k], 0)`.
//! - *int8*: `a` and `t` are unsigned bytes, the item's value and the height under which the user does not see it, and
//!   `x[k] = max(a[k] - t[k], 0)`.
//!
//! In both, `sum[o] = w[o, :] . x` in int32, with weights of the same width, and `h[o] = relu(fma(sum[o], scale[o], bias[o]))`; all
//! else is the float32 arithmetic of [`super::network`].
//!
//! A word of 32 bits holds two or four values of neighbouring features. In a tile, sixteen items, a word takes a line, one word for
//! each item; it is kept in the bits of float32 values, so that a tile is one array. [`TileLines`] says what lies where. The int16
//! words are an array of their own, else a scan in int8 would drag them through the memory's pipes.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `network`")]

use std::ops::Range;

use super::hits::Hits;
use super::network::{Activations, Network, Output, Scratch, Sink, block_size, hidden_after, prefetch};
use super::{IntegerKernel, IntegerSimd, LANES, Lanes};

/// What a word holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// Four bytes.
    Int8,
    /// Two int16.
    Int16,
}

impl Width {
    /// Values in a word.
    pub(super) const fn per_word(self) -> usize {
        match self {
            Width::Int8 => 4,
            Width::Int16 => 2,
        }
    }

    /// Words for `features` values; the last is filled up with zeros.
    pub(super) const fn words(self, features: usize) -> usize {
        features.div_ceil(self.per_word())
    }

    /// `value` at place `at` of a word that is zero elsewhere.
    #[inline(always)]
    pub(super) const fn place(self, value: u64, at: usize) -> u32 {
        match self {
            Width::Int8 => (value as u8 as u32) << (8 * at),
            Width::Int16 => (value as u16 as u32) << (16 * at),
        }
    }

    /// `values` in words.
    pub(super) fn pack(self, values: &[i16]) -> Vec<u32> {
        let word = |few: &[i16]| few.iter().enumerate().fold(0, |word, (at, &x)| word | self.place(x as u64, at));
        values.chunks(self.per_word()).map(word).collect()
    }
}

/// A layer's weights in integers, packed like [`super::network::Packed`] but for words of inputs.
#[derive(Debug, Clone)]
pub(crate) struct IntegerLayer {
    pub(super) width: Width,
    /// Words of inputs.
    pub(super) words: usize,
    block: usize,
    weight: Vec<u32>,
    /// What a sum is multiplied with.
    scale: Vec<f32>,
}

impl IntegerLayer {
    /// Packs `weight`, `[outputs, inputs]`, for blocks of at most `most` outputs.
    pub(super) fn new(width: Width, weight: &[i16], scale: Vec<f32>, most: usize) -> Self {
        let outputs = scale.len();
        let inputs = weight.len() / outputs;
        let (words, block) = (width.words(inputs), block_size(outputs, most));
        let rows: Vec<Vec<u32>> = weight.chunks_exact(inputs).map(|row| width.pack(row)).collect();
        let mut packed = Vec::with_capacity(words * outputs);
        for block in rows.chunks(block) {
            (0..words).for_each(|p| packed.extend(block.iter().map(|row| row[p])));
        }
        IntegerLayer { width, words, block, weight: packed, scale }
    }

    pub(super) fn nbytes(&self) -> usize {
        size_of_val(&self.weight[..]) + size_of_val(&self.scale[..])
    }
}

/// Where the lines of a tile lie: the bytes of the first layer, the GMF features in half precision, the spread of the int8 estimates;
/// bytes and spread only where there is a pass in int8. And how many lines of int16 words a tile has in the other array.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TileLines {
    /// Lines of bytes; 0 where there is no pass in int8.
    pub(crate) bytes: usize,
    /// Lines of GMF features, two a line.
    pub(crate) gmf: usize,
    /// Lines of int16, which lie apart.
    pub(crate) pairs: usize,
}

impl TileLines {
    /// Length of a tile without the int16 words.
    pub(crate) fn len(self) -> usize {
        self.bytes + self.gmf + usize::from(self.bytes > 0)
    }

    pub(crate) fn gmf(self) -> Range<usize> {
        self.bytes..self.bytes + self.gmf
    }

    /// The line of spreads.
    pub(crate) fn spread(self) -> Option<usize> {
        (self.bytes > 0).then_some(self.bytes + self.gmf)
    }

    /// How many lines a pass reads of a tile.
    pub(crate) fn read(self, width: Width) -> usize {
        match width {
            Width::Int8 => self.len(),
            Width::Int16 => self.gmf + self.pairs,
        }
    }
}

/// Some neighbouring tiles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiles<'a> {
    pub(crate) lines: TileLines,
    /// Without the int16 words.
    pub(crate) tiles: &'a [Lanes],
    /// The int16 words.
    pub(crate) pairs: &'a [Lanes],
}

impl<'a> Tiles<'a> {
    /// Those of `range`.
    #[inline(always)]
    pub(crate) fn slice(self, range: Range<usize>) -> Self {
        let TileLines { pairs, .. } = self.lines;
        let len = self.lines.len();
        Tiles {
            lines: self.lines,
            tiles: &self.tiles[range.start * len..range.end * len],
            pairs: &self.pairs[range.start * pairs..range.end * pairs],
        }
    }

    /// How many.
    #[inline(always)]
    fn count(self) -> usize {
        self.pairs.len() / self.lines.pairs
    }

    /// Those from `first` on, none behind the end.
    pub(crate) fn from(self, first: usize) -> Self {
        Tiles {
            lines: self.lines,
            tiles: self.tiles.get(first * self.lines.len()..).unwrap_or_default(),
            pairs: self.pairs.get(first * self.lines.pairs..).unwrap_or_default(),
        }
    }

    /// By how much the estimate of an item in int8 is raised.
    pub(crate) fn spread(self, item: usize) -> f32 {
        let line = self.lines.spread();
        line.map_or(0.0, |line| self.tiles[item / LANES * self.lines.len() + line][item % LANES])
    }
}

/// A user's side of an estimate.
#[derive(Debug, Clone)]
pub(crate) struct IntegerUser {
    /// The first-layer features: `b` in int16, `t` in bytes.
    pub(crate) words: Vec<u32>,
    /// The second layer's biases, corrected for what is known of the user's rounding.
    pub(crate) bias: Vec<f32>,
    /// The weights of the items' GMF features, as many as the lines hold.
    pub(crate) gmf: Vec<f32>,
    /// An estimate and the float32 logit differ by this at most, and by the item's spread.
    pub(crate) error: f64,
}

/// Estimates of the logits of one user and the items of a panel of tiles, each raised by the item's spread: which of them reach a
/// threshold.
pub(crate) struct Estimate<'a> {
    pub(crate) network: &'a Network,
    pub(crate) layer: &'a IntegerLayer,
    pub(crate) tiles: Tiles<'a>,
    /// The tiles that will be read after these, where there are any: fetched from memory meanwhile.
    pub(crate) ahead: Option<Tiles<'a>>,
    pub(crate) user: &'a IntegerUser,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) hits: &'a mut Hits,
}

impl IntegerKernel for Estimate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: IntegerSimd>(self, s: S) {
        match self.layer.width {
            Width::Int8 => self.scan::<S, true>(s),
            Width::Int16 => self.scan::<S, false>(s),
        }
    }
}

impl Estimate<'_> {
    #[inline(always)]
    fn scan<S: IntegerSimd, const BYTES: bool>(self, s: S) {
        let Estimate { network, layer, tiles, user, scratch, .. } = self;
        let lines = tiles.lines;
        for t in 0..tiles.count() {
            let ahead = self.ahead.map_or(Tiles { tiles: &[], pairs: &[], lines }, |ahead| ahead.from(t));
            let items_ahead = if BYTES { ahead.tiles } else { ahead.pairs };
            if BYTES {
                prefetch(s, ahead.tiles, lines.len() - 1);
            }
            let Tiles { tiles: tile, pairs, .. } = tiles.slice(t..t + 1);
            let items = if BYTES { &tile[..lines.bytes] } else { pairs };
            let items_gmf = &tile[lines.gmf()];
            let mut logits = s.splat(network.output_bias);
            for (j, gmf) in user.gmf.as_chunks::<2>().0.iter().enumerate() {
                prefetch(s, ahead.tiles, lines.bytes + j);
                let q = s.load_halves(&items_gmf[j]);
                logits = s.fma(s.splat(gmf[0]), q[0], logits);
                logits = s.fma(s.splat(gmf[1]), q[1], logits);
            }
            let deeper = &network.layers[1..];
            if deeper.is_empty() {
                let mut output = Output { weight: &network.output_weight, logits };
                second::<S, BYTES>(s, layer, items, items_ahead, user, &mut output);
                logits = output.logits;
            } else {
                second::<S, BYTES>(s, layer, items, items_ahead, user, &mut Activations(&mut scratch.to));
                logits = hidden_after(s, network, deeper, logits, scratch);
            }
            let spread = if BYTES { s.load(&tile[tile.len() - 1]) } else { s.splat(0.0) };
            self.hits.look(s, t, s.add(logits, spread));
        }
    }
}

/// The first layer's addition and ReLU, and the second layer, block after block into `sink`.
#[inline(always)]
fn second<S: IntegerSimd, const BYTES: bool>(
    s: S,
    layer: &IntegerLayer,
    items: &[Lanes],
    ahead: &[Lanes],
    user: &IntegerUser,
    sink: &mut impl Sink<S>,
) {
    let outputs = user.bias.len();
    let mut weight = &layer.weight[..];
    let mut first = 0;
    while first < outputs {
        let n = layer.block.min(outputs - first);
        let (block, rest) = weight.split_at(n * layer.words);
        let (scale, bias) = (&layer.scale[first..first + n], &user.bias[first..first + n]);
        macro_rules! of_size {
            ($($n:literal)*) => {
                match n {
                    $($n => {
                        let sums = block_of::<S, BYTES, $n>(s, block, scale, bias, items, ahead, &user.words);
                        sink.take(s, first, sums);
                    })*
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
fn block_of<S: IntegerSimd, const BYTES: bool, const N: usize>(
    s: S,
    weight: &[u32],
    scale: &[f32],
    bias: &[f32],
    items: &[Lanes],
    ahead: &[Lanes],
    user: &[u32],
) -> [S::V; N] {
    if N > S::SUMS {
        unreachable!("packed for other registers"); // and so not compiled
    }
    let mut sums = [s.zero_sums(); N];
    let (weight, _) = weight.as_chunks::<N>();
    assert!(weight.len() == items.len() && weight.len() == user.len(), "one word of inputs for each column of weights");
    for p in 0..weight.len() {
        prefetch(s, ahead, p);
        let (item, user) = (s.load_words(&items[p]), s.splat_word(user[p]));
        let x = if BYTES { s.subtract_relu(item, user) } else { s.add_relu(item, user) };
        for n in 0..N {
            let w = s.splat_word(weight[p][n]);
            sums[n] = if BYTES { s.dot_bytes(w, x, sums[n]) } else { s.dot_pairs(w, x, sums[n]) };
        }
    }
    let mut values = [s.splat(0.0); N];
    for n in 0..N {
        values[n] = s.fma(s.to_floats(sums[n]), s.splat(scale[n]), s.splat(bias[n]));
    }
    values
}

/// `x` as float64, rounded to an integer, and its low bits; for `|x| < 2^40`, where the floats are the standard ones.
#[inline(always)]
pub(super) fn round(x: f64) -> (f64, u64) {
    /// Added to a small number, it leaves the nearest integer in the low bits.
    const TO_INTEGER: f64 = (3u64 << 51) as f64;
    let shifted = x + TO_INTEGER;
    (shifted - TO_INTEGER, shifted.to_bits())
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::kernel::{IntegerIsa, Isa};

    struct Dots<'a> {
        words: [&'a Lanes; 2],
        out: &'a mut [Lanes; 3],
    }

    impl IntegerKernel for Dots<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: IntegerSimd>(self, s: S) {
            let [a, b] = [s.load_words(self.words[0]), s.load_words(self.words[1])];
            let x = s.subtract_relu(b, a);
            s.store(s.to_floats(s.dot_bytes(a, b, s.zero_sums())), &mut self.out[0]);
            s.store(s.to_floats(s.dot_bytes(a, x, s.zero_sums())), &mut self.out[1]);
            s.store(s.to_floats(s.dot_pairs(a, b, s.zero_sums())), &mut self.out[2]);
        }
    }

    struct ToFloats<'a>(&'a Lanes, &'a mut [Lanes; 2]);

    impl IntegerKernel for ToFloats<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: IntegerSimd>(self, s: S) {
            let halves = s.load_halves(self.0);
            (0..2).for_each(|n| s.store(halves[n], &mut self.1[n]));
        }
    }

    #[test]
    fn every_number_in_half_precision_is_read_with_every_set_of_instructions() {
        let all: Vec<u16> = (0..=u16::MAX).filter(|&bits| f16::from_bits(bits).is_finite()).collect();
        for halves in all.as_chunks::<{ 2 * LANES }>().0 {
            let line: Lanes =
                std::array::from_fn(|w| f32::from_bits(u32::from(halves[2 * w]) | u32::from(halves[2 * w + 1]) << 16));
            for isa in Isa::supported().into_iter().flat_map(IntegerIsa::of) {
                let mut out = [[0.0; LANES]; 2];
                isa.run(ToFloats(&line, &mut out));
                let expected = halves.map(|bits| f16::from_bits(bits).to_f32().to_bits());
                assert_eq!(out.as_flattened().iter().map(|x| x.to_bits()).collect::<Vec<_>>(), expected, "{isa:?}");
            }
        }
    }

    #[test]
    fn products_of_words_are_exact_with_every_set_of_instructions() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        for round in 0..2000 {
            // The ends of the ranges, where products of pairs would saturate, in every fourth round.
            let mut word =
                || if round % 4 == 0 { [0xff7f_807f, 0xffff_ffff, 0x7f7f_7f7f][next() as usize % 3] } else { next() };
            let words: [[u32; LANES]; 2] = std::array::from_fn(|_| std::array::from_fn(|_| word()));
            let lanes = words.map(|words| words.map(f32::from_bits));
            let expected: [Lanes; 3] = std::array::from_fn(|what| {
                std::array::from_fn(|l| {
                    let [a, b] = [words[0][l], words[1][l]];
                    let bytes = |f: fn(i32, i32) -> i32| -> i32 {
                        let at = |word: u32, n: usize| word.to_le_bytes()[n];
                        (0..4).map(|n| i32::from(at(a, n) as i8) * f(at(b, n).into(), at(a, n).into())).sum()
                    };
                    let pairs = |word: u32| [word as i16, (word >> 16) as i16].map(i32::from);
                    let sum = match what {
                        0 => bytes(|b, _| b),
                        1 => bytes(|b, a| (b - a).max(0)),
                        _ => pairs(a).iter().zip(pairs(b)).fold(0i32, |sum, (&a, b)| sum.wrapping_add(a * b)),
                    };
                    sum as f32
                })
            });
            for isa in Isa::supported().into_iter().flat_map(IntegerIsa::of) {
                let mut out = [[0.0; LANES]; 3];
                isa.run(Dots { words: [&lanes[0], &lanes[1]], out: &mut out });
                assert_eq!(out, expected, "{isa:?} {words:x?}");
            }
        }
    }
}

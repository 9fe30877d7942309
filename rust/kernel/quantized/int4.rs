//! Dot products (GMF alone) in four bits, with a proven bound; four more bits of each item refine the estimate where
//! the bound leaves the item open. `DOTS.md` has the proofs and the notation.
//!
//! Each feature of an item has a code of eight bits. The upper four are in the tiles that a scan reads, the lower four
//! in rows of their own, for the few items that need them:
//!
//! - *coarse*: `q ~ s (c - 7.5)`, `c` the code's upper half;
//! - *fine*: `q ~ (s / 16) (16 c + l - 127.5)`, `l` its lower half.
//!
//! A user's features are int8: `g ~ t u`.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `layers`")]

use super::error_bound::SLACK;
use crate::kernel::survivors::Survivors;
use crate::kernel::{IntegerKernel, IntegerSimd, LANES, Lanes, StandardFloats};

/// Features in a word, four bits each: feature `n` of eight is in the lower half of byte `n` if `n < 4`, else in the
/// upper half of byte `n - 4`.
const PER_WORD: usize = 8;

/// Lines of a tile whose products are summed in int16.
const LINES_PER_GROUP: usize = 8;

/// The largest sum of a user's positive, or negative, integers in a group: fifteen times as much is within int16.
const MAX_GROUP_SUM: i32 = i16::MAX as i32 / 15;

/// The largest number of features: sums of products stay below 2^24, and so are exact in float32.
pub(crate) const MAX_WIDTH: usize = 1 << 13;

/// The maximum magnitude of an estimate's intermediates.
const LIMIT: f64 = 2e38;

/// An item's codes in numbers: everything but the codes themselves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ItemCode {
    /// `s`, a bfloat16 value.
    scale: f32,
    /// The error of the coarse and of the fine code: `|q - q~| + gamma |q|`, bfloat16 values.
    coarse_error: f32,
    pub(crate) fine_error: f32,
    /// `|q|`, rounded up.
    pub(crate) norm: f32,
    /// `|c - 7.5|` and `|16 c + l - 127.5|`, rounded up.
    coarse_length: f32,
    fine_length: f32,
}

/// What the bound needs to know about the codes of a catalogue: the largest values of any item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Int4 {
    width: usize,
    gamma: f64,
    bias: f32,
    largest: ItemCode,
}

/// The relative rounding error of a logit's chain of `width` multiply-adds, with some to spare.
fn gamma(width: usize) -> f64 {
    let relative = (width + 2) as f64 / f64::from(1 << 24);
    relative / (1.0 - relative)
}

impl ItemCode {
    /// Chooses the scale for the features `q` and measures the errors.
    pub(crate) fn new(q: &[f32]) -> Self {
        let _settings = StandardFloats::enter();
        let largest = q.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        let scale = bf16_up(f64::from(largest) / 7.96875);
        let code = ItemCode { scale, ..ItemCode::default() };
        let (coarse_step, fine_step) = (f64::from(scale), f64::from(scale) / 16.0);
        let [mut norm, mut coarse_error, mut fine_error, mut coarse_length, mut fine_length] = [0.0; 5];
        for (&x, byte) in q.iter().zip(code.bytes(q)) {
            let x = f64::from(x);
            let (coarse, fine) = (f64::from(byte >> 4) - 7.5, f64::from(byte) - 127.5);
            norm += x * x;
            coarse_error += (x - coarse_step * coarse).powi(2);
            fine_error += (x - fine_step * fine).powi(2);
            coarse_length += coarse * coarse;
            fine_length += fine * fine;
        }
        let length = |squares: f64| squares.sqrt() * SLACK;
        let norm = length(norm);
        let error = |squares: f64| bf16_up(length(squares) + gamma(q.len()) * norm);
        ItemCode {
            scale,
            coarse_error: error(coarse_error),
            fine_error: error(fine_error),
            norm: f32_up(norm),
            coarse_length: f32_up(length(coarse_length)),
            fine_length: f32_up(length(fine_length)),
        }
    }

    /// The codes of `q`, eight bits each.
    fn bytes(self, q: &[f32]) -> impl Iterator<Item = u8> {
        let per_unit = if self.scale > 0.0 { 16.0 / f64::from(self.scale) } else { 0.0 };
        q.iter().map(move |&x| (f64::from(x) * per_unit + 128.0) as u8) // the conversion saturates
    }

    /// Passes the words of the upper and of the lower halves of the codes of `q`, one after the other, to `place`.
    fn words(self, q: &[f32], mut place: impl FnMut(usize, u32, u32)) {
        let _settings = StandardFloats::enter();
        let mut bytes = self.bytes(q);
        for word in 0..words(q.len()) {
            let (mut upper, mut lower) = (0, 0);
            for (n, byte) in bytes.by_ref().take(PER_WORD).enumerate() {
                let shift = n % 4 * 8 + n / 4 * 4;
                upper |= u32::from(byte >> 4) << shift;
                lower |= u32::from(byte & 15) << shift;
            }
            place(word, upper, lower);
        }
    }

    /// Writes the item to lane `lane` of a coarse tile.
    pub(crate) fn place_in_tile(self, q: &[f32], lane: usize, tile: &mut [Lanes]) {
        self.words(q, |word, upper, _| tile[word][lane] = f32::from_bits(upper));
        let last = tile.len() - 1;
        tile[last][lane] = f32::from_bits(self.scale.to_bits() | self.coarse_error.to_bits() >> 16);
    }

    /// Writes the lower halves of the item's codes to a row.
    pub(crate) fn place_in_row(self, q: &[f32], row: &mut [Lanes]) {
        let row = row.as_flattened_mut();
        self.words(q, |word, _, lower| row[word] = f32::from_bits(lower));
    }

    /// The larger of each number.
    pub(crate) fn max(self, other: Self) -> Self {
        ItemCode {
            scale: self.scale.max(other.scale),
            coarse_error: self.coarse_error.max(other.coarse_error),
            fine_error: self.fine_error.max(other.fine_error),
            norm: self.norm.max(other.norm),
            coarse_length: self.coarse_length.max(other.coarse_length),
            fine_length: self.fine_length.max(other.fine_length),
        }
    }
}

impl Int4 {
    /// For items of `width` features with codes up to `largest`, and logits that start from `bias`. `None` if there are
    /// too many features.
    pub(crate) fn new(width: usize, bias: f32, largest: ItemCode) -> Option<Self> {
        (1..=MAX_WIDTH).contains(&width).then(|| Int4 { width, gamma: gamma(width), bias, largest })
    }

    /// Lines of a coarse tile.
    pub(crate) fn tile_len(self) -> usize {
        words(self.width) + 1
    }

    /// Lines of a row of the lower halves.
    pub(crate) fn row_len(self) -> usize {
        words(self.width).div_ceil(LANES)
    }

    /// Quantizes the user with features `g`. `None` if an estimate could overflow float32.
    pub(crate) fn user(&self, g: &[f32]) -> Option<Int4User> {
        let _settings = StandardFloats::enter();
        let largest = g.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        let mut step = f32_up(f64::from(largest) / 127.0).max(f32::MIN_POSITIVE);
        let mut integers = quantize(g, step);
        while !sums_fit(&integers) {
            step *= 1.05;
            integers = quantize(g, step);
        }
        let [mut norm, mut error, mut sum, mut magnitudes] = [0.0; 4];
        for (&x, &u) in g.iter().zip(&integers) {
            let (x, u) = (f64::from(x), f64::from(u));
            norm += x * x;
            error += (x - f64::from(step) * u).powi(2);
            sum += u;
            magnitudes += u.abs();
        }
        let norm = f32_up(norm.sqrt() * SLACK);
        let (error, step) = (error.sqrt() * SLACK, f64::from(step));
        let coarse_error = error * f64::from(self.largest.coarse_length) * SLACK;
        let offset = coarse_error - 7.5 * step * sum;

        let [scale, item_error] = [self.largest.scale, self.largest.coarse_error].map(f64::from);
        let per_scale = 15.0 * step * magnitudes + offset.abs();
        let magnitude = scale * per_scale + f64::from(norm) * item_error;
        (magnitude + per_scale <= LIMIT).then_some(())?;
        let rounding = magnitude / f64::from(1 << 21) + 2f64.powi(-147) * (1.0 + scale);
        let chain = self.gamma * f64::from(self.bias.abs()) + 2f64.powi(-149) * (self.width + 1) as f64;

        let words: Vec<[u32; 2]> = integers.chunks(PER_WORD).map(user_word).collect();
        let lines = |half: usize| {
            words
                .chunks(LANES)
                .map(move |words| std::array::from_fn(|l| f32::from_bits(words.get(l).map_or(0, |word| word[half]))))
        };
        let lines = lines(0).zip(lines(1)).map(|(lower, upper)| [lower, upper]).collect();
        Some(Int4User {
            words,
            lines,
            step: step as f32,
            offset: offset as f32,
            norm,
            sum,
            coarse_error,
            fine_error: error * f64::from(self.largest.fine_length) * SLACK / 16.0,
            bias: self.bias.into(),
            error: (rounding + chain) * SLACK,
            reach: f64::from(norm) * (1.0 + self.gamma) * SLACK,
        })
    }
}

/// A user, quantized for dot products.
#[derive(Debug, Clone)]
pub(crate) struct Int4User {
    /// For each word of an item, the integers of its features in the lower and in the upper halves of its bytes.
    words: Vec<[u32; 2]>,
    /// The same, in lines.
    lines: Vec<[Lanes; 2]>,
    /// `t`.
    step: f32,
    /// Added to `t` times an integer sum.
    offset: f32,
    /// `|g|`, rounded up.
    norm: f32,
    /// The sum of the integers.
    sum: f64,
    /// The user's share of the errors, per unit of an item's scale.
    coarse_error: f64,
    fine_error: f64,
    bias: f64,
    /// What rounding adds to the error of any estimate.
    error: f64,
    /// The largest logit of an item, per unit of its norm, apart from the bias.
    reach: f64,
}

/// What an estimate proves: the logit is at most `upper` and at least `lower`, both without the bias and the user's
/// rounding error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interval {
    pub(crate) lower: f64,
    pub(crate) upper: f64,
}

impl Int4User {
    /// An item whose logit reaches `logit` has an upper end of at least this.
    pub(crate) fn upper_for(&self, logit: f32) -> f64 {
        f64::from(logit) - self.bias - self.error
    }

    /// An item whose lower end is at least this has a logit of at least `logit`.
    pub(crate) fn lower_for(&self, logit: f32) -> f64 {
        f64::from(logit) - self.bias + self.error
    }

    /// No item of this norm or a smaller one has a logit above this.
    pub(crate) fn most(&self, norm: f32) -> f64 {
        self.bias + self.reach * f64::from(norm) + self.error
    }

    /// The interval of an item in `lane` of `tile`, whose coarse estimate has the upper end `upper`.
    pub(crate) fn coarse(&self, tile: &[Lanes], lane: usize, upper: f32) -> Interval {
        let (scale, error) = header(tile, lane);
        let upper = f64::from(upper);
        Interval { lower: upper - 2.0 * (scale * self.coarse_error + f64::from(self.norm) * error), upper }
    }

    /// The interval of the same item after a look at its lower halves: `sum` is their integer sum, `fine_error` the
    /// item's.
    pub(crate) fn fine(&self, tile: &[Lanes], lane: usize, upper: f32, sum: f32, fine_error: f32) -> Interval {
        let (scale, error) = header(tile, lane);
        let coarse = f64::from(upper) - scale * self.coarse_error - f64::from(self.norm) * error;
        let middle = coarse + scale / 16.0 * f64::from(self.step) * (f64::from(sum) - 7.5 * self.sum);
        let error = (scale * self.fine_error + f64::from(self.norm) * f64::from(fine_error)) * SLACK;
        Interval { lower: middle - error, upper: middle + error }
    }
}

/// An item's scale and coarse error.
fn header(tile: &[Lanes], lane: usize) -> (f64, f64) {
    let word = tile[tile.len() - 1][lane].to_bits();
    (f32::from_bits(word & 0xffff_0000).into(), f32::from_bits(word << 16).into())
}

/// Estimates the upper ends of one user and the items of consecutive coarse tiles, and records those that reach the
/// threshold of `survivors`.
pub(crate) struct EstimateDots<'a> {
    pub(crate) user: &'a Int4User,
    /// The tiles from the first one on; those after the first `count` are only prefetched.
    pub(crate) tiles: &'a [Lanes],
    pub(crate) count: usize,
    pub(crate) survivors: &'a mut Survivors,
}

/// Tiles that share the loads of the user's words.
const TILES_TOGETHER: usize = 2;

/// How far ahead the scan prefetches, in lines.
const PREFETCH_DISTANCE: usize = 64;

impl IntegerKernel for EstimateDots<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: IntegerSimd>(mut self, s: S) {
        let whole = self.count - self.count % TILES_TOGETHER;
        for first in (0..whole).step_by(TILES_TOGETHER) {
            self.estimate::<S, TILES_TOGETHER>(s, first);
        }
        for first in whole..self.count {
            self.estimate::<S, 1>(s, first);
        }
    }
}

impl EstimateDots<'_> {
    #[inline(always)]
    fn estimate<S: IntegerSimd, const T: usize>(&mut self, s: S, first: usize) {
        let Int4User { words, step, offset, norm, .. } = self.user;
        let tile_len = words.len() + 1;
        let mut lines = [&[][..]; T];
        for t in 0..T {
            lines[t] = &self.tiles[(first + t) * tile_len..][..tile_len];
        }
        let mut sums = [s.zero_sums(); T];
        let mut at = 0;
        for group in words.chunks(LINES_PER_GROUP) {
            let n = group.len();
            let mut short = [s.zero_short_sums(); T];
            let mut part = [&[][..]; T];
            for t in 0..T {
                part[t] = &lines[t][at..][..n];
            }
            for line in 0..n {
                let (lower_user, upper_user) = (s.splat_word(group[line][0]), s.splat_word(group[line][1]));
                for t in 0..T {
                    s.prefetch(self.tiles, (first + t) * tile_len + at + line + PREFETCH_DISTANCE);
                    let [lower, upper] = s.nibbles(s.load_words(&part[t][line]));
                    short[t] = s.dot_u8(lower, lower_user, short[t]);
                    short[t] = s.dot_u8(upper, upper_user, short[t]);
                }
            }
            for t in 0..T {
                sums[t] = s.widen(short[t], sums[t]);
            }
            at += n;
        }
        let (step, offset, norm) = (s.splat(*step), s.splat(*offset), s.splat(*norm));
        for t in 0..T {
            let [scale, error] = s.load_bf16(&lines[t][tile_len - 1]);
            let error = s.fma(norm, error, s.splat(0.0));
            let upper = s.fma(scale, s.fma(s.to_floats(sums[t]), step, offset), error);
            self.survivors.record(s, first + t, upper);
        }
    }
}

/// Computes the integer sums of one user and the lower halves of items.
pub(crate) struct LowerSums<'a> {
    pub(crate) user: &'a Int4User,
    /// The rows of all items.
    pub(crate) rows: &'a [Lanes],
    /// The positions of the items' rows.
    pub(crate) positions: &'a [u32],
    /// One per item; padded to a multiple of sixteen.
    pub(crate) sums: &'a mut [Lanes],
}

/// Lines of a row whose products are summed in int16: `4 * 2 * 2 * 15 * 127` is within it.
const ROW_LINES_PER_GROUP: usize = 4;

impl IntegerKernel for LowerSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: IntegerSimd>(self, s: S) {
        let LowerSums { user, rows, positions, sums } = self;
        let row_len = user.lines.len();
        for (n, out) in sums.iter_mut().enumerate() {
            let positions = &positions[n * LANES..];
            for &position in positions.iter().skip(LANES).take(LANES) {
                for line in 0..row_len {
                    s.prefetch(rows, position as usize * row_len + line);
                }
            }
            let mut lanes = [s.splat(0.0); LANES];
            for lane in 0..LANES.min(positions.len()) {
                let row = &rows[positions[lane] as usize * row_len..][..row_len];
                let mut sum = s.zero_sums();
                for (row, user) in row.chunks(ROW_LINES_PER_GROUP).zip(user.lines.chunks(ROW_LINES_PER_GROUP)) {
                    let mut short = s.zero_short_sums();
                    for (row, user) in row.iter().zip(user) {
                        let [lower, upper] = s.nibbles(s.load_words(row));
                        short = s.dot_u8(lower, s.load_words(&user[0]), short);
                        short = s.dot_u8(upper, s.load_words(&user[1]), short);
                    }
                    sum = s.widen(short, sum);
                }
                lanes[lane] = s.to_floats(sum);
            }
            let lanes = s.transpose(lanes);
            let mut total = lanes[0];
            for lane in 1..LANES {
                total = s.add(total, lanes[lane]); // exact: integers below 2^24
            }
            s.store(total, out);
        }
    }
}

/// Words for `features` features.
fn words(features: usize) -> usize {
    features.div_ceil(PER_WORD)
}

fn quantize(g: &[f32], step: f32) -> Vec<i8> {
    g.iter().map(|&x| (f64::from(x) / f64::from(step)).round() as i8).collect()
}

/// Whether sums of products with four bits stay within int16, for every pair of bytes that are summed there.
fn sums_fit(integers: &[i8]) -> bool {
    integers.chunks(PER_WORD * LINES_PER_GROUP).all(|group| {
        [0, 2].into_iter().all(|pair| {
            let of = |sign: i32| -> i32 {
                let within = |(n, _): &(usize, &i8)| n % 4 / 2 * 2 == pair;
                group.iter().enumerate().filter(within).map(|(_, &u)| (sign * i32::from(u)).max(0)).sum()
            };
            of(1) <= MAX_GROUP_SUM && of(-1) <= MAX_GROUP_SUM
        })
    })
}

/// Up to eight integers as the words for the lower and for the upper halves of an item's bytes.
fn user_word(integers: &[i8]) -> [u32; 2] {
    [0, 4].map(|from| {
        let four = integers.iter().skip(from).take(4);
        four.enumerate().fold(0, |word, (n, &u)| word | u32::from(u as u8) << (8 * n))
    })
}

/// The smallest float32 value that is at least `x >= 0`.
fn f32_up(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) < x { nearest.next_up() } else { nearest }
}

/// The smallest bfloat16 value that is at least `x >= 0`, up to one rounding in float32.
fn bf16_up(x: f64) -> f32 {
    f32::from_bits((f32_up(x).to_bits() + 0xffff) & 0xffff_0000)
}

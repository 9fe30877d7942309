//! Dot products (GMF alone) in four bits, with a proven bound; four more bits of each item refine the estimate where
//! the bound leaves the item open. `DOTS.md` has the proofs and the notation.
//!
//! Each feature of an item has a code of eight bits. The upper four are in the tiles that a scan reads, the lower four
//! in rows of their own, for the few items that need them:
//!
//! - *coarse*: `q ~ s (c - 7.5)`, `c` the code's upper half;
//! - *fine*: `q ~ (s / 16) (16 c + l - 127.5)`, `l` its lower half;
//! - *medium*: `q ~ (s / 8) (h - 63.5)`, `h` the code's upper seven bits: for many users, who share the work of putting
//!   them together.
//!
//! A user's features are int8: `g ~ t u`. All vectors are rotated before (`rotation.rs`), which changes no dot product.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `layers`")]

use super::error_bound::SLACK;
use super::estimate::round;
use super::rotation::rotate;
use crate::error::{Result, collected, reserve};
use crate::kernel::survivors::Survivors;
use crate::kernel::{IntegerKernel, IntegerSimd, LANES, Lanes, StandardFloats};

/// Features in a word, four bits each: feature `n` of eight is in the lower half of byte `n` if `n < 4`, else in the
/// upper half of byte `n - 4`.
const PER_WORD: usize = 8;

/// How many bits of a code a scan multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeBits {
    Four,
    Seven,
}

impl CodeBits {
    /// The largest value of these bits.
    const fn max(self) -> i32 {
        match self {
            CodeBits::Four => 15,
            CodeBits::Seven => 127,
        }
    }

    /// Words of an item whose products are summed in int16.
    const fn words_per_group(self) -> usize {
        match self {
            CodeBits::Four => 8,
            CodeBits::Seven => 2,
        }
    }

    /// The largest sum of a user's positive, or negative, integers in a group.
    const fn max_group_sum(self) -> i32 {
        i16::MAX as i32 / self.max()
    }

    /// Steps of these bits in `s`.
    const fn steps(self) -> f64 {
        match self {
            CodeBits::Four => 1.0,
            CodeBits::Seven => 8.0,
        }
    }
}

/// The largest number of features: sums of products stay below 2^24, and so are exact in float32.
pub(crate) const MAX_WIDTH: usize = 1 << 13;

/// The maximum magnitude of an estimate's intermediates.
const LIMIT: f64 = 2e38;

/// An item's codes in numbers: everything but the codes themselves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ItemCode {
    /// `s`, a bfloat16 value.
    scale: f32,
    /// The errors of the codes: `|q - q~| + gamma |q|`, bfloat16 values.
    coarse_error: f32,
    medium_error: f32,
    fine_error: f32,
    /// `|q|`, rounded up.
    pub(crate) norm: f32,
    /// `|c - 7.5|`, `|h - 63.5|` and `|16 c + l - 127.5|`, rounded up.
    coarse_length: f32,
    medium_length: f32,
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

/// The terms of the bounds, as `DOTS.md` derives them. A test leaves out one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Term {
    /// `|e|`: what an item's code misses.
    ItemCode,
    /// `gamma |q|`: rounding of the logit's chain of multiply-adds.
    Chain,
    /// `R C`: what a user's integers miss.
    UserCode,
    /// Rounding of the estimate, relative to its intermediates.
    Estimate,
    /// Rounding of the estimate's subnormal results.
    SubnormalEstimate,
    /// `gamma |b|`: the bias's share of the rounding of the chain.
    Bias,
    /// Rounding of the chain's subnormal results.
    SubnormalChain,
    /// `gamma P |q|` of the largest logit of an item.
    LargestLogit,
}

/// The value of a term of a bound.
#[cfg(not(test))]
fn term(_term: Term, value: f64) -> f64 {
    value
}

#[cfg(test)]
use tests::term;

/// The relative rounding error of a logit's chain of `width` multiply-adds, with some to spare.
fn gamma(width: usize) -> f64 {
    let relative = (width + 2) as f64 / f64::from(1 << 24);
    relative / (1.0 - relative)
}

impl ItemCode {
    /// Chooses the scale for the features `q` and measures the errors.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn new(q: &[f32]) -> Result<Self> {
        let _settings = StandardFloats::enter();
        let q = rotate(q)?;
        let scale = bf16_up(largest(&q) / 7.96875);
        let code = ItemCode { scale, ..ItemCode::default() };
        let step = f64::from(scale) / 16.0;
        let (mut norm, mut errors, mut lengths) = (0.0, [0.0; 3], [0.0; 3]);
        for (&x, byte) in q.iter().zip(code.bytes(&q)) {
            norm += x * x;
            for (n, bits) in [4, 7, 8].into_iter().enumerate() {
                let unit = f64::from(1u32 << (8 - bits)); // of the steps of the whole code
                let centred = f64::from(byte >> (8 - bits)) - (f64::from(1u32 << bits) - 1.0) / 2.0;
                errors[n] += (x - step * unit * centred).powi(2);
                lengths[n] += centred * centred;
            }
        }
        let length = |squares: f64| squares.sqrt() * SLACK;
        let norm = length(norm);
        let [coarse_error, medium_error, fine_error] = errors
            .map(|squares| bf16_up(term(Term::ItemCode, length(squares)) + term(Term::Chain, gamma(q.len()) * norm)));
        let [coarse_length, medium_length, fine_length] = lengths.map(|squares| f32_up(length(squares)));
        let norm = f32_up(norm);
        Ok(ItemCode { scale, coarse_error, medium_error, fine_error, norm, coarse_length, medium_length, fine_length })
    }

    /// The codes of the rotated item `q`, eight bits each.
    fn bytes(self, q: &[f64]) -> impl Iterator<Item = u8> {
        let per_unit = if self.scale > 0.0 { 16.0 / f64::from(self.scale) } else { 0.0 };
        q.iter().map(move |&x| (x * per_unit + 128.0) as u8) // the conversion saturates
    }

    /// Passes the words of the upper and of the lower halves of the codes of `q`, one after the other, to `place`.
    fn words(self, q: &[f32], mut place: impl FnMut(usize, u32, u32)) -> Result<()> {
        let _settings = StandardFloats::enter();
        let q = rotate(q)?;
        let mut bytes = self.bytes(&q);
        for word in 0..words(q.len()) {
            let (mut upper, mut lower) = (0, 0);
            for (n, byte) in bytes.by_ref().take(PER_WORD).enumerate() {
                let shift = n % 4 * 8 + n / 4 * 4;
                upper |= u32::from(byte >> 4) << shift;
                lower |= u32::from(byte & 15) << shift;
            }
            place(word, upper, lower);
        }
        Ok(())
    }

    /// Writes the item to lane `lane` of a coarse tile.
    pub(crate) fn place_in_tile(self, q: &[f32], lane: usize, tile: &mut [Lanes]) -> Result<()> {
        self.words(q, |word, upper, _| tile[word][lane] = f32::from_bits(upper))?;
        let last = tile.len() - 1;
        tile[last][lane] = self.header();
        Ok(())
    }

    /// The scale and the coarse error in a word.
    pub(crate) fn header(self) -> f32 {
        f32::from_bits(self.scale.to_bits() | self.coarse_error.to_bits() >> 16)
    }

    /// The medium and the fine error in a word.
    pub(crate) fn errors(self) -> f32 {
        f32::from_bits(self.medium_error.to_bits() | self.fine_error.to_bits() >> 16)
    }

    /// Writes the lower halves of the item's codes to a row.
    pub(crate) fn place_in_row(self, q: &[f32], row: &mut [Lanes]) -> Result<()> {
        let row = row.as_flattened_mut();
        self.words(q, |word, _, lower| row[word] = f32::from_bits(lower))
    }

    /// The larger of each number.
    pub(crate) fn max(self, other: Self) -> Self {
        ItemCode {
            scale: self.scale.max(other.scale),
            coarse_error: self.coarse_error.max(other.coarse_error),
            medium_error: self.medium_error.max(other.medium_error),
            fine_error: self.fine_error.max(other.fine_error),
            norm: self.norm.max(other.norm),
            coarse_length: self.coarse_length.max(other.coarse_length),
            medium_length: self.medium_length.max(other.medium_length),
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

    /// Quantizes the user with features `g`, to be multiplied with these bits of the items' codes. `None` if an
    /// estimate could overflow float32.
    pub(crate) fn user(&self, g: &[f32], bits: CodeBits) -> Result<Option<Int4User>> {
        let _settings = StandardFloats::enter();
        let g = rotate(g)?;
        let mut step = (largest(&g) as f32 / 127.0).next_up().max(MIN_STEP);
        let mut integers = quantize(&g, step)?;
        loop {
            let excess = largest_group_sum(&integers, bits) as f32 / bits.max_group_sum() as f32;
            if excess <= 1.0 {
                break;
            }
            step *= excess.max(1.01);
            integers = quantize(&g, step)?;
        }
        let [mut norm, mut error, mut sum, mut magnitudes] = [0.0; 4];
        for (&x, &u) in g.iter().zip(&integers) {
            let u = f64::from(u);
            norm += x * x;
            error += (x - f64::from(step) * u).powi(2);
            sum += u;
            magnitudes += u.abs();
        }
        let norm = f32_up(norm.sqrt() * SLACK);
        let (error, step) = (error.sqrt() * SLACK, f64::from(step));
        let (length, item_error) = match bits {
            CodeBits::Four => (self.largest.coarse_length, self.largest.coarse_error),
            CodeBits::Seven => (self.largest.medium_length, self.largest.medium_error),
        };
        let unit = step / bits.steps();
        let user_error = |length: f32| term(Term::UserCode, error * f64::from(length) * SLACK);
        let code_error = user_error(length) / bits.steps();
        let offset = code_error - f64::from(bits.max()) / 2.0 * unit * sum;

        let [scale, item_error] = [self.largest.scale, item_error].map(f64::from);
        let per_scale = f64::from(bits.max()) * unit * magnitudes + offset.abs();
        let magnitude = scale * per_scale + f64::from(norm) * item_error;
        let reach = magnitude + per_scale;
        if reach.is_nan() || reach > LIMIT {
            return Ok(None);
        }
        let rounding = term(Term::Estimate, magnitude / f64::from(1 << 21))
            + term(Term::SubnormalEstimate, 2f64.powi(-147) * (1.0 + scale));
        let chain = term(Term::Bias, self.gamma * f64::from(self.bias.abs()))
            + term(Term::SubnormalChain, 2f64.powi(-149) * (self.width + 1) as f64);

        let words = collected("quantized user", integers.chunks(PER_WORD).map(user_word))?;
        let lines = |half: usize| {
            words
                .chunks(LANES)
                .map(move |words| std::array::from_fn(|l| f32::from_bits(words.get(l).map_or(0, |word| word[half]))))
        };
        let lines = collected("quantized user", lines(0).zip(lines(1)).map(|(lower, upper)| [lower, upper]))?;
        Ok(Some(Int4User {
            words,
            lines,
            step,
            unit: unit as f32,
            offset: offset as f32,
            norm,
            sum,
            code_error,
            fine_error: user_error(self.largest.fine_length) / 16.0,
            bias: self.bias.into(),
            error: (rounding + chain) * SLACK,
            reach: f64::from(norm) * (1.0 + term(Term::LargestLogit, self.gamma)) * SLACK,
        }))
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
    step: f64,
    /// `t` for the bits of the codes that are multiplied.
    unit: f32,
    /// Added to `unit` times an integer sum.
    offset: f32,
    /// `|g|`, rounded up.
    norm: f32,
    /// The sum of the integers.
    sum: f64,
    /// The user's share of the errors, per unit of an item's scale: of the multiplied bits and of whole codes.
    code_error: f64,
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

impl Interval {
    pub(crate) fn middle(self) -> f64 {
        (self.lower + self.upper) / 2.0
    }
}

impl Int4User {
    /// A logit that an item with this lower end reaches.
    pub(crate) fn reached(&self, lower: f64) -> f32 {
        ((lower + self.bias - self.error) as f32).next_down()
    }

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

    /// The interval of an item with this scale and error, whose estimate has the upper end `upper`.
    #[inline]
    pub(crate) fn interval(&self, [scale, error]: [f32; 2], upper: f32) -> Interval {
        let (scale, error, upper) = (f64::from(scale), f64::from(error), f64::from(upper));
        Interval { lower: upper - 2.0 * (scale * self.code_error + f64::from(self.norm) * error), upper }
    }

    /// The interval of an item with this scale and coarse error, whose coarse estimate has the upper end `upper`, after
    /// a look at the lower halves of its codes: `sum` is their integer sum, `fine_error` the item's.
    #[inline]
    pub(crate) fn refined(&self, [scale, error]: [f32; 2], upper: f32, sum: f32, fine_error: f32) -> Interval {
        let (scale, error) = (f64::from(scale), f64::from(error));
        let coarse = f64::from(upper) - scale * self.code_error - f64::from(self.norm) * error;
        let middle = coarse + scale / 16.0 * self.step * (f64::from(sum) - 7.5 * self.sum);
        let error = (scale * self.fine_error + f64::from(self.norm) * f64::from(fine_error)) * SLACK;
        Interval { lower: middle - error, upper: middle + error }
    }
}

/// The two bfloat16 values in a word.
#[inline]
pub(crate) fn two_bf16(word: f32) -> [f32; 2] {
    let bits = word.to_bits();
    [f32::from_bits(bits & 0xffff_0000), f32::from_bits(bits << 16)]
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
        let Int4User { words, unit, offset, norm, .. } = self.user;
        let tile_len = words.len() + 1;
        let mut lines = [&[][..]; T];
        for t in 0..T {
            lines[t] = &self.tiles[(first + t) * tile_len..][..tile_len];
        }
        let mut sums = [s.zero_sums(); T];
        let mut at = 0;
        for group in words.chunks(CodeBits::Four.words_per_group()) {
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
        let (unit, offset, norm) = (s.splat(*unit), s.splat(*offset), s.splat(*norm));
        for t in 0..T {
            let [scale, error] = s.load_bf16(&lines[t][tile_len - 1]);
            let error = s.fma(norm, error, s.splat(0.0));
            let upper = s.fma(scale, s.fma(s.to_floats(sums[t]), unit, offset), error);
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

/// Users whose sums are computed side by side.
const USERS_TOGETHER: usize = 8;

/// A few users, quantized for seven bits, as the scan reads them.
pub(crate) struct UserGroup {
    /// For each line of an expanded tile, the word of each user.
    words: Vec<[u32; USERS_TOGETHER]>,
    unit: [f32; USERS_TOGETHER],
    offset: [f32; USERS_TOGETHER],
    norm: [f32; USERS_TOGETHER],
    users: usize,
}

impl UserGroup {
    /// Groups of users.
    pub(crate) fn all(users: &[&Int4User]) -> Result<Vec<UserGroup>> {
        let mut groups = reserve("groups of users", users.len().div_ceil(USERS_TOGETHER))?;
        let mut rest = users;
        while let Some(first) = rest.first() {
            let (users, later) = rest.split_at(USERS_TOGETHER.min(rest.len()));
            let of = |n: usize| users.get(n).unwrap_or(first);
            let words = (0..2 * first.words.len()).map(|line| std::array::from_fn(|n| of(n).words[line / 2][line % 2]));
            groups.push(UserGroup {
                words: collected("groups of users", words)?,
                unit: std::array::from_fn(|n| of(n).unit),
                offset: std::array::from_fn(|n| of(n).offset),
                norm: std::array::from_fn(|n| of(n).norm),
                users: users.len(),
            });
            rest = later;
        }
        Ok(groups)
    }
}

/// Estimates the upper ends of groups of users and the items of consecutive tiles in seven bits, and records those that
/// reach the thresholds.
pub(crate) struct EstimateDotsOfMany<'a> {
    pub(crate) groups: &'a [UserGroup],
    /// Coarse tiles, the rows of their items' lower halves, and lines of errors.
    pub(crate) tiles: &'a [Lanes],
    pub(crate) rows: &'a [Lanes],
    pub(crate) errors: &'a [Lanes],
    /// A tile of seven bits.
    pub(crate) expanded: &'a mut [Lanes],
    /// One per user.
    pub(crate) survivors: &'a mut [Survivors],
}

impl IntegerKernel for EstimateDotsOfMany<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: IntegerSimd>(self, s: S) {
        let EstimateDotsOfMany { groups, tiles, rows, errors, expanded, survivors } = self;
        let Some(words) = groups.first().map(|group| group.words.len() / 2) else { return };
        let row_len = words.div_ceil(LANES);
        for (t, (tile, errors)) in tiles.chunks_exact(words + 1).zip(errors).enumerate() {
            let rows = &rows[t * LANES * row_len..];
            expand(s, &tile[..words], &rows[..rows.len().min(LANES * row_len)], expanded);
            let header = [s.load_bf16(&tile[words])[0], s.load_bf16(errors)[0]];
            let mut survivors = &mut survivors[..];
            for group in groups {
                let (of_group, rest) = survivors.split_at_mut(group.users);
                estimate_group(s, t, expanded, header, group, of_group);
                survivors = rest;
            }
        }
    }
}

/// Puts together the upper seven bits of sixteen items: a line for every four features.
#[inline(always)]
fn expand<S: IntegerSimd>(s: S, tile: &[Lanes], rows: &[Lanes], out: &mut [Lanes]) {
    let row_len = tile.len().div_ceil(LANES);
    for line in 0..row_len {
        let mut lower = [s.splat(0.0); LANES];
        for (lane, row) in rows.chunks_exact(row_len).enumerate() {
            lower[lane] = s.load(&row[line]);
        }
        let lower = s.transpose(lower);
        let mut words = [[0.0; LANES]; LANES];
        for word in 0..LANES {
            s.store(lower[word], &mut words[word]);
        }
        let first = line * LANES;
        for (word, upper) in tile[first..].iter().take(LANES).enumerate() {
            let seven = s.seven_bits(s.load_words(upper), s.load_words(&words[word]));
            for n in 0..2 {
                s.store_words(seven[n], &mut out[2 * (first + word) + n]);
            }
        }
    }
}

#[inline(always)]
fn estimate_group<S: IntegerSimd>(
    s: S,
    tile: usize,
    expanded: &[Lanes],
    [scale, error]: [S::V; 2],
    group: &UserGroup,
    survivors: &mut [Survivors],
) {
    const LINES: usize = 2 * CodeBits::Seven.words_per_group();
    let (words, words_left) = group.words.as_chunks::<LINES>();
    let (lines, lines_left) = expanded[..group.words.len()].as_chunks::<LINES>();
    let mut sums = [s.zero_sums(); USERS_TOGETHER];
    for (words, lines) in words.iter().zip(lines) {
        // The lines stay in registers and the sums in memory: there are fewer lines.
        let mut values = [s.load_words(&lines[0]); LINES];
        for n in 1..LINES {
            values[n] = s.load_words(&lines[n]);
        }
        for u in 0..USERS_TOGETHER {
            let mut short = s.zero_short_sums();
            for n in 0..LINES {
                short = s.dot_u8(values[n], s.splat_word(words[n][u]), short);
            }
            sums[u] = s.widen(short, sums[u]);
        }
    }
    for (words, line) in words_left.iter().zip(lines_left) {
        let line = s.load_words(line);
        for u in 0..USERS_TOGETHER {
            sums[u] = s.widen(s.dot_u8(line, s.splat_word(words[u]), s.zero_short_sums()), sums[u]);
        }
    }
    for (u, survivors) in survivors.iter_mut().enumerate().take(USERS_TOGETHER) {
        let error = s.fma(s.splat(group.norm[u]), error, s.splat(0.0));
        let inner = s.fma(s.to_floats(sums[u]), s.splat(group.unit[u]), s.splat(group.offset[u]));
        survivors.record(s, tile, s.fma(scale, inner, error));
    }
}

/// Words for `features` features.
fn words(features: usize) -> usize {
    features.div_ceil(PER_WORD)
}

/// The smallest `t`: with it, nothing that has to be exact underflows.
const MIN_STEP: f32 = 1e-30;

fn quantize(g: &[f64], step: f32) -> Result<Vec<i8>> {
    let per_unit = 1.0 / f64::from(step);
    collected("quantized user", g.iter().map(|&x| round(x * per_unit).0 as i8))
}

/// The largest magnitude.
fn largest(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |max, x| max.max(x.abs()))
}

/// The largest sum of positive, or of negative, integers whose products are summed in int16.
fn largest_group_sum(integers: &[i8], bits: CodeBits) -> i32 {
    let mut largest = 0;
    for group in integers.chunks(PER_WORD * bits.words_per_group()) {
        let mut sums = [[0i32; 2]; 2]; // of each pair of bytes of a word, by sign
        for four in group.chunks(4) {
            for (n, &u) in four.iter().enumerate() {
                sums[n / 2][usize::from(u < 0)] += i32::from(u).abs();
            }
        }
        largest = sums.into_iter().flatten().fold(largest, i32::max);
    }
    largest
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static LEFT_OUT: Cell<Option<Term>> = const { Cell::new(None) };
    }

    /// The value of a term of a bound, 0 if it is left out.
    pub(super) fn term(term: Term, value: f64) -> f64 {
        if LEFT_OUT.get() == Some(term) { 0.0 } else { value }
    }

    /// Distinct values from -1 to 1, not on any grid.
    fn vector(d: usize, salt: usize, size: f32) -> Vec<f32> {
        (0..d).map(|j| ((j + 1) as f32 * 0.618_034 + salt as f32 * 0.377).fract() * 2.0 * size - size).collect()
    }

    fn length(x: impl Iterator<Item = f64>) -> f64 {
        x.map(|x| x * x).sum::<f64>().sqrt()
    }

    /// What of `DOTS.md`'s bound is missing in the numbers of an item and a user: computed again, by its formulas.
    fn missing(q: &[f32], g: &[f32], bias: f32) -> Vec<String> {
        let mut missing = Vec::new();
        let mut at_least = |what: &str, number: f64, needed: f64| {
            if number < needed {
                missing.push(format!("{what}: {number:e} < {needed:e}"));
            }
        };
        let d = q.len();
        let gamma = (d + 2) as f64 * 2f64.powi(-24);
        let code = ItemCode::new(q).unwrap();
        let int4 = Int4::new(d, bias, code).unwrap();
        let (turned, bytes) = (rotate(q).unwrap(), code.bytes(&rotate(q).unwrap()).collect::<Vec<u8>>());
        let norm = length(turned.iter().copied());
        let centred = |bits: u32| {
            bytes.iter().map(move |byte| f64::from(byte >> (8 - bits)) - (2f64.powi(bits as i32) - 1.0) / 2.0)
        };
        for (bits, number) in [(4, code.coarse_error), (7, code.medium_error), (8, code.fine_error)] {
            let step = f64::from(code.scale) / 2f64.powi(bits as i32 - 4);
            let error = length(turned.iter().zip(centred(bits)).map(|(q, c)| q - step * c));
            at_least(&format!("error in {bits} bits"), number.into(), error + gamma * norm);
        }
        for (bits, code_bits, item_error) in
            [(4, CodeBits::Four, code.coarse_error), (7, CodeBits::Seven, code.medium_error)]
        {
            let user = int4.user(g, code_bits).unwrap().unwrap();
            let integers = user.words.as_flattened().iter().flat_map(|word| word.to_le_bytes().map(|byte| byte as i8));
            let integers: Vec<f64> = integers.take(d).map(f64::from).collect();
            let turned = rotate(g).unwrap();
            let user_norm = length(turned.iter().copied());
            let rest = length(turned.iter().zip(&integers).map(|(g, u)| g - user.step * u));
            let steps = 2f64.powi(bits as i32 - 4);
            at_least("norm of the user", user.norm.into(), user_norm);
            at_least("error of the user", user.code_error, rest * length(centred(bits)) / steps);
            at_least("error of the user in eight bits", user.fine_error, rest * length(centred(8)) / 16.0);
            at_least("largest logit", user.reach, user_norm * (1.0 + gamma));
            let [largest, unit, scale] = [2f64.powi(bits as i32) - 1.0, user.step / steps, code.scale.into()];
            let sum = |f: fn(f64) -> f64| integers.iter().map(|&u| f(u)).sum::<f64>();
            let offset = rest * length(centred(bits)) / steps - largest / 2.0 * unit * sum(|u| u);
            let magnitude = scale * (largest * unit * sum(f64::abs) + offset.abs()) + user_norm * f64::from(item_error);
            let subnormal = 2f64.powi(-147) * (1.0 + scale) + 2f64.powi(-149) * (d + 1) as f64;
            let needed = 2f64.powi(-21) * magnitude + subnormal + gamma * f64::from(bias.abs());
            at_least("rounding", user.error, needed);
        }
        missing
    }

    #[test]
    fn the_bound_has_all_its_terms_and_a_missing_one_is_noticed() {
        let everything_missing = || {
            let mut all = Vec::new();
            for d in [1, 7, 64, 1000] {
                for size in [1.0, 1e-4, 1e-22, 1e-44, 0.0] {
                    for (user_size, bias) in [(1.0, 0.0), (1e-42, 0.0), (0.0, 0.0), (1.0, 1e5), (1e-12, -1.0)] {
                        for salt in 0..5 {
                            all.extend(missing(&vector(d, salt, size), &vector(d, salt + 9, user_size), bias));
                        }
                    }
                }
            }
            all
        };
        assert_eq!(everything_missing(), [""; 0]);
        for term in [
            Term::ItemCode,
            Term::Chain,
            Term::UserCode,
            Term::Estimate,
            Term::SubnormalEstimate,
            Term::Bias,
            Term::SubnormalChain,
            Term::LargestLogit,
        ] {
            LEFT_OUT.set(Some(term));
            assert!(!everything_missing().is_empty(), "{term:?} can be left out");
            LEFT_OUT.set(None);
        }
    }
}

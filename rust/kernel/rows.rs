//! Rows of features, and the logits of pairs that are read from them.
//!
//! A row is one item (or user): `H0` first-layer features and then `G` GMF features, each padded with zeros to whole halves of a cache
//! line. Sixteen rows are read side by side and transposed, and then follow the same chains as a scan.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `network`")]

use super::network::{Input, Network, Scratch, Stored, hidden};
use super::{Aligned, Kernel, LANES, Lanes, Simd};
use crate::error::Result;

/// Half of the lanes: what rows are measured in.
pub(crate) const HALF: usize = LANES / 2;

/// Half a cache line of features.
pub(crate) type Half = [f32; HALF];

impl Network {
    /// Length of a row, in [`Half`]s.
    pub(crate) fn row_len(&self) -> usize {
        self.gmf_at() + self.g.div_ceil(HALF)
    }

    /// Where in a row its GMF part begins, in [`Half`]s.
    pub(crate) fn gmf_at(&self) -> usize {
        self.h0.div_ceil(HALF)
    }

    /// The first-layer part and the GMF part of a row.
    #[inline(always)]
    pub(crate) fn split_row<'a>(&self, row: &'a [Half]) -> (&'a [f32], &'a [f32]) {
        let (first, gmf) = row.split_at(self.gmf_at());
        (&first.as_flattened()[..self.h0], &gmf.as_flattened()[..self.g])
    }
}

/// A table of rows, one after the other.
#[derive(Debug)]
pub(crate) struct Rows {
    memory: Aligned,
    row_len: usize,
    /// In [`Half`]s, of all rows.
    len: usize,
}

impl Rows {
    /// `count` rows of `row_len` halves, all zeros.
    ///
    /// # Errors
    /// [`crate::Error::Memory`] that names `what` they were for.
    pub(crate) fn zeros(what: &str, count: usize, row_len: usize) -> Result<Self> {
        let len = count.saturating_mul(row_len);
        Ok(Rows { memory: Aligned::zeros(what, len / 2 + 1)?, row_len, len })
    }

    /// All rows.
    pub(crate) fn halves(&self) -> &[Half] {
        &self.padded()[..self.len]
    }

    pub(crate) fn halves_mut(&mut self) -> &mut [Half] {
        &mut self.memory.as_flattened_mut().as_chunks_mut().0[..self.len]
    }

    /// All rows, and at least a half more: a whole vector that begins in any row is within.
    #[inline(always)]
    pub(crate) fn padded(&self) -> &[Half] {
        self.memory.as_flattened().as_chunks().0
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.len / self.row_len
    }

    #[inline(always)]
    pub(crate) fn row(&self, at: usize) -> &[Half] {
        &self.halves()[at * self.row_len..][..self.row_len]
    }

    pub(crate) fn nbytes(&self) -> usize {
        self.memory.nbytes()
    }
}

/// Sixteen features, from the half at `at` on.
#[inline(always)]
fn sixteen(rows: &[Half], at: usize) -> &Lanes {
    rows[at..at + 2].as_flattened().first_chunk().expect("two halves")
}

/// An array of an expression's values for each lane: written out, so that the values stay in registers.
macro_rules! each_lane {
    ($lane:ident => $value:expr) => {
        each_lane!(@ $lane, $value, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $lane:ident, $value:expr, $($n:literal)*) => {
        [$({ let $lane: usize = $n; $value }),*]
    };
}

/// Some rows of a table, a lane each: where they begin.
#[derive(Clone, Copy)]
pub(crate) struct Sixteen<'a> {
    rows: &'a [Half],
    at: [usize; LANES],
}

impl<'a> Sixteen<'a> {
    /// Row `which(lane)` of `rows` for each lane.
    #[inline(always)]
    pub(crate) fn new(rows: &'a Rows, which: impl Fn(usize) -> usize) -> Self {
        let mut at = [0; LANES];
        for lane in 0..LANES {
            at[lane] = which(lane) * rows.row_len;
        }
        Sixteen { rows: rows.padded(), at }
    }

    /// Sixteen features of each row, from the half at `half` of a row on.
    #[inline(always)]
    fn load<S: Simd>(&self, s: S, half: usize) -> [S::V; LANES] {
        each_lane!(lane => s.load(sixteen(self.rows, self.at[lane] + half)))
    }

    /// Asks for the line of a row that has its half `half`.
    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, lane: usize, half: usize) {
        s.prefetch(self.rows, self.at[lane] + half);
    }
}

/// The users of sixteen pairs.
pub(crate) trait Users: Copy {
    /// Asks for the line of a lane's row that has its half `half`.
    fn prefetch<S: Simd>(&self, s: S, lane: usize, half: usize);

    /// The first layer's activations of sixteen features, from the half at `half` of the rows on: a vector for each feature.
    fn activations<S: Simd>(&self, s: S, items: &Sixteen<'_>, half: usize) -> [S::V; LANES];

    /// The GMF part's chain, from `logits` on.
    fn gmf<S: Simd>(&self, s: S, network: &Network, items: &Sixteen<'_>, logits: S::V) -> S::V;
}

/// A user for each pair.
impl Users for Sixteen<'_> {
    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, lane: usize, half: usize) {
        self.prefetch(s, lane, half);
    }

    #[inline(always)]
    fn activations<S: Simd>(&self, s: S, items: &Sixteen<'_>, half: usize) -> [S::V; LANES] {
        let (a, b) = (items.load(s, half), self.load(s, half));
        s.transpose(each_lane!(lane => s.relu(s.add(a[lane], b[lane]))))
    }

    #[inline(always)]
    fn gmf<S: Simd>(&self, s: S, network: &Network, items: &Sixteen<'_>, logits: S::V) -> S::V {
        let (mut logits, at) = (logits, network.gmf_at());
        if (1..=HALF).contains(&network.g) {
            // Both parts fit a vector: a single transposition.
            let both = s.transpose(each_lane!(lane => {
                s.load_halves(&self.rows[self.at[lane] + at], &items.rows[items.at[lane] + at])
            }));
            for j in 0..HALF {
                if j < network.g {
                    logits = s.fma(both[j], both[HALF + j], logits);
                }
            }
            return logits;
        }
        for first in (0..network.g).step_by(LANES) {
            let half = at + first / HALF;
            let q = s.transpose(items.load(s, half));
            let mut q_by_feature = [[0.0; LANES]; LANES];
            for j in 0..LANES {
                s.store(q[j], &mut q_by_feature[j]);
            }
            let g = s.transpose(self.load(s, half));
            for j in 0..LANES.min(network.g - first) {
                logits = s.fma(g[j], s.load(&q_by_feature[j]), logits);
            }
        }
        logits
    }
}

/// One user for all pairs.
#[derive(Clone, Copy)]
pub(crate) struct Same<'a> {
    rows: &'a [Half],
}

impl<'a> Same<'a> {
    /// The user of row `which` of `rows`.
    pub(crate) fn new(rows: &'a Rows, which: usize) -> Self {
        Same { rows: &rows.padded()[which * rows.row_len..] }
    }
}

impl Users for Same<'_> {
    #[inline(always)]
    fn prefetch<S: Simd>(&self, _s: S, _lane: usize, _half: usize) {}

    #[inline(always)]
    fn activations<S: Simd>(&self, s: S, items: &Sixteen<'_>, half: usize) -> [S::V; LANES] {
        let b = sixteen(self.rows, half);
        let mut x = s.transpose(items.load(s, half));
        for k in 0..LANES {
            x[k] = s.relu(s.add(x[k], s.splat(b[k])));
        }
        x
    }

    #[inline(always)]
    fn gmf<S: Simd>(&self, s: S, network: &Network, items: &Sixteen<'_>, logits: S::V) -> S::V {
        let mut logits = logits;
        for first in (0..network.g).step_by(LANES) {
            let half = network.gmf_at() + first / HALF;
            let (q, g) = (s.transpose(items.load(s, half)), sixteen(self.rows, half));
            for j in 0..LANES {
                if j < network.g - first {
                    logits = s.fma(s.splat(g[j]), q[j], logits);
                }
            }
        }
        logits
    }
}

/// Sixteen pairs.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a, U> {
    pub(crate) users: U,
    pub(crate) items: Sixteen<'a>,
}

impl<U: Users> Group<'_, U> {
    /// Asks for the rows of the first `lanes` pairs, all `row_len` halves of each.
    #[inline(always)]
    pub(crate) fn ask<S: Simd>(&self, s: S, lanes: usize, row_len: usize) {
        for lane in 0..lanes.min(LANES) {
            for half in (0..row_len).step_by(2) {
                self.prefetch(s, lane, half);
            }
        }
    }

    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, lane: usize, half: usize) {
        self.users.prefetch(s, lane, half);
        self.items.prefetch(s, lane, half);
    }
}

/// The first layer's activations of sixteen pairs; with each feature, a line of the rows that are read later is asked for.
#[derive(Clone, Copy)]
struct Gathered<'a, U> {
    features: &'a [Lanes],
    ahead: &'a Group<'a, U>,
}

impl<S: Simd, U: Users> Input<S> for Gathered<'_, U> {
    #[inline(always)]
    fn len(self) -> usize {
        self.features.len()
    }

    #[inline(always)]
    fn at(self, s: S, k: usize) -> S::V {
        self.ahead.prefetch(s, k % LANES, k / LANES * 2);
        s.load(&self.features[k])
    }
}

/// The logits of sixteen pairs.
pub(crate) struct Pairs<'a, U> {
    pub(crate) network: &'a Network,
    pub(crate) group: &'a Group<'a, U>,
    /// Sixteen pairs whose turn comes later: their rows are fetched from memory meanwhile.
    pub(crate) ahead: Option<&'a Group<'a, U>>,
    pub(crate) scratch: &'a mut Scratch,
}

impl<U: Users> Kernel for Pairs<'_, U> {
    type Output = Lanes;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Lanes {
        let Pairs { network, group: Group { users, items }, ahead, scratch } = self;
        if let Some(ahead) = ahead {
            // What the features, sixteen a line, do not ask for.
            for half in (network.h0.next_multiple_of(LANES) / HALF..network.row_len()).step_by(2) {
                for lane in 0..LANES {
                    ahead.prefetch(s, lane, half);
                }
            }
        }
        let mut logits = users.gmf(s, network, items, s.splat(network.output_bias));
        if network.h0 > 0 {
            let mut first_layer = std::mem::take(&mut scratch.first);
            for (block, to) in
                first_layer.as_chunks_mut::<LANES>().0[..network.h0.div_ceil(LANES)].iter_mut().enumerate()
            {
                let x = users.activations(s, items, 2 * block);
                for k in 0..LANES {
                    s.store(x[k], &mut to[k]);
                }
            }
            let features = &first_layer[..network.h0];
            logits = match ahead {
                None => hidden(s, network, Stored(features), logits, scratch),
                Some(ahead) => hidden(s, network, Gathered { features, ahead }, logits, scratch),
            };
            scratch.first = first_layer;
        }
        let mut out = [0.0; LANES];
        s.store(s.add(logits, s.splat(0.0)), &mut out);
        out
    }
}

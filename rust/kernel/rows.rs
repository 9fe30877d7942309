//! Rows of features, and the logits of pairs that are read from them.
//!
//! A row is one item (or user): `H0` first-layer features and then `G` GMF features, each padded with zeros to whole cache
//! lines. Sixteen rows are read side by side and transposed, and then follow the same chains as a scan.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `network`")]

use super::network::{Input, Network, Scratch, Stored, hidden};
use super::{Aligned, Kernel, LANES, Lanes, Simd};
use crate::error::Result;

impl Network {
    /// Length of a row, in [`Lanes`].
    pub(crate) fn row_len(&self) -> usize {
        self.gmf_at() + self.g.div_ceil(LANES)
    }

    /// Where in a row its GMF part begins, in [`Lanes`].
    pub(crate) fn gmf_at(&self) -> usize {
        self.h0.div_ceil(LANES)
    }

    /// The first-layer part and the GMF part of a row.
    #[inline(always)]
    pub(crate) fn split_row<'a>(&self, row: &'a [Lanes]) -> (&'a [f32], &'a [f32]) {
        let (first, gmf) = row.split_at(self.gmf_at());
        (&first.as_flattened()[..self.h0], &gmf.as_flattened()[..self.g])
    }
}

/// A table of rows, one after the other.
#[derive(Debug)]
pub(crate) struct Rows {
    lines: Aligned,
    row_len: usize,
}

impl Rows {
    /// `count` rows of `row_len` lines, all zeros.
    ///
    /// # Errors
    /// [`crate::Error::Memory`] that names `what` they were for.
    pub(crate) fn zeros(what: &str, count: usize, row_len: usize) -> Result<Self> {
        Ok(Rows { lines: Aligned::zeros(what, count.saturating_mul(row_len))?, row_len })
    }

    /// All rows.
    #[inline(always)]
    pub(crate) fn lines(&self) -> &[Lanes] {
        &self.lines
    }

    pub(crate) fn lines_mut(&mut self) -> &mut [Lanes] {
        &mut self.lines
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.lines.len() / self.row_len
    }

    #[inline(always)]
    pub(crate) fn row(&self, at: usize) -> &[Lanes] {
        &self.lines[at * self.row_len..][..self.row_len]
    }

    pub(crate) fn nbytes(&self) -> usize {
        self.lines.nbytes()
    }
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
    rows: &'a [Lanes],
    row_len: usize,
    at: [usize; LANES],
}

impl<'a> Sixteen<'a> {
    /// The first of `rows`, sixteen times.
    pub(crate) fn new(rows: &'a Rows) -> Self {
        Sixteen { rows: rows.lines(), row_len: rows.row_len, at: [0; LANES] }
    }

    /// Puts a row into each lane: sixteen of `rows` from `first` on; behind the end its last is repeated.
    #[inline(always)]
    pub(crate) fn locate(&mut self, rows: &[u32], first: usize) {
        let left = &rows[first..];
        let rows: [u32; LANES] = match left.first_chunk() {
            Some(sixteen) => *sixteen,
            None => std::array::from_fn(|lane| left[lane.min(left.len() - 1)]),
        };
        for lane in 0..LANES {
            self.at[lane] = rows[lane] as usize * self.row_len;
        }
    }

    /// Line `line` of a lane's row.
    #[inline(always)]
    fn load<S: Simd>(&self, s: S, lane: usize, line: usize) -> S::V {
        s.load(&self.rows[self.at[lane] + line])
    }

    /// Asks for line `line` of a lane's row.
    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, lane: usize, line: usize) {
        s.prefetch(self.rows, self.at[lane] + line);
    }
}

/// The users of sixteen pairs.
pub(crate) trait UserRows: Copy {
    /// Puts users into the lanes, as [`Sixteen::locate`]; of one user there are no rows.
    fn locate(&mut self, rows: &[u32], first: usize);

    /// Asks for line `line` of a lane's row.
    fn prefetch<S: Simd>(&self, s: S, lane: usize, line: usize);

    /// The first layer's activations that line `line` of the rows makes: a vector for each feature.
    fn activations<S: Simd>(&self, s: S, items: &Sixteen<'_>, line: usize) -> [S::V; LANES];

    /// The GMF part's chain, from `logits` on.
    fn gmf<S: Simd>(&self, s: S, network: &Network, items: &Sixteen<'_>, logits: S::V) -> S::V;
}

/// A user for each pair.
impl UserRows for Sixteen<'_> {
    #[inline(always)]
    fn locate(&mut self, rows: &[u32], first: usize) {
        self.locate(rows, first);
    }

    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, lane: usize, line: usize) {
        self.prefetch(s, lane, line);
    }

    #[inline(always)]
    fn activations<S: Simd>(&self, s: S, items: &Sixteen<'_>, line: usize) -> [S::V; LANES] {
        s.transpose(each_lane!(lane => s.relu(s.add(items.load(s, lane, line), self.load(s, lane, line)))))
    }

    #[inline(always)]
    fn gmf<S: Simd>(&self, s: S, network: &Network, items: &Sixteen<'_>, logits: S::V) -> S::V {
        let (mut logits, at) = (logits, network.gmf_at());
        if (1..=LANES / 2).contains(&network.g) {
            // Users' and items' features fit one vector: a single transposition.
            let both = s.transpose(each_lane!(lane => {
                s.load_lower_halves(&self.rows[self.at[lane] + at], &items.rows[items.at[lane] + at])
            }));
            for j in 0..LANES / 2 {
                if j < network.g {
                    logits = s.fma(both[j], both[LANES / 2 + j], logits);
                }
            }
            return logits;
        }
        for first in (0..network.g).step_by(LANES) {
            let line = at + first / LANES;
            let q = s.transpose(each_lane!(lane => items.load(s, lane, line)));
            let mut q_by_feature = [[0.0; LANES]; LANES];
            for j in 0..LANES {
                s.store(q[j], &mut q_by_feature[j]);
            }
            let g = s.transpose(each_lane!(lane => self.load(s, lane, line)));
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
    row: &'a [Lanes],
}

impl<'a> Same<'a> {
    /// The user of row `row`.
    pub(crate) fn new(row: &'a [Lanes]) -> Self {
        Same { row }
    }
}

impl UserRows for Same<'_> {
    #[inline(always)]
    fn locate(&mut self, _rows: &[u32], _first: usize) {}

    #[inline(always)]
    fn prefetch<S: Simd>(&self, _s: S, _lane: usize, _line: usize) {}

    #[inline(always)]
    fn activations<S: Simd>(&self, s: S, items: &Sixteen<'_>, line: usize) -> [S::V; LANES] {
        let b = &self.row[line];
        let mut x = s.transpose(each_lane!(lane => items.load(s, lane, line)));
        for k in 0..LANES {
            x[k] = s.relu(s.add(x[k], s.splat(b[k])));
        }
        x
    }

    #[inline(always)]
    fn gmf<S: Simd>(&self, s: S, network: &Network, items: &Sixteen<'_>, logits: S::V) -> S::V {
        let mut logits = logits;
        for first in (0..network.g).step_by(LANES) {
            let line = network.gmf_at() + first / LANES;
            let q = s.transpose(each_lane!(lane => items.load(s, lane, line)));
            let g = &self.row[line];
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

impl<U: UserRows> Group<'_, U> {
    /// Asks for the rows of the first `lanes` pairs, all `row_len` lines of each.
    #[inline(always)]
    pub(crate) fn ask<S: Simd>(&self, s: S, lanes: usize, row_len: usize) {
        for lane in 0..lanes.min(LANES) {
            for line in 0..row_len {
                self.prefetch(s, lane, line);
            }
        }
    }

    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, lane: usize, line: usize) {
        self.users.prefetch(s, lane, line);
        self.items.prefetch(s, lane, line);
    }
}

/// The first layer's activations of sixteen pairs; with each feature, a line of the rows that are read later is asked for.
#[derive(Clone, Copy)]
struct Gathered<'a, U> {
    features: &'a [Lanes],
    ahead: &'a Group<'a, U>,
}

impl<S: Simd, U: UserRows> Input<S> for Gathered<'_, U> {
    #[inline(always)]
    fn len(self) -> usize {
        self.features.len()
    }

    #[inline(always)]
    fn at(self, s: S, k: usize) -> S::V {
        s.load(&self.features[k])
    }

    const ASKS: bool = true;

    #[inline(always)]
    fn ask(self, s: S, k: usize) {
        self.ahead.prefetch(s, k % LANES, k / LANES);
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

impl<U: UserRows> Kernel for Pairs<'_, U> {
    type Output = Lanes;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Lanes {
        let Pairs { network, group: Group { users, items }, ahead, scratch } = self;
        if let Some(ahead) = ahead {
            // What the features, sixteen a line, do not ask for.
            for line in network.gmf_at()..network.row_len() {
                for lane in 0..LANES {
                    ahead.prefetch(s, lane, line);
                }
            }
        }
        let mut logits = users.gmf(s, network, items, s.splat(network.output_bias));
        if network.h0 > 0 {
            let mut first_layer = std::mem::take(&mut scratch.first);
            for (block, to) in
                first_layer.as_chunks_mut::<LANES>().0[..network.h0.div_ceil(LANES)].iter_mut().enumerate()
            {
                let x = users.activations(s, items, block);
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

//! Scores pairs gathered from rows: sixteen rows are loaded and transposed, then go through the same chains as in a
//! scan.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `layers`")]

use super::layers::{Input, Stored, hidden};
use super::row_table::{ItemRows, RowTable};
use super::weights::{Network, Scratch};
use super::{Kernel, LANES, Lanes, Simd};
use crate::pool::Watch;

/// An array of an expression's value for each lane, unrolled so that the values stay in registers.
macro_rules! each_lane {
    ($lane:ident => $value:expr) => {
        each_lane!(@ $lane, $value, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $lane:ident, $value:expr, $($n:literal)*) => {
        [$({ let $lane: usize = $n; $value }),*]
    };
}

/// Sixteen rows, one per lane.
#[derive(Clone, Copy, Default)]
struct SixteenRows<'a> {
    rows: [&'a [Lanes]; LANES],
}

impl<'a> SixteenRows<'a> {
    /// Points the lanes to the rows at sixteen of `positions`, from `first` on; past the end, to the last one.
    #[inline(always)]
    fn locate(&mut self, positions: &[u32], first: usize, row: impl Fn(usize) -> &'a [Lanes]) {
        let rest = &positions[first..];
        let positions: [u32; LANES] = match rest.first_chunk() {
            Some(sixteen) => *sixteen,
            None => std::array::from_fn(|lane| rest[lane.min(rest.len() - 1)]),
        };
        for lane in 0..LANES {
            self.rows[lane] = row(positions[lane] as usize);
        }
    }

    /// Line `line` of a lane's row.
    #[inline(always)]
    fn load<S: Simd>(&self, s: S, lane: usize, line: usize) -> S::V {
        s.load(&self.rows[lane][line])
    }

    /// Prefetches line `line` of a lane's row.
    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, lane: usize, line: usize) {
        s.prefetch(self.rows[lane], line);
    }
}

/// The users of a list of pairs.
#[derive(Clone, Copy)]
pub(crate) enum PairUsers<'a> {
    /// One user per pair: the table, and their positions in it.
    Each(&'a RowTable, &'a [u32]),
    /// The row of one user for all pairs.
    One(&'a [Lanes]),
}

impl<'a> PairUsers<'a> {
    /// The row of a pair's user.
    #[inline(always)]
    pub(super) fn row(self, pair: usize) -> &'a [Lanes] {
        match self {
            PairUsers::Each(table, positions) => table.row(positions[pair] as usize),
            PairUsers::One(user) => user,
        }
    }

    /// The rows of sixteen pairs, from `first` on.
    #[inline(always)]
    fn locate(self, first: usize) -> UserRows<'a> {
        match self {
            PairUsers::Each(table, positions) => {
                let (mut users, rows) = (SixteenRows::default(), table.rows());
                users.locate(positions, first, |at| rows.row(at));
                UserRows::Each(users)
            }
            PairUsers::One(user) => UserRows::One(user),
        }
    }
}

/// The users' rows of sixteen pairs.
#[derive(Clone, Copy)]
#[expect(clippy::large_enum_variant, reason = "a few live on the stack")]
enum UserRows<'a> {
    Each(SixteenRows<'a>),
    One(&'a [Lanes]),
}

impl UserRows<'_> {
    /// Prefetches line `line` of a lane's row.
    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, lane: usize, line: usize) {
        if let UserRows::Each(users) = self {
            users.prefetch(s, lane, line);
        }
    }

    /// The first layer's activations for line `line` of the rows: one vector per feature.
    #[inline(always)]
    fn activations<S: Simd>(&self, s: S, items: &SixteenRows<'_>, line: usize) -> [S::V; LANES] {
        match self {
            UserRows::Each(users) => {
                s.transpose(each_lane!(lane => s.relu(s.add(items.load(s, lane, line), users.load(s, lane, line)))))
            }
            UserRows::One(user) => {
                let b = &user[line];
                let mut x = s.transpose(each_lane!(lane => items.load(s, lane, line)));
                for k in 0..LANES {
                    x[k] = s.relu(s.add(x[k], s.splat(b[k])));
                }
                x
            }
        }
    }

    /// Computes the chain of the GMF block, starting from `logits`.
    #[inline(always)]
    fn gmf<S: Simd>(&self, s: S, network: &Network, items: &SixteenRows<'_>, logits: S::V) -> S::V {
        match self {
            UserRows::Each(users) => gmf_of_each(s, network, users, items, logits),
            UserRows::One(user) => gmf_of_one(s, network, user, items, logits),
        }
    }
}

#[inline(always)]
fn gmf_of_each<S: Simd>(
    s: S,
    network: &Network,
    users: &SixteenRows<'_>,
    items: &SixteenRows<'_>,
    mut logits: S::V,
) -> S::V {
    let at = network.gmf_at();
    if (1..=LANES / 2).contains(&network.g) {
        // The features of user and item fit into one vector, so a single transposition suffices.
        let both = s.transpose(each_lane!(lane => {
            s.load_lower_halves(&users.rows[lane][at], &items.rows[lane][at])
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
        let g = s.transpose(each_lane!(lane => users.load(s, lane, line)));
        for j in 0..LANES.min(network.g - first) {
            logits = s.fma(g[j], s.load(&q_by_feature[j]), logits);
        }
    }
    logits
}

#[inline(always)]
fn gmf_of_one<S: Simd>(s: S, network: &Network, user: &[Lanes], items: &SixteenRows<'_>, mut logits: S::V) -> S::V {
    for first in (0..network.g).step_by(LANES) {
        let line = network.gmf_at() + first / LANES;
        let q = s.transpose(each_lane!(lane => items.load(s, lane, line)));
        let g = &user[line];
        for j in 0..LANES {
            if j < network.g - first {
                logits = s.fma(s.splat(g[j]), q[j], logits);
            }
        }
    }
    logits
}

/// Sixteen pairs.
#[derive(Clone, Copy)]
struct PairGroup<'a> {
    users: UserRows<'a>,
    items: SixteenRows<'a>,
}

impl PairGroup<'_> {
    /// Prefetches all `row_len` lines of the rows of the first `lanes` pairs.
    #[inline(always)]
    fn prefetch_rows<S: Simd>(&self, s: S, lanes: usize, row_len: usize) {
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

/// The first layer's activations of sixteen pairs; reading a feature also prefetches a line of the rows `ahead`.
#[derive(Clone, Copy)]
struct Gathered<'a> {
    features: &'a [Lanes],
    ahead: &'a PairGroup<'a>,
}

impl<S: Simd> Input<S> for Gathered<'_> {
    #[inline(always)]
    fn len(self) -> usize {
        self.features.len()
    }

    #[inline(always)]
    fn at(self, s: S, k: usize) -> S::V {
        s.load(&self.features[k])
    }

    const PREFETCHES: bool = true;

    #[inline(always)]
    fn prefetch(self, s: S, k: usize) {
        self.ahead.prefetch(s, k % LANES, k / LANES);
    }
}

/// Computes the logits of sixteen pairs, and prefetches the rows of `ahead`, sixteen later pairs.
#[inline(always)]
fn score_pairs<S: Simd>(
    s: S,
    network: &Network,
    group: &PairGroup<'_>,
    ahead: Option<&PairGroup<'_>>,
    scratch: &mut Scratch,
) -> Lanes {
    let PairGroup { users, items } = group;
    if let Some(ahead) = ahead {
        // Prefetch the GMF lines; the first-layer lines, sixteen features each, are prefetched by `Gathered`.
        for line in network.gmf_at()..network.row_len() {
            for lane in 0..LANES {
                ahead.prefetch(s, lane, line);
            }
        }
    }
    let mut logits = users.gmf(s, network, items, s.splat(network.output_bias));
    if network.h0 > 0 {
        let mut first_layer = std::mem::take(&mut scratch.first);
        for (block, to) in first_layer.as_chunks_mut::<LANES>().0[..network.h0.div_ceil(LANES)].iter_mut().enumerate() {
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

/// The prefetch distance, in groups of sixteen pairs.
const PREFETCH_DISTANCE: usize = 3;

/// The maximum lines of a row for prefetching whole rows at once. Longer rows are prefetched line by line while earlier
/// pairs are computed: sixteen of them exceed the lines a core can have in flight.
const MAX_LINES_AT_ONCE: usize = 4;

/// Computes the logits of any number of pairs, sixteen at a time.
pub(crate) struct ScorePairList<'a> {
    pub(crate) network: &'a Network,
    /// As many as items, or one for all.
    pub(crate) users: PairUsers<'a>,
    pub(crate) item_rows: &'a ItemRows,
    pub(crate) items: &'a [u32],
    pub(crate) logits: &'a mut [f32],
    pub(crate) watch: &'a Watch<'a>,
    pub(crate) scratch: &'a mut Scratch,
}

impl Kernel for ScorePairList<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ScorePairList { network, users, item_rows, items, logits, watch, scratch } = self;
        let (groups, row_len) = (items.len().div_ceil(LANES), network.row_len());
        let table = item_rows.table().rows();
        let at_once = row_len <= MAX_LINES_AT_ONCE;
        let group = PairGroup { users: UserRows::One(&[]), items: SixteenRows::default() };
        let mut located = [group; PREFETCH_DISTANCE + 1]; // a ring: group n at n modulo its length
        for n in 0..groups + PREFETCH_DISTANCE {
            if n < groups {
                let group = &mut located[n % (PREFETCH_DISTANCE + 1)];
                group.users = users.locate(n * LANES);
                group.items.locate(items, n * LANES, |item| item_rows.row_of(table, item));
                if at_once || n < PREFETCH_DISTANCE {
                    group.prefetch_rows(s, LANES.min(items.len() - n * LANES), row_len);
                }
            }
            let Some(at) = n.checked_sub(PREFETCH_DISTANCE) else { continue };
            if watch.stopped(LANES * network.multiply_adds()) {
                return;
            }
            let group = &located[at % (PREFETCH_DISTANCE + 1)];
            let ahead = (!at_once && n < groups).then_some(&located[n % (PREFETCH_DISTANCE + 1)]);
            let sixteen = score_pairs(s, network, group, ahead, scratch);
            let to = &mut logits[at * LANES..];
            let len = to.len().min(LANES);
            to[..len].copy_from_slice(&sixteen[..len]);
        }
    }
}

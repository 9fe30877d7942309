//! The scan in integers: estimates of all logits, whose error is bounded, and float32 for the items that the bound leaves open. What
//! comes out is what the scan in float32 gives, bit for bit.

use std::ops::Range;

use super::{Collect, MOST_TILES, Query, panel_tiles};
use crate::engine::{Engine, Users, with_scratch};
use crate::error::{Result, reserve};
use crate::filter::Cursor;
use crate::kernel::bounds::IntegerUser;
use crate::kernel::integer::Estimate;
use crate::kernel::{LANES, StandardFloats};
use crate::order::{Key, reaches};
use crate::pool::Watch;

/// Where more than one item in so many is wanted, integers are not tried.
const WANTED: usize = 8;

/// Where more than one item in so many has to be scored in float32 after all, integers are given up: scoring all by rows is cheaper.
const OPEN: usize = 2;

/// Items of a row that may wait for their float32 score besides those that it wants.
const WAITING: usize = 128;

impl Query<'_> {
    /// Shows each row's collector the items of these tiles that its filters leave.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(super) fn scan_in_integers<C: Collect>(
        &self,
        rows: Range<usize>,
        tiles: Range<usize>,
        into: &mut [C],
        watch: &Watch<'_>,
    ) -> Result<()> {
        let Query { engine, users, .. } = self;
        let (network, (isa, integers)) = (&engine.network, engine.integers.as_ref().expect("tiles of integers"));
        let tile_len = integers.tile_len();
        let panel = panel_tiles(tile_len, network);
        let first_item = (tiles.start * LANES) as u32;
        let mut states: Vec<State<'_, C>> = Vec::with_capacity(into.len());
        for (row, into) in rows.clone().zip(into) {
            let (b, g) = network.split_row(users.row(row));
            let few = into.wanted().unwrap_or(0) <= tiles.len() * LANES / WANTED;
            let user = if few { integers.user(b, g) } else { None };
            states.push(State::new(user, into, Cursor::new(self.excluded(row), first_item), panel * LANES)?);
        }
        let (mut estimates, mut hits) = ([[0.0; LANES]; MOST_TILES], [0u16; MOST_TILES]);
        for first in tiles.clone().step_by(panel) {
            let here = first..tiles.end.min(first + panel);
            let lines = &engine.item_tiles[here.start * tile_len..here.end * tile_len];
            let ahead = &engine.item_tiles[here.end * tile_len..];
            let scanned = (here.end - tiles.start) * LANES;
            for (row, state) in rows.clone().zip(&mut states) {
                if watch.stopped(lines.len() * LANES + here.len() * LANES * network.multiply_adds()) {
                    return Ok(());
                }
                let Some(user) = &state.user else {
                    self.visit_tiles(row, here.clone(), state.into, watch);
                    continue;
                };
                with_scratch(network, |scratch| {
                    isa.run(Estimate {
                        network,
                        layer: &integers.layer,
                        tiles: lines,
                        ahead: if row == rows.start { ahead } else { &[] },
                        user: &user.pairs,
                        gmf: network.split_row(users.row(row)).1,
                        threshold: state.floor,
                        scratch,
                        estimates: &mut estimates[..here.len()],
                        hits: &mut hits[..here.len()],
                    });
                });
                for (tile, (estimates, &hits)) in here.clone().zip(estimates.iter().zip(&hits)) {
                    let mut left = hits;
                    if left != 0 {
                        left &= self.real_and_shared(tile) & !state.excluded.sixteen((tile * LANES) as u32);
                    }
                    while left != 0 {
                        let lane = left.trailing_zeros();
                        state.take((tile * LANES) as u32 + lane, estimates[lane as usize]);
                        left &= left - 1;
                    }
                }
                if state.is_full() {
                    state.cut();
                    if state.is_still_full() {
                        self.settle(row, state, watch)?;
                    }
                    if state.settled > state.wanted() + WAITING + scanned / OPEN {
                        self.settle(row, state, watch)?;
                        state.user = None;
                    }
                }
            }
        }
        for (row, state) in rows.zip(&mut states) {
            state.cut();
            self.settle(row, state, watch)?;
        }
        Ok(())
    }

    /// Scores the waiting items in float32 and shows them to the collector.
    fn settle(&self, row: usize, state: &mut State<'_, impl Collect>, watch: &Watch<'_>) -> Result<()> {
        let mut items = reserve("open items", state.waiting.len())?;
        items.extend(state.waiting.drain(..).map(Key::item));
        items.sort_unstable();
        state.settled += items.len();
        self.visit_listed(row, &items, state.into, watch);
        state.raise_floor();
        Ok(())
    }

    /// Shows a row's collector the items of these tiles, each scored in float32 from its row.
    fn visit_tiles(&self, row: usize, tiles: Range<usize>, into: &mut impl Collect, watch: &Watch<'_>) {
        let mut items = Vec::with_capacity(tiles.len() * LANES);
        for tile in tiles {
            let mut left = self.real_and_shared(tile);
            while left != 0 {
                items.push((tile * LANES) as u32 + left.trailing_zeros());
                left &= left - 1;
            }
        }
        self.visit_listed(row, &items, into, watch);
    }
}

/// How far a row has come.
struct State<'a, C> {
    /// `None` where the row is scored in float32: a user whom the integers are not made for, or for whom they do not pay.
    user: Option<IntegerUser>,
    into: &'a mut C,
    excluded: Cursor<'a>,
    /// An item whose estimate is below it cannot change what is collected.
    floor: f32,
    /// An item whose estimate reaches it is taken, whatever its score is exactly.
    certain: f32,
    /// Items that the estimates leave open, with these.
    waiting: Vec<Key>,
    /// How many items have been scored in float32.
    settled: usize,
}

impl<'a, C: Collect> State<'a, C> {
    /// `panel`: how many items may be taken between two looks at [`State::is_full`].
    fn new(user: Option<IntegerUser>, into: &'a mut C, excluded: Cursor<'a>, panel: usize) -> Result<Self> {
        let error = user.as_ref().map_or(0.0, |user| user.error);
        let _settings = StandardFloats::enter();
        let certain = above(f64::from(into.certain()) + error);
        let mut state =
            State { user, into, excluded, floor: f32::NEG_INFINITY, certain, waiting: Vec::new(), settled: 0 };
        if state.user.is_some() {
            state.waiting = reserve("open items", state.full() + panel)?;
        }
        state.raise_floor();
        Ok(state)
    }

    #[inline]
    fn take(&mut self, item: u32, estimate: f32) {
        if reaches(estimate, self.certain) {
            self.into.take(item, estimate);
        } else {
            self.waiting.push(Key::new(estimate, item));
        }
    }

    /// The score is at most the estimate plus the error.
    fn raise_floor(&mut self) {
        if let Some(user) = &self.user {
            let _settings = StandardFloats::enter();
            let floor = below(f64::from(self.into.threshold()) - user.error);
            self.floor = self.floor.max(floor);
        }
    }

    fn wanted(&self) -> usize {
        self.into.wanted().unwrap_or(0)
    }

    /// How many items may wait before some are dropped or scored.
    fn full(&self) -> usize {
        2 * self.wanted() + WAITING
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= self.full()
    }

    /// Whether a cut has left so much that the next would come soon.
    fn is_still_full(&self) -> bool {
        self.waiting.len() >= (3 * self.wanted() + WAITING) / 2
    }

    /// Drops what `k` others beat for certain, where `k` are wanted: their scores are at least the `k`-th highest estimate less the
    /// error, and an item's is at most its estimate plus the error.
    #[cold]
    fn cut(&mut self) {
        if let (Some(k), Some(user)) = (self.into.wanted(), &self.user)
            && self.waiting.len() > k
        {
            let (_, last, _) = self.waiting.select_nth_unstable(k - 1);
            let _settings = StandardFloats::enter();
            let floor = below(f64::from(last.score()) - 2.0 * user.error);
            self.floor = self.floor.max(floor);
            self.waiting.retain(|key| reaches(key.score(), self.floor));
        }
    }
}

/// A float32 value below or at `x`, which may have been rounded.
fn below(x: f64) -> f32 {
    (x as f32).next_down()
}

/// A float32 value above or at `x`, which may have been rounded.
fn above(x: f64) -> f32 {
    (x as f32).next_up()
}

impl Engine {
    /// The integers' estimates of the logits of row `row`'s user and every item, and the most by which one can differ from the
    /// float32 logit; `None` where the row is scored in float32. For tests of the bound.
    #[doc(hidden)]
    pub fn estimates(&self, users: &Users<'_>, row: usize) -> Option<(Vec<f32>, f64)> {
        let (isa, integers) = self.integers.as_ref()?;
        let (b, gmf) = self.network.split_row(users.row(row));
        let user = integers.user(b, gmf)?;
        let tiles = self.num_items().div_ceil(LANES);
        let mut estimates = vec![[0.0; LANES]; tiles];
        with_scratch(&self.network, |scratch| {
            isa.run(Estimate {
                network: &self.network,
                layer: &integers.layer,
                tiles: &self.item_tiles,
                ahead: &[],
                user: &user.pairs,
                gmf,
                threshold: 0.0,
                scratch,
                estimates: &mut estimates,
                hits: &mut vec![0; tiles],
            });
        });
        let mut estimates = estimates.into_flattened();
        estimates.truncate(self.num_items());
        Some((estimates, user.error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Pass;
    use crate::format::{Model, TensorInfo};
    use crate::kernel::{IntegerIsa, Isa};
    use crate::pool::Call;

    fn model() -> Model {
        let shapes: [(&str, &[usize]); 12] = [
            ("gmf.user_embedding.weight", &[3, 5]),
            ("gmf.item_embedding.weight", &[100, 5]),
            ("mlp.user_embedding.weight", &[3, 9]),
            ("mlp.item_embedding.weight", &[100, 9]),
            ("mlp.layers.0.weight", &[27, 18]),
            ("mlp.layers.0.bias", &[27]),
            ("mlp.layers.1.weight", &[37, 27]),
            ("mlp.layers.1.bias", &[37]),
            ("mlp.layers.2.weight", &[11, 37]),
            ("mlp.layers.2.bias", &[11]),
            ("output.weight", &[1, 16]),
            ("output.bias", &[1]),
        ];
        let infos = shapes.map(|(name, shape)| TensorInfo { name: name.into(), shape: shape.to_vec() });
        let value = |n: usize| (n.wrapping_mul(2_654_435_761) >> 8 & 0xffff) as f32 / 32768.0 - 1.0;
        let fill = &mut |tensor: usize, first: usize, to: &mut [f32]| {
            to.iter_mut().enumerate().for_each(|(at, x)| *x = value(tensor * 99_991 + first + at));
            Ok(())
        };
        Model::assemble(None, Default::default(), &infos, fill).unwrap()
    }

    #[test]
    fn every_set_of_instructions_gives_the_same_estimates() {
        let mut all = Vec::new();
        for isa in Isa::supported() {
            let mut engine = Engine::new(model(), None, isa, Pass::Int16, Call::ALONE).unwrap();
            for with in IntegerIsa::of(isa) {
                engine.integers.as_mut().unwrap().0 = with;
                let (estimates, error) = engine.estimates(&engine.user(1, 1).unwrap(), 0).unwrap();
                println!("{with:?}: bound {error:e}");
                all.push((estimates.into_iter().map(f32::to_bits).collect::<Vec<_>>(), error));
            }
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

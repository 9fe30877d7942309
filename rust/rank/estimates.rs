//! The scan in integers: estimates of all logits, whose error is bounded, and float32 for the items that the bound leaves open. What
//! comes out is what the scan in float32 gives, bit for bit.
//!
//! A row begins with the cheapest pass that suits it, and takes the next where too much is left open: int8, int16, float32.

use std::ops::Range;

use super::{Collect, Query, lanes, panel_tiles};
use crate::choose::pays;
use crate::engine::{Engine, Users, with_scratch};
use crate::error::{Result, reserve};
use crate::filter::Cursor;
use crate::kernel::bounds::Integers;
use crate::kernel::hits::Hits;
use crate::kernel::integer::{Estimate, IntegerUser, Tiles, Width};
use crate::kernel::{LANES, StandardFloats};
use crate::order::reaches;
use crate::pool::Watch;

/// Where more than one item in so many is wanted, integers are not tried.
const WANTED: usize = 8;

/// Where more than one item in so many is wanted, int8 is not tried: near the last of them lie too many for so coarse a look. Nor is
/// it for the rank of an item, which may be anywhere.
const WANTED_OF_INT8: usize = 256;

/// Where more than one item in so many has to be scored in float32 after all, int16 is given up: scoring all by rows is cheaper.
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
        let engine = self.engine;
        let (network, (isa, integers)) = (&engine.network, engine.integers.as_ref().expect("tiles of integers"));
        let all = engine.integer_tiles(integers);
        let panel = panel_tiles(all.lines.read(Width::Int8).max(all.lines.read(Width::Int16)), network);
        let (first_item, items) = ((tiles.start * LANES) as u32, tiles.len() * LANES);
        let mut states: Vec<State<'_, C>> = Vec::with_capacity(into.len());
        for (row, into) in rows.clone().zip(into) {
            let widths: &[Width] = match into.wanted() {
                Some(k) if k * WANTED_OF_INT8 <= items => &[Width::Int8, Width::Int16],
                Some(k) if k * WANTED > items => &[],
                _ => &[Width::Int16],
            };
            let mut state = State::new(into, Cursor::new(self.excluded(row), first_item));
            state.begin(self.pass(row, widths));
            if state.pass.is_some() {
                state.waiting = reserve("open items", state.full() + panel * LANES)?; // a panel is taken between two looks
            }
            states.push(state);
        }
        let mut hits = Hits::new(panel.min(tiles.len()))?;
        for first in tiles.clone().step_by(panel) {
            let here = first..tiles.end.min(first + panel);
            let (in_panel, ahead) = (all.slice(here.clone()), all.from(here.end));
            let scanned = (here.end - tiles.start) * LANES;
            for (row, state) in rows.clone().zip(&mut states) {
                if watch.stopped(here.len() * LANES * (network.tile_len() + network.multiply_adds())) {
                    return Ok(());
                }
                let Some((width, user)) = &state.pass else {
                    self.visit_tiles(row, here.clone(), state.into, watch);
                    continue;
                };
                let width = *width;
                hits.seek(state.floor);
                with_scratch(network, |scratch| {
                    isa.run(Estimate {
                        network,
                        layer: integers.layer(width),
                        tiles: in_panel,
                        ahead: (row == rows.start).then_some(ahead),
                        user,
                        scratch,
                        hits: &mut hits,
                    });
                });
                let settings = StandardFloats::enter();
                for hit in hits.found() {
                    let tile = here.start + hit.tile;
                    let excluded = state.excluded.sixteen((tile * LANES) as u32);
                    for lane in lanes(hit.lanes & self.real_and_shared(tile) & !excluded) {
                        let item = tile * LANES + lane;
                        let spread = if width == Width::Int8 { all.spread(item) } else { 0.0 };
                        state.take(item as u32, hit.logits[lane], spread);
                    }
                }
                drop(settings);
                if state.is_full() {
                    self.cut(row, state, watch)?;
                    if state.is_still_full() {
                        self.settle(row, state, state.waiting.len(), watch)?;
                    }
                    let worth = match width {
                        Width::Int8 => pays(network, width, state.settled.saturating_sub(state.allowance()), scanned),
                        Width::Int16 => state.settled <= state.allowance() + scanned / OPEN,
                    };
                    if !worth {
                        self.settle(row, state, state.waiting.len(), watch)?;
                        let next = if width == Width::Int8 { &[Width::Int16][..] } else { &[] };
                        state.begin(self.pass(row, next));
                    }
                }
            }
        }
        for (row, state) in rows.zip(&mut states) {
            self.cut(row, state, watch)?;
            self.settle(row, state, state.waiting.len(), watch)?;
        }
        Ok(())
    }

    /// The first of these passes that the row's user can have.
    fn pass(&self, row: usize, widths: &[Width]) -> Option<(Width, IntegerUser)> {
        let (_, integers) = self.engine.integers.as_ref()?;
        let (b, g) = self.engine.network.split_row(self.users.row(row));
        widths.iter().find_map(|&width| Some((width, integers.user(width, b, g)?)))
    }

    /// Drops waiting items that cannot be among the best: by the estimates alone, and where that leaves many, by the scores of those that
    /// look best.
    fn cut(&self, row: usize, state: &mut State<'_, impl Collect>, watch: &Watch<'_>) -> Result<()> {
        let Some(k) = state.into.wanted().filter(|&k| state.waiting.len() > k) else { return Ok(()) };
        state.cut(k);
        if state.is_still_full() {
            state.waiting.select_nth_unstable_by(k - 1, |a, b| b.middle().total_cmp(&a.middle()));
            self.settle(row, state, k, watch)?;
            state.drop_below_floor();
        }
        Ok(())
    }

    /// Scores the first `count` of the waiting items in float32 and shows them to the collector.
    fn settle(&self, row: usize, state: &mut State<'_, impl Collect>, count: usize, watch: &Watch<'_>) -> Result<()> {
        let mut items = reserve("open items", count)?;
        items.extend(state.waiting.drain(..count).map(|waiting| waiting.item));
        items.sort_unstable();
        state.settled += items.len();
        self.visit_listed(row, &items, state.into, watch);
        state.into.tighten();
        state.raise_floor();
        Ok(())
    }

    /// Shows a row's collector the items of these tiles, each scored in float32 from its row.
    fn visit_tiles(&self, row: usize, tiles: Range<usize>, into: &mut impl Collect, watch: &Watch<'_>) {
        let mut items = Vec::with_capacity(tiles.len() * LANES);
        for tile in tiles {
            items.extend(lanes(self.real_and_shared(tile)).map(|lane| (tile * LANES + lane) as u32));
        }
        self.visit_listed(row, &items, into, watch);
    }
}

/// How far a row has come.
struct State<'a, C> {
    /// `None` where the row is scored in float32: a user whom the integers are not made for, or for whom they do not pay.
    pass: Option<(Width, IntegerUser)>,
    into: &'a mut C,
    excluded: Cursor<'a>,
    /// An item whose estimate, raised by its spread, is below it cannot change what is collected.
    floor: f32,
    /// An item whose estimate, lowered by its spread, reaches it is taken, whatever its score is exactly.
    certain: f32,
    /// Items that the estimates leave open.
    waiting: Vec<Waiting>,
    /// How many items have been scored in float32.
    settled: usize,
}

/// An item whose score is at most `most` and at least `least`, but for the user's error in each.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    item: u32,
    most: f32,
    least: f64,
}

impl Waiting {
    fn middle(&self) -> f64 {
        self.least + f64::from(self.most)
    }
}

impl<'a, C: Collect> State<'a, C> {
    fn new(into: &'a mut C, excluded: Cursor<'a>) -> Self {
        let (floor, certain) = (f32::NEG_INFINITY, f32::INFINITY);
        State { pass: None, into, excluded, floor, certain, waiting: Vec::new(), settled: 0 }
    }

    /// Goes on with `pass`. Nothing waits that another has left open.
    fn begin(&mut self, pass: Option<(Width, IntegerUser)>) {
        let error = pass.as_ref().map_or(0.0, |(_, user)| user.error);
        self.pass = pass;
        let _settings = StandardFloats::enter();
        self.certain = above(f64::from(self.into.certain()) + error);
        self.floor = f32::NEG_INFINITY;
        self.raise_floor();
    }

    #[inline]
    fn take(&mut self, item: u32, most: f32, spread: f32) {
        let least = f64::from(most) - 2.0 * f64::from(spread);
        if least >= self.certain.into() {
            self.into.take(item, most);
        } else {
            self.waiting.push(Waiting { item, most, least });
        }
    }

    /// The score is at most `most` plus the error.
    fn raise_floor(&mut self) {
        if let Some((_, user)) = &self.pass {
            let _settings = StandardFloats::enter();
            let floor = below(f64::from(self.into.threshold()) - user.error);
            self.floor = self.floor.max(floor);
        }
    }

    fn wanted(&self) -> usize {
        self.into.wanted().unwrap_or(0)
    }

    /// Items that have to be scored in float32 even where the estimates are good.
    fn allowance(&self) -> usize {
        self.wanted() + WAITING
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

    /// Drops what `k` of the waiting items, which are more, beat for certain: their scores are at least the `k`-th highest `least` less
    /// the error, and an item's is at most its `most` plus the error.
    #[cold]
    fn cut(&mut self, k: usize) {
        if let Some((_, user)) = &self.pass {
            let _settings = StandardFloats::enter();
            let (_, last, _) = self.waiting.select_nth_unstable_by(k - 1, |a, b| b.least.total_cmp(&a.least));
            let floor = below(last.least - 2.0 * user.error);
            self.floor = self.floor.max(floor);
            self.drop_below_floor();
        }
    }

    fn drop_below_floor(&mut self) {
        self.waiting.retain(|waiting| reaches(waiting.most, self.floor));
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
    fn integer_tiles(&self, integers: &Integers) -> Tiles<'_> {
        Tiles { lines: integers.lines(), tiles: &self.item_tiles, pairs: &self.item_pairs }
    }

    /// Between which values the estimates prove the logits of row `row`'s user and every item to lie; `None` where the row is scored in
    /// float32. For tests of the bound.
    #[doc(hidden)]
    pub fn proven(&self, users: &Users<'_>, row: usize) -> Option<Vec<[f64; 2]>> {
        let (isa, integers) = self.integers.as_ref()?;
        let (b, gmf) = self.network.split_row(users.row(row));
        let (width, all) = (integers.width(), self.integer_tiles(integers));
        let user = integers.user(width, b, gmf)?;
        let tiles = self.num_items().div_ceil(LANES);
        let mut hits = Hits::new(tiles).ok()?;
        hits.seek(f32::NEG_INFINITY);
        with_scratch(&self.network, |scratch| {
            isa.run(Estimate {
                network: &self.network,
                layer: integers.layer(width),
                tiles: all,
                ahead: None,
                user: &user,
                scratch,
                hits: &mut hits,
            });
        });
        let between = |(item, most): (usize, f32)| {
            [f64::from(most) - 2.0 * f64::from(all.spread(item)) - user.error, f64::from(most) + user.error]
        };
        let most = hits.found().iter().flat_map(|hit| hit.logits);
        Some(most.take(self.num_items()).enumerate().map(between).collect())
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
        for pass in [Pass::Int8, Pass::Int16] {
            let mut all = Vec::new();
            for isa in Isa::supported() {
                let mut engine = Engine::new(model(), None, isa, pass, Call::ALONE).unwrap();
                for with in IntegerIsa::of(isa) {
                    engine.integers.as_mut().unwrap().0 = with;
                    let proven = engine.proven(&engine.user(1, 1).unwrap(), 0).unwrap();
                    println!("{pass:?} {with:?}: {:?}", proven[0]);
                    all.push(proven);
                }
            }
            assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }
}

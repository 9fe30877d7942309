//! The quantized scan: estimates of all logits with a proven error, then float32 for the survivors, the items that the bound cannot rule
//! out. The result is that of the float32 scan, bit for bit.
//!
//! A row begins with the narrowest integers that suit it, and goes on in wider ones where too many items survive: int8, int16, float32.

use std::ops::Range;

use super::collector::lanes;
use super::panel::panel_tiles;
use super::{Collector, Query};
use crate::engine::catalogue::{QuantizedCatalogue, Tiles};
use crate::engine::precision::pays;
use crate::engine::{Engine, Users};
use crate::error::{Result, reserve};
use crate::filter::Cursor;
use crate::kernel::quantized::estimate::{Estimate, QuantizedUser};
use crate::kernel::quantized::tiles::IntegerWidth;
use crate::kernel::survivors::Survivors;
use crate::kernel::weights::Scratch;
use crate::kernel::{LANES, StandardFloats};
use crate::order::reaches;
use crate::pool::Watch;

/// Where more than one item in so many is wanted, the scan is in float32.
const FEWEST_ITEMS_PER_WANTED: usize = 8;

/// Where more than one item in so many is wanted, int8 is not tried: too many items lie near the last of them for so coarse an estimate. Nor
/// is it for the rank of an item, which may be anywhere.
const FEWEST_ITEMS_PER_WANTED_IN_INT8: usize = 256;

/// Where more than one item in so many has to be rescored, int16 is given up: scoring all items from rows is cheaper.
const FEWEST_ITEMS_PER_RESCORED: usize = 2;

/// Items of a row that may be pending besides those that it wants.
const PENDING: usize = 128;

impl Query<'_> {
    /// Shows each row's collector the items of these tiles that its filters leave.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(super) fn scan_quantized<C: Collector>(
        &self,
        catalogue: &QuantizedCatalogue,
        rows: Range<usize>,
        tiles: Range<usize>,
        into: &mut [C],
        watch: &Watch<'_>,
    ) -> Result<()> {
        let network = &self.engine.network;
        let all = catalogue.tiles();
        let lines = [IntegerWidth::Int8, IntegerWidth::Int16].map(|width| all.layout.lines_read(width));
        let panel = panel_tiles(lines[0].max(lines[1]), network);
        let (first_item, items) = ((tiles.start * LANES) as u32, tiles.len() * LANES);
        let mut states: Vec<RowState<'_, C>> = Vec::with_capacity(into.len());
        for (row, into) in rows.clone().zip(into) {
            let widths: &[IntegerWidth] = match into.wanted() {
                Some(k) if k * FEWEST_ITEMS_PER_WANTED_IN_INT8 <= items => &[IntegerWidth::Int8, IntegerWidth::Int16],
                Some(k) if k * FEWEST_ITEMS_PER_WANTED > items => &[],
                _ => &[IntegerWidth::Int16],
            };
            let mut state = RowState::new(into, Cursor::new(self.excluded(row), first_item));
            state.begin(self.quantized_user(catalogue, row, widths));
            if state.user.is_some() {
                state.pending = reserve("pending items", state.full() + panel * LANES)?; // a panel's survivors come at once
            }
            states.push(state);
        }
        let mut survivors = Survivors::new(panel.min(tiles.len()))?;
        for first in tiles.clone().step_by(panel) {
            let here = first..tiles.end.min(first + panel);
            let (in_panel, ahead) = (all.slice(here.clone()), all.from(here.end));
            let scanned = (here.end - tiles.start) * LANES;
            for (row, state) in rows.clone().zip(&mut states) {
                if watch.stopped(here.len() * LANES * (network.tile_len() + network.multiply_adds())) {
                    return Ok(());
                }
                let Some(user) = &state.user else {
                    self.visit_tiles(row, here.clone(), state.into, watch);
                    continue;
                };
                let width = user.width();
                survivors.reset(state.floor);
                Scratch::lend(network, |scratch| {
                    catalogue.isa.run(Estimate {
                        network,
                        tiles: in_panel,
                        ahead: (row == rows.start).then_some(ahead),
                        user,
                        scratch,
                        survivors: &mut survivors,
                    });
                });
                let settings = StandardFloats::enter();
                for survivor in survivors.found() {
                    let tile = here.start + survivor.tile;
                    let excluded = state.excluded.sixteen((tile * LANES) as u32);
                    for lane in lanes(survivor.lanes & self.real_and_shared(tile) & !excluded) {
                        let item = tile * LANES + lane;
                        let spread = if width == IntegerWidth::Int8 { all.spread(item) } else { 0.0 };
                        state.collect_or_keep(item as u32, survivor.logits[lane], spread);
                    }
                }
                drop(settings);
                if state.is_full() {
                    self.prune(row, state, watch)?;
                    if state.is_still_full() {
                        self.rescore(row, state, state.pending.len(), watch)?;
                    }
                    let worth = match width {
                        IntegerWidth::Int8 => {
                            pays(network, width, state.rescored.saturating_sub(state.allowance()), scanned)
                        }
                        IntegerWidth::Int16 => {
                            state.rescored <= state.allowance() + scanned / FEWEST_ITEMS_PER_RESCORED
                        }
                    };
                    if !worth {
                        self.rescore(row, state, state.pending.len(), watch)?;
                        let wider: &[_] = if width == IntegerWidth::Int8 { &[IntegerWidth::Int16] } else { &[] };
                        state.begin(self.quantized_user(catalogue, row, wider));
                    }
                }
            }
        }
        for (row, state) in rows.zip(&mut states) {
            self.prune(row, state, watch)?;
            self.rescore(row, state, state.pending.len(), watch)?;
        }
        Ok(())
    }

    /// The row's user in the first of these widths whose bound holds for that user.
    fn quantized_user<'c>(
        &self,
        catalogue: &'c QuantizedCatalogue,
        row: usize,
        widths: &[IntegerWidth],
    ) -> Option<QuantizedUser<'c>> {
        let (b, g) = self.engine.network.split_row(self.users.row(row));
        widths.iter().find_map(|&width| catalogue.quantization.user(width, b, g))
    }

    /// Drops pending items that cannot be among the best: by their estimates alone, and where that leaves many, by rescoring those that look
    /// best.
    fn prune(&self, row: usize, state: &mut RowState<'_, impl Collector>, watch: &Watch<'_>) -> Result<()> {
        let Some(k) = state.into.wanted().filter(|&k| state.pending.len() > k) else { return Ok(()) };
        state.prune(k);
        if state.is_still_full() {
            state.pending.select_nth_unstable_by(k - 1, |a, b| b.middle().total_cmp(&a.middle()));
            self.rescore(row, state, k, watch)?;
            state.drop_below_floor();
        }
        Ok(())
    }

    /// Scores the first `count` of the pending items in float32 and shows them to the collector.
    fn rescore(
        &self,
        row: usize,
        state: &mut RowState<'_, impl Collector>,
        count: usize,
        watch: &Watch<'_>,
    ) -> Result<()> {
        let mut items = reserve("pending items", count)?;
        items.extend(state.pending.drain(..count).map(|pending| pending.item));
        items.sort_unstable();
        state.rescored += items.len();
        self.visit_listed(row, &items, state.into, watch);
        state.into.tighten();
        state.raise_floor();
        Ok(())
    }

    /// Shows a row's collector the items of these tiles, each scored in float32 from its row.
    fn visit_tiles(&self, row: usize, tiles: Range<usize>, into: &mut impl Collector, watch: &Watch<'_>) {
        let mut items = Vec::with_capacity(tiles.len() * LANES);
        for tile in tiles {
            items.extend(lanes(self.real_and_shared(tile)).map(|lane| (tile * LANES + lane) as u32));
        }
        self.visit_listed(row, &items, into, watch);
    }
}

/// The progress of one row.
struct RowState<'a, C> {
    /// `None` where the row is scored in float32: the bound does not hold for its user, or too many items survived.
    user: Option<QuantizedUser<'a>>,
    into: &'a mut C,
    excluded: Cursor<'a>,
    /// An item whose estimate, raised by its spread, is below it cannot change what is collected.
    floor: f32,
    /// An item whose estimate, lowered by its spread, reaches it is collected, whatever its exact score is.
    certain: f32,
    /// Survivors that the estimates do not decide.
    pending: Vec<Pending>,
    /// How many items have been scored in float32.
    rescored: usize,
}

/// An item whose score is at most `most` and at least `least`, apart from the user's error in each.
#[derive(Debug, Clone, Copy)]
struct Pending {
    item: u32,
    most: f32,
    least: f64,
}

impl Pending {
    fn middle(&self) -> f64 {
        self.least + f64::from(self.most)
    }
}

impl<'a, C: Collector> RowState<'a, C> {
    fn new(into: &'a mut C, excluded: Cursor<'a>) -> Self {
        let (floor, certain) = (f32::NEG_INFINITY, f32::INFINITY);
        RowState { user: None, into, excluded, floor, certain, pending: Vec::new(), rescored: 0 }
    }

    /// Goes on with `user`, in other integers. Nothing is pending.
    fn begin(&mut self, user: Option<QuantizedUser<'a>>) {
        let error = user.as_ref().map_or(0.0, |user| user.error);
        self.user = user;
        let _settings = StandardFloats::enter();
        self.certain = above(f64::from(self.into.certain()) + error);
        self.floor = f32::NEG_INFINITY;
        self.raise_floor();
    }

    #[inline]
    fn collect_or_keep(&mut self, item: u32, most: f32, spread: f32) {
        let least = f64::from(most) - 2.0 * f64::from(spread);
        if least >= self.certain.into() {
            self.into.collect(item, most);
        } else {
            self.pending.push(Pending { item, most, least });
        }
    }

    /// Raises the floor to the collector's threshold less the error: a score is at most `most` plus the error.
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

    /// Items that have to be rescored even where the estimates are good.
    fn allowance(&self) -> usize {
        self.wanted() + PENDING
    }

    /// How many items may be pending before some are pruned or rescored.
    fn full(&self) -> usize {
        2 * self.wanted() + PENDING
    }

    fn is_full(&self) -> bool {
        self.pending.len() >= self.full()
    }

    /// Whether pruning has left so many that it would soon be due again.
    fn is_still_full(&self) -> bool {
        self.pending.len() >= (3 * self.wanted() + PENDING) / 2
    }

    /// Drops what `k` of the pending items, which are more, beat for certain: their scores are at least the `k`-th highest `least` less the
    /// error, and an item's is at most its `most` plus the error.
    #[cold]
    fn prune(&mut self, k: usize) {
        if let Some(user) = &self.user {
            let _settings = StandardFloats::enter();
            let (_, last, _) = self.pending.select_nth_unstable_by(k - 1, |a, b| b.least.total_cmp(&a.least));
            let floor = below(last.least - 2.0 * user.error);
            self.floor = self.floor.max(floor);
            self.drop_below_floor();
        }
    }

    fn drop_below_floor(&mut self) {
        self.pending.retain(|pending| reaches(pending.most, self.floor));
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
    /// The interval that the estimates prove for the logit of row `row`'s user and every item; `None` where the row is scored in float32.
    /// For tests of the bound.
    #[doc(hidden)]
    pub fn proven(&self, users: &Users<'_>, row: usize) -> Option<Vec<[f64; 2]>> {
        let Tiles::Quantized(catalogue) = &self.catalogue.tiles else { return None };
        let (b, gmf) = self.network.split_row(users.row(row));
        let all = catalogue.tiles();
        let user = catalogue.quantization.user(catalogue.quantization.narrowest(), b, gmf)?;
        let mut survivors = Survivors::new(self.num_items().div_ceil(LANES)).ok()?;
        survivors.reset(f32::NEG_INFINITY);
        Scratch::lend(&self.network, |scratch| {
            catalogue.isa.run(Estimate {
                network: &self.network,
                tiles: all,
                ahead: None,
                user: &user,
                scratch,
                survivors: &mut survivors,
            });
        });
        let interval = |(item, most): (usize, f32)| {
            [f64::from(most) - 2.0 * f64::from(all.spread(item)) - user.error, f64::from(most) + user.error]
        };
        let most = survivors.found().iter().flat_map(|survivor| survivor.logits);
        Some(most.take(self.num_items()).enumerate().map(interval).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ScanPrecision;
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
        for precision in [ScanPrecision::Int8, ScanPrecision::Int16] {
            let mut all = Vec::new();
            for isa in Isa::supported() {
                let mut engine = Engine::new(model(), None, isa, precision, Call::ALONE).unwrap();
                for with in IntegerIsa::of(isa) {
                    let Tiles::Quantized(catalogue) = &mut engine.catalogue.tiles else { panic!("quantized tiles") };
                    catalogue.isa = with;
                    let proven = engine.proven(&engine.user(1, 1).unwrap(), 0).unwrap();
                    println!("{precision:?} {with:?}: {:?}", proven[0]);
                    all.push(proven);
                }
            }
            assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }
}

//! The quantized scan: estimates all logits with a proven error bound, then rescores the survivors, the items that the
//! bound cannot rule out, in float32. The result is that of the float32 scan, bit for bit.
//!
//! Each row starts with the narrowest integers whose bound holds, and falls back to wider numbers if too many items
//! survive: int8, int16, float32.

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

/// If more than one item in this many is wanted, scan in float32.
const MIN_ITEMS_PER_WANTED: usize = 8;

/// If more than one item in this many is wanted, do not try int8: too many items score close to the last one wanted for
/// such a coarse estimate. Nor for `rank_of`, as the given item may score anywhere.
const MIN_ITEMS_PER_WANTED_INT8: usize = 256;

/// If more than one item in this many has to be rescored, int16 does not pay: scoring all items from rows is cheaper.
const MIN_ITEMS_PER_RESCORED: usize = 2;

/// Items of a row that may be pending in addition to the number wanted.
const EXTRA_PENDING: usize = 128;

impl Query<'_> {
    /// Passes to each row's collector the items of these tiles that the filters admit and that reach its threshold.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(super) fn scan_quantized<C: Collector>(
        &self,
        catalogue: &QuantizedCatalogue,
        rows: Range<usize>,
        tiles: Range<usize>,
        collectors: &mut [C],
        watch: &Watch<'_>,
    ) -> Result<()> {
        let network = &self.engine.network;
        let all = catalogue.tiles();
        let lines = [IntegerWidth::Int8, IntegerWidth::Int16].map(|width| all.layout.lines_read(width));
        let panel_len = panel_tiles(lines[0].max(lines[1]), network);
        let (first_item, items) = ((tiles.start * LANES) as u32, tiles.len() * LANES);
        let mut states: Vec<RowState<'_, C>> = reserve("states of rows", collectors.len())?;
        for (row, collector) in rows.clone().zip(collectors) {
            let widths: &[IntegerWidth] = match collector.wanted() {
                Some(k) if k * MIN_ITEMS_PER_WANTED_INT8 <= items => &[IntegerWidth::Int8, IntegerWidth::Int16],
                Some(k) if k * MIN_ITEMS_PER_WANTED > items => &[],
                _ => &[IntegerWidth::Int16],
            };
            let mut state = RowState::new(collector, Cursor::new(self.excluded(row), first_item));
            state.restart(self.quantized_user(catalogue, row, widths)?);
            if state.user.is_some() {
                // All survivors of a panel are added before any are pruned.
                state.pending = reserve("pending items", state.capacity() + panel_len * LANES)?;
            }
            states.push(state);
        }
        let mut survivors = Survivors::new(panel_len.min(tiles.len()))?;
        for first in tiles.clone().step_by(panel_len) {
            let panel = first..tiles.end.min(first + panel_len);
            let (in_panel, ahead) = (all.slice(panel.clone()), all.from(panel.end));
            let scanned = (panel.end - tiles.start) * LANES;
            for (row, state) in rows.clone().zip(&mut states) {
                if watch.stopped(panel.len() * LANES * (network.tile_len() + network.multiply_adds())) {
                    return Ok(());
                }
                let Some(user) = &state.user else {
                    self.visit_tiles(row, panel.clone(), state.collector, watch)?;
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
                })?;
                let settings = StandardFloats::enter();
                for survivor in survivors.found() {
                    let tile = panel.start + survivor.tile;
                    let excluded = state.excluded.sixteen((tile * LANES) as u32);
                    for lane in lanes(survivor.lanes & self.admitted_lanes(tile) & !excluded) {
                        let item = tile * LANES + lane;
                        let spread = if width == IntegerWidth::Int8 { all.spread(item) } else { 0.0 };
                        state.collect_or_defer(item as u32, survivor.logits[lane], spread);
                    }
                }
                drop(settings);
                if state.is_full() {
                    self.make_room(row, state, watch)?;
                    let pays_off = match width {
                        IntegerWidth::Int8 => pays(
                            network,
                            catalogue.isa,
                            width,
                            state.rescored.saturating_sub(state.allowance()),
                            scanned,
                        ),
                        IntegerWidth::Int16 => state.rescored <= state.allowance() + scanned / MIN_ITEMS_PER_RESCORED,
                    };
                    if !pays_off {
                        self.rescore(row, state, state.pending.len(), watch)?;
                        let wider: &[_] = if width == IntegerWidth::Int8 { &[IntegerWidth::Int16] } else { &[] };
                        state.restart(self.quantized_user(catalogue, row, wider)?);
                    }
                }
            }
        }
        rows.zip(&mut states).try_for_each(|(row, state)| self.settle(row, state, watch))
    }

    /// Prunes pending items, or rescores them if that does not help.
    pub(super) fn make_room(
        &self,
        row: usize,
        state: &mut RowState<'_, impl Collector>,
        watch: &Watch<'_>,
    ) -> Result<()> {
        self.prune(row, state, watch)?;
        if state.is_nearly_full() { self.rescore(row, state, state.pending.len(), watch) } else { Ok(()) }
    }

    /// Rescores what may be among the best, so that nothing is pending.
    pub(super) fn settle(&self, row: usize, state: &mut RowState<'_, impl Collector>, watch: &Watch<'_>) -> Result<()> {
        self.prune(row, state, watch)?;
        self.rescore(row, state, state.pending.len(), watch)
    }

    /// The row's user, quantized in the first of these widths whose bound holds for it.
    pub(super) fn quantized_user<'c>(
        &self,
        catalogue: &'c QuantizedCatalogue,
        row: usize,
        widths: &[IntegerWidth],
    ) -> Result<Option<QuantizedUser<'c>>> {
        let (b, g) = self.engine.network.split_row(self.users.row(row));
        let quantized = |&width: &IntegerWidth| catalogue.quantization.user(width, b, g).transpose();
        widths.iter().find_map(quantized).transpose()
    }

    /// Prunes pending items that cannot be among the best: by their estimates alone, and if many remain, by rescoring
    /// those with the best estimates.
    fn prune(&self, row: usize, state: &mut RowState<'_, impl Collector>, watch: &Watch<'_>) -> Result<()> {
        let Some(k) = state.collector.wanted().filter(|&k| state.pending.len() > k) else { return Ok(()) };
        state.prune(k);
        if state.is_nearly_full() {
            state.pending.select_nth_unstable_by(k - 1, |a, b| b.midpoint().total_cmp(&a.midpoint()));
            self.rescore(row, state, k, watch)?;
            state.drop_below_floor();
        }
        Ok(())
    }

    /// Rescores the first `count` pending items in float32 and passes them to the collector.
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
        self.visit_listed(row, &items, state.collector, watch)?;
        state.collector.tighten();
        state.raise_floor();
        Ok(())
    }

    /// Scores the items of these tiles in float32 from their rows and passes them to the collector.
    fn visit_tiles(
        &self,
        row: usize,
        tiles: Range<usize>,
        collector: &mut impl Collector,
        watch: &Watch<'_>,
    ) -> Result<()> {
        let mut items = reserve("items of tiles", tiles.len() * LANES)?;
        for tile in tiles {
            items.extend(lanes(self.admitted_lanes(tile)).map(|lane| (tile * LANES + lane) as u32));
        }
        self.visit_listed(row, &items, collector, watch)
    }
}

/// The state of one row's scan.
pub(super) struct RowState<'a, C> {
    /// `None` if the row is scored in float32: the bound does not hold for its user, or too many items survived.
    pub(super) user: Option<QuantizedUser<'a>>,
    pub(super) collector: &'a mut C,
    excluded: Cursor<'a>,
    /// An item whose estimate, raised by its spread, is below the floor cannot change the result.
    pub(super) floor: f32,
    /// An item whose estimate, lowered by its spread, reaches this is collected without its exact score.
    certain: f32,
    /// Survivors that may have to be rescored.
    pub(super) pending: Vec<Pending>,
    /// How many items have been rescored.
    rescored: usize,
}

/// A survivor whose score is at most `upper` plus the user's error and at least `lower` minus it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    item: u32,
    upper: f32,
    lower: f64,
}

impl Pending {
    fn midpoint(&self) -> f64 {
        self.lower + f64::from(self.upper)
    }
}

impl<'a, C: Collector> RowState<'a, C> {
    pub(super) fn new(collector: &'a mut C, excluded: Cursor<'a>) -> Self {
        let (floor, certain) = (f32::NEG_INFINITY, f32::INFINITY);
        RowState { user: None, collector, excluded, floor, certain, pending: Vec::new(), rescored: 0 }
    }

    /// Continues with `user`, quantized in another width. No items may be pending.
    pub(super) fn restart(&mut self, user: Option<QuantizedUser<'a>>) {
        let error = user.as_ref().map_or(0.0, |user| user.error);
        self.user = user;
        let _settings = StandardFloats::enter();
        self.certain = above(f64::from(self.collector.certain()) + error);
        self.floor = f32::NEG_INFINITY;
        self.raise_floor();
    }

    #[inline]
    pub(super) fn collect_or_defer(&mut self, item: u32, upper: f32, spread: f32) {
        let lower = f64::from(upper) - 2.0 * f64::from(spread);
        if lower >= self.certain.into() {
            self.collector.collect(item, upper);
        } else {
            self.pending.push(Pending { item, upper, lower });
        }
    }

    /// Raises the floor to the collector's threshold minus the error: a score is at most `upper` plus the error.
    fn raise_floor(&mut self) {
        if let Some(user) = &self.user {
            let _settings = StandardFloats::enter();
            let floor = below(f64::from(self.collector.threshold()) - user.error);
            self.floor = self.floor.max(floor);
        }
    }

    fn wanted(&self) -> usize {
        self.collector.wanted().unwrap_or(0)
    }

    /// Items that have to be rescored even if the estimates are good.
    fn allowance(&self) -> usize {
        self.wanted() + EXTRA_PENDING
    }

    /// The number of pending items at which some are pruned or rescored.
    pub(super) fn capacity(&self) -> usize {
        2 * self.wanted() + EXTRA_PENDING
    }

    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= self.capacity()
    }

    /// Whether pruning left so many items that it would soon be due again.
    fn is_nearly_full(&self) -> bool {
        self.pending.len() >= (3 * self.wanted() + EXTRA_PENDING) / 2
    }

    /// Prunes the pending items, more than `k`, that `k` of them are certain to beat: the `k` score at least the `k`-th
    /// highest `lower` minus the error, and an item scores at most its `upper` plus the error.
    #[cold]
    fn prune(&mut self, k: usize) {
        if let Some(user) = &self.user {
            let _settings = StandardFloats::enter();
            let (_, last, _) = self.pending.select_nth_unstable_by(k - 1, |a, b| b.lower.total_cmp(&a.lower));
            let floor = below(last.lower - 2.0 * user.error);
            self.floor = self.floor.max(floor);
            self.drop_below_floor();
        }
    }

    fn drop_below_floor(&mut self) {
        self.pending.retain(|pending| reaches(pending.upper, self.floor));
    }
}

/// A float32 value at most `x`, allowing for one rounding error in `x`.
fn below(x: f64) -> f32 {
    (x as f32).next_down()
}

/// A float32 value at least `x`, allowing for one rounding error in `x`.
fn above(x: f64) -> f32 {
    (x as f32).next_up()
}

impl Engine {
    /// For each item, the interval that the estimate proves for the logit of row `row`'s user; `None` if the row is
    /// scored in float32. For tests of the bound.
    #[doc(hidden)]
    pub fn proven(&self, users: &Users<'_>, row: usize) -> Option<Vec<[f64; 2]>> {
        let Tiles::Quantized(catalogue) = &*self.catalogue.tiles else { return None };
        let (b, gmf) = self.network.split_row(users.row(row));
        let all = catalogue.tiles();
        let user = catalogue.quantization.user(catalogue.quantization.narrowest(), b, gmf).ok()??;
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
        })
        .ok()?;
        let interval = |(item, upper): (usize, f32)| {
            [f64::from(upper) - 2.0 * f64::from(all.spread(item)) - user.error, f64::from(upper) + user.error]
        };
        let upper = survivors.found().iter().flat_map(|survivor| survivor.logits);
        Some(upper.take(self.num_items()).enumerate().map(interval).collect())
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
    fn every_instruction_set_computes_the_same_estimates() {
        for precision in [ScanPrecision::Int8, ScanPrecision::Int16] {
            let mut all = Vec::new();
            for isa in Isa::supported() {
                let mut engine = Engine::new(model(), None, isa, precision, Call::ALONE).unwrap();
                for integer_isa in IntegerIsa::of(isa) {
                    let tiles = std::sync::Arc::get_mut(&mut engine.catalogue.tiles).unwrap();
                    let Tiles::Quantized(catalogue) = tiles else { panic!("quantized tiles") };
                    catalogue.isa = integer_isa;
                    let proven = engine.proven(&engine.user(1, 1).unwrap(), 0).unwrap();
                    println!("{precision:?} {integer_isa:?}: {:?}", proven[0]);
                    // Bytes up to 127 are coarser than bytes up to 255.
                    let bytes = (precision == ScanPrecision::Int8).then(|| integer_isa.max_byte());
                    all.push((bytes, proven));
                }
            }
            all.sort_by_key(|&(bytes, _)| bytes);
            assert!(all.chunk_by(|a, b| a.0 == b.0).all(|equal| equal.iter().all(|one| *one == equal[0])));
        }
    }
}

//! The scan of dot products in four bits: estimates all logits with a proven bound, refines the estimates of the items
//! that stay open by four more bits, and rescores in float32 what is still open. The result is that of the float32
//! scan, bit for bit.
//!
//! Items come by falling norm, so the threshold is high after a few tiles, and the scan stops where no later item can
//! reach it. Filters are applied to items that are about to be refined: few others reach the threshold.

use std::ops::Range;

use super::collector::lanes;
use super::{Collector, Query};
use crate::engine::catalogue::Tiles;
use crate::engine::dots::DotCatalogue;
use crate::engine::{Engine, Users};
use crate::error::{Error, Result, collected, reserve};
use crate::kernel::quantized::int4::{CodeBits, Int4User, Interval, UserGroup};
use crate::kernel::survivors::Survivors;
use crate::kernel::{Aligned, LANES, Lanes, StandardFloats};
use crate::order::Key;
use crate::pool::Watch;

/// If more than one item in this many is wanted, score all in float32.
const MIN_ITEMS_PER_WANTED: usize = 8;

/// Rows from which on a scan in seven bits pays: they share the work of expanding each tile.
const MIN_ROWS_FOR_SEVEN_BITS: usize = 4;

/// Tiles of a panel, for one row and for several.
const PANEL: usize = 64;
const PANEL_TOGETHER: usize = 32;

/// Tiles of the first panel, after which there is a threshold, if `wanted` items are.
fn first_panel(wanted: Option<usize>) -> usize {
    (wanted.unwrap_or(0) / 2).clamp(16, PANEL)
}

/// Items of a row that may be pending in addition to four times the number wanted and to twice those that were left by
/// the last settling.
const EXTRA_PENDING: usize = 512;

impl Query<'_> {
    /// Passes to each row's collector the items of these tiles that the filters admit and that reach its threshold.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(super) fn scan_dots<C: Collector>(
        &self,
        catalogue: &DotCatalogue,
        rows: Range<usize>,
        tiles: Range<usize>,
        collectors: &mut [C],
        watch: &Watch<'_>,
    ) -> Result<()> {
        let bits = if rows.len() >= MIN_ROWS_FOR_SEVEN_BITS { CodeBits::Seven } else { CodeBits::Four };
        let mut scans = reserve("scans", collectors.len())?;
        for (row, collector) in rows.zip(collectors) {
            let few = collector.wanted().is_none_or(|k| k.saturating_mul(MIN_ITEMS_PER_WANTED) <= tiles.len() * LANES);
            let user = catalogue.int4.user(self.engine.network.split_row(self.users.row(row)).1, bits)?;
            match user.filter(|_| few) {
                Some(user) => scans.push(RowScan::new(self, catalogue, row, (user, bits), collector)?),
                None => self.visit_positions(catalogue, row, &tiles, collector, watch)?,
            }
        }
        match bits {
            CodeBits::Four => self.scan_one_by_one(catalogue, tiles, &mut scans, watch)?,
            CodeBits::Seven => self.scan_together(catalogue, tiles, &mut scans, watch)?,
        }
        scans.iter_mut().try_for_each(|scan| scan.finish(watch))
    }

    /// Scans a panel for one row after the other, in four bits.
    fn scan_one_by_one<C: Collector>(
        &self,
        catalogue: &DotCatalogue,
        tiles: Range<usize>,
        scans: &mut [RowScan<'_, '_, C>],
        watch: &Watch<'_>,
    ) -> Result<()> {
        let mut survivors = Survivors::new(PANEL.min(tiles.len()))?;
        let first = scans.iter().map(|scan| first_panel(scan.collector.wanted())).max().unwrap_or(PANEL);
        for panel in panels(tiles, first, PANEL) {
            for scan in &mut *scans {
                if watch.stopped(panel.len() * LANES * self.engine.network.g) {
                    return Ok(());
                }
                if !scan.is_over(panel.start) {
                    survivors.reset(scan.floor);
                    catalogue.estimate(&scan.user, panel.clone(), &mut survivors);
                    scan.collect(panel.start, &survivors)?;
                }
            }
        }
        Ok(())
    }

    /// Scans each tile for all rows, in seven bits.
    fn scan_together<C: Collector>(
        &self,
        catalogue: &DotCatalogue,
        tiles: Range<usize>,
        scans: &mut [RowScan<'_, '_, C>],
        watch: &Watch<'_>,
    ) -> Result<()> {
        let groups = UserGroup::all(&collected("groups of users", scans.iter().map(|scan| &scan.user))?)?;
        let mut expanded = Aligned::zeros("a tile", 2 * catalogue.int4.tile_len())?;
        let mut survivors = reserve("survivors", scans.len())?;
        for _ in 0..scans.len() {
            survivors.push(Survivors::new(PANEL.min(tiles.len()))?);
        }
        let first = scans.iter().map(|scan| first_panel(scan.collector.wanted())).max().unwrap_or(PANEL);
        for panel in panels(tiles, first, PANEL_TOGETHER) {
            if watch.stopped(panel.len() * LANES * self.engine.network.g * scans.len()) {
                return Ok(());
            }
            let mut over = true;
            for (survivors, scan) in survivors.iter_mut().zip(&*scans) {
                let is_over = scan.is_over(panel.start);
                survivors.reset(if is_over { f32::INFINITY } else { scan.floor });
                over &= is_over;
            }
            if over {
                break;
            }
            catalogue.estimate_many(&groups, panel.clone(), &mut expanded, &mut survivors);
            for (survivors, scan) in survivors.iter().zip(&mut *scans) {
                scan.collect(panel.start, survivors)?;
            }
        }
        Ok(())
    }

    /// Scores the items of these tiles in float32 and passes them to the collector.
    fn visit_positions(
        &self,
        catalogue: &DotCatalogue,
        row: usize,
        tiles: &Range<usize>,
        collector: &mut impl Collector,
        watch: &Watch<'_>,
    ) -> Result<()> {
        let of = tiles.start * LANES..self.engine.catalogue.rows.table().count().min(tiles.end * LANES);
        let mut items = reserve("items", of.len())?;
        items.extend(catalogue.items_at(of).filter(|&item| self.admits(row, item)));
        items.sort_unstable();
        self.visit_listed(row, &items, collector, watch)
    }
}

/// The first panel, of up to `first` tiles, and the later ones, of up to `len`.
fn panels(tiles: Range<usize>, first: usize, len: usize) -> impl Iterator<Item = Range<usize>> {
    let first = tiles.start..tiles.end.min(tiles.start + first);
    let later = (first.end..tiles.end).step_by(len).map(move |at| at..tiles.end.min(at + len));
    std::iter::once(first).chain(later)
}

/// The scan of one row.
pub(super) struct RowScan<'s, 'q, C> {
    query: &'s Query<'q>,
    catalogue: &'s DotCatalogue,
    row: usize,
    pub(super) user: Int4User,
    bits: CodeBits,
    pub(super) collector: &'s mut C,
    /// An item whose upper end is below the floor cannot change the result.
    pub(super) floor: f32,
    /// The positions of items that reach the floor, with the upper ends of their coarse estimates. The filters may not
    /// admit them.
    pending: Vec<Key>,
    /// The number of pending items at which they are settled.
    capacity: usize,
    /// Admitted items that reach the floor by their fine estimates.
    refined: Vec<Refined>,
    positions: Vec<u32>,
    sums: Vec<Lanes>,
    lower_ends: Vec<f64>,
}

#[derive(Debug, Clone, Copy)]
struct Refined {
    item: u32,
    interval: Interval,
}

impl<'s, 'q, C: Collector> RowScan<'s, 'q, C> {
    pub(super) fn new(
        query: &'s Query<'q>,
        catalogue: &'s DotCatalogue,
        row: usize,
        (user, bits): (Int4User, CodeBits),
        collector: &'s mut C,
    ) -> Result<Self> {
        let mut scan = RowScan {
            query,
            catalogue,
            row,
            user,
            bits,
            collector,
            floor: f32::MIN, // all estimates are finite
            pending: Vec::new(),
            capacity: 0,
            refined: Vec::new(),
            positions: Vec::new(),
            sums: Vec::new(),
            lower_ends: Vec::new(),
        };
        scan.raise_floor();
        Ok(scan)
    }

    /// Whether no item from this tile on can reach the threshold.
    pub(super) fn is_over(&self, tile: usize) -> bool {
        let _settings = StandardFloats::enter();
        self.user.most(self.catalogue.norm(tile)) < f64::from(self.collector.threshold())
    }

    /// Adds the survivors of a panel that begins with tile `first`. The first ones are settled at once.
    pub(super) fn collect(&mut self, first: usize, survivors: &Survivors) -> Result<()> {
        let found = survivors.found().len() * LANES;
        self.pending.try_reserve(found).map_err(|_| pending_memory(found))?;
        for tile in survivors.found() {
            let position = (first + tile.tile) * LANES;
            self.pending.extend(lanes(tile.lanes).map(|lane| Key::new(tile.logits[lane], (position + lane) as u32)));
        }
        if self.pending.len() > self.capacity { self.settle() } else { Ok(()) }
    }

    /// Refines the pending items with the highest upper ends, which raises the floor; without a number of wanted items,
    /// all of them.
    fn settle(&mut self) -> Result<()> {
        let Some(k) = self.collector.wanted() else {
            self.capacity = EXTRA_PENDING;
            return self.refine(self.pending.len());
        };
        let count = self.pending.len().min(k + k / 4 + LANES);
        if count < self.pending.len() {
            self.pending.select_nth_unstable(count);
        }
        self.refine(count)?;
        self.raise_threshold(k)?;
        self.capacity = 2 * self.pending.len() + 4 * k + EXTRA_PENDING;
        Ok(())
    }

    /// Refines and rescores what is left.
    pub(super) fn finish(&mut self, watch: &Watch<'_>) -> Result<()> {
        self.settle()?;
        self.refine(self.pending.len())?;
        if let Some(k) = self.collector.wanted() {
            self.raise_threshold(k)?;
            if self.refined.len() > k + LANES {
                self.refined.select_nth_unstable_by(k - 1, |a, b| b.interval.middle().total_cmp(&a.interval.middle()));
                self.rescore(k, watch)?;
            }
        }
        self.rescore(self.refined.len(), watch)
    }

    /// Refines the first `count` pending items. Drops those that the filters do not admit, and those that turn out to
    /// be certain, either way.
    fn refine(&mut self, count: usize) -> Result<()> {
        let RowScan { query, catalogue, row, user, bits, collector, pending, refined, positions, sums, .. } = self;
        let _settings = StandardFloats::enter();
        let (needed, certain) = (user.upper_for(collector.threshold()), user.lower_for(collector.certain()));
        refined.try_reserve(count).map_err(|_| pending_memory(count))?;
        positions.try_reserve(count.saturating_sub(positions.len())).map_err(|_| pending_memory(count))?;
        // Move the pending items that are refined to the front.
        let mut kept = 0;
        positions.clear();
        for at in 0..count {
            let (position, upper) = (pending[at].item(), pending[at].score());
            let Some(item) = catalogue.item(position) else { continue };
            if !query.admits(*row, item) {
                continue;
            }
            let coarse = catalogue.interval(user, *bits, position, upper);
            if coarse.lower >= certain {
                collector.collect(item, collector.certain());
            } else if *bits == CodeBits::Seven {
                refined.push(Refined { item, interval: coarse });
            } else {
                pending[kept] = pending[at];
                positions.push(position);
                kept += 1;
            }
        }
        catalogue.lower_sums(user, positions, sums)?;
        for (pending, &sum) in pending[..kept].iter().zip(sums.as_flattened()) {
            let interval = catalogue.refined(user, pending.item(), pending.score(), sum);
            let Some(item) = catalogue.item(pending.item()) else { continue };
            if interval.lower >= certain {
                collector.collect(item, collector.certain());
            } else if interval.upper >= needed {
                refined.push(Refined { item, interval });
            }
        }
        // What stays pending moves to the front; its order does not matter.
        let (len, left) = (pending.len(), pending.len() - count);
        pending.copy_within(len - left.min(count).., 0);
        pending.truncate(left);
        Ok(())
    }

    /// Raises the threshold to what `k` of the refined items reach for certain.
    fn raise_threshold(&mut self, k: usize) -> Result<()> {
        if self.refined.len() < k {
            return Ok(());
        }
        let RowScan { refined, lower_ends, user, collector, .. } = self;
        lower_ends.clear();
        lower_ends.try_reserve(refined.len()).map_err(|_| pending_memory(refined.len()))?;
        lower_ends.extend(refined.iter().map(|refined| refined.interval.lower));
        let (_, &mut lower, _) = lower_ends.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
        collector.prove(user.reached(lower));
        self.raise_floor();
        Ok(())
    }

    /// Rescores the first `count` refined items in float32 and passes them to the collector.
    fn rescore(&mut self, count: usize, watch: &Watch<'_>) -> Result<()> {
        let mut items = reserve("pending items", count)?;
        items.extend(self.refined.drain(..count).map(|refined| refined.item));
        items.sort_unstable();
        self.query.visit_listed(self.row, &items, self.collector, watch)?;
        self.collector.tighten();
        self.raise_floor();
        Ok(())
    }

    /// Raises the floor to what the collector's threshold needs, and drops what does not reach it.
    fn raise_floor(&mut self) {
        let _settings = StandardFloats::enter();
        let needed = self.user.upper_for(self.collector.threshold());
        let floor = (needed as f32).next_down();
        if floor > self.floor {
            self.floor = floor;
            let last = Key::new(floor, u32::MAX);
            self.pending.retain(|&pending| pending <= last);
            self.refined.retain(|refined| refined.interval.upper >= needed);
        }
    }
}

fn pending_memory(items: usize) -> Error {
    Error::Memory(format!("pending items: cannot reserve {items}"))
}

impl Engine {
    /// For each item, the intervals that an estimate in four, in seven and in eight bits prove for the logit of row
    /// `row`'s user; `None` if the row is scored in float32. For tests of the bounds.
    #[doc(hidden)]
    pub fn proven_dots(&self, users: &Users<'_>, row: usize) -> Option<[Vec<[f64; 2]>; 3]> {
        let Tiles::Dots(catalogue) = &*self.catalogue.tiles else { return None };
        let g = self.network.split_row(users.row(row)).1;
        let four = catalogue.int4.user(g, CodeBits::Four).ok()??;
        let seven = catalogue.int4.user(g, CodeBits::Seven).ok()??;
        let tiles = 0..self.num_items().div_ceil(LANES);
        let mut survivors = [Survivors::new(tiles.len()).ok()?, Survivors::new(tiles.len()).ok()?];
        survivors.iter_mut().for_each(|survivors| survivors.reset(f32::MIN));
        catalogue.estimate(&four, tiles.clone(), &mut survivors[0]);
        let mut expanded = Aligned::zeros("a tile", 2 * catalogue.int4.tile_len()).ok()?;
        catalogue.estimate_many(&UserGroup::all(&[&seven]).ok()?, tiles, &mut expanded, &mut survivors[1..]);
        let upper: [Vec<f32>; 2] =
            survivors.map(|survivors| survivors.found().iter().flat_map(|survivor| survivor.logits).collect());
        let positions: Vec<u32> = (0..self.num_items() as u32).collect();
        let mut sums = Vec::new();
        catalogue.lower_sums(&four, &positions, &mut sums).ok()?;
        let mut proven = [(); 3].map(|()| vec![[0.0; 2]; self.num_items()]);
        for (at, item) in (0..).zip(catalogue.items_at(0..self.num_items())) {
            let [four_upper, seven_upper] = [upper[0][at as usize], upper[1][at as usize]];
            let of = [
                (&four, catalogue.interval(&four, CodeBits::Four, at, four_upper)),
                (&seven, catalogue.interval(&seven, CodeBits::Seven, at, seven_upper)),
                (&four, catalogue.refined(&four, at, four_upper, sums.as_flattened()[at as usize])),
            ];
            for (proven, (user, interval)) in proven.iter_mut().zip(of) {
                let ends = [interval.lower - user.lower_for(0.0), interval.upper - user.upper_for(0.0)];
                proven[item as usize] = ends;
            }
        }
        Some(proven)
    }
}

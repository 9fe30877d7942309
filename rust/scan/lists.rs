//! Scans lists of items, each a range of tiles in an order of its own, for one row. What is collected is what the
//! float32 scan of the same items would collect, bit for bit, whatever the precision of the tiles.
//!
//! Filters are applied to single items: few reach the threshold.

use std::ops::Range;

use super::collector::lanes;
use super::dots::RowScan;
use super::panel::panel_tiles;
use super::quantized::RowState;
use super::{Collector, Query};
use crate::engine::catalogue::{ListedTiles, QuantizedCatalogue, Tiles};
use crate::engine::dots::DotCatalogue;
use crate::engine::rearranged::NO_ITEM;
use crate::error::{Result, reserve};
use crate::filter::Cursor;
use crate::kernel::quantized::estimate::Estimate;
use crate::kernel::quantized::int4::CodeBits;
use crate::kernel::quantized::tiles::IntegerWidth;
use crate::kernel::scan::Scan;
use crate::kernel::survivors::Survivors;
use crate::kernel::weights::Scratch;
use crate::kernel::{LANES, Lanes, StandardFloats};
use crate::pool::Watch;

/// The scan of one list after the other.
pub(crate) struct ListScan<'s, 'q, C> {
    query: &'s Query<'q>,
    row: usize,
    items: &'s [u32],
    panel: usize,
    survivors: [Survivors; 1],
    precision: Precision<'s, 'q, C>,
}

enum Precision<'s, 'q, C> {
    Float32(&'s [Lanes], &'s mut C),
    Quantized(&'s QuantizedCatalogue, RowState<'s, C>),
    Dots(&'s DotCatalogue, Box<RowScan<'s, 'q, C>>),
    /// The items are scored in float32 from their rows: no error bound holds for the user.
    Rows(&'s mut C),
}

impl<'s, 'q, C: Collector> ListScan<'s, 'q, C> {
    /// Begins a scan for row `row`.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn new(query: &'s Query<'q>, listed: &'s ListedTiles, row: usize, collector: &'s mut C) -> Result<Self> {
        let network = &query.engine.network;
        let mut panel = PANEL;
        let precision = match &listed.tiles {
            Tiles::Float32(tiles) => {
                panel = panel_tiles(network.tile_len(), network);
                Precision::Float32(tiles, collector)
            }
            Tiles::Quantized(catalogue) => {
                panel = panel_tiles(catalogue.tiles().layout.lines_read(IntegerWidth::Int16), network);
                let widths = [IntegerWidth::Int8, IntegerWidth::Int16];
                match query.quantized_user(catalogue, row, &widths)? {
                    None => Precision::Rows(collector),
                    user => {
                        let mut state = RowState::new(collector, Cursor::new(&[], 0));
                        state.restart(user);
                        // All survivors of a panel are added before any are pruned.
                        state.pending = reserve("pending items", state.capacity() + panel * LANES)?;
                        Precision::Quantized(catalogue, state)
                    }
                }
            }
            Tiles::Dots(catalogue) => {
                let features = network.split_row(query.users.row(row)).1;
                match catalogue.int4.user(features, CodeBits::Four)? {
                    None => Precision::Rows(collector),
                    Some(user) => {
                        let scan = RowScan::new(query, catalogue, row, (user, CodeBits::Four), collector)?;
                        Precision::Dots(catalogue, Box::new(scan))
                    }
                }
            }
        };
        Ok(ListScan { query, row, items: &listed.items, panel, survivors: [Survivors::new(panel)?], precision })
    }

    /// Scans a list. Its items that the filters admit and that reach the threshold are collected after
    /// [`ListScan::settle`] at the latest.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn scan(&mut self, list: Range<usize>, watch: &Watch<'_>) -> Result<()> {
        if let Precision::Rows(_) = self.precision {
            return self.visit_rows(list, watch);
        }
        let network = &self.query.engine.network;
        for first in list.clone().step_by(self.panel) {
            let panel = first..list.end.min(first + self.panel);
            if watch.stopped(panel.len() * LANES * (network.tile_len() + network.multiply_adds())) {
                return Ok(());
            }
            let over = match &self.precision {
                Precision::Dots(_, scan) => scan.is_over(first),
                _ => false,
            };
            if over {
                break; // the items of a list come by falling norm
            }
            self.scan_panel(panel, watch)?;
        }
        Ok(())
    }

    fn scan_panel(&mut self, panel: Range<usize>, watch: &Watch<'_>) -> Result<()> {
        let ListScan { query, row, items, survivors: [survivors], precision, .. } = self;
        let (engine, row) = (query.engine, *row);
        let network = &engine.network;
        let item = |tile: usize, lane: usize| {
            let item = items[(panel.start + tile) * LANES + lane];
            (item != NO_ITEM && query.admits(row, item)).then_some(item)
        };
        match precision {
            Precision::Float32(all, collector) => {
                let tile_len = network.tile_len();
                survivors.reset(collector.threshold());
                Scratch::lend(network, |scratch| {
                    let scan = Scan {
                        network,
                        tiles: &all[panel.start * tile_len..panel.end * tile_len],
                        ahead: &[],
                        users: &[network.split_row(query.users.row(row))],
                        scratch,
                        survivors: std::slice::from_mut(survivors),
                    };
                    scan.run(engine.isa);
                })?;
                for survivor in survivors.found() {
                    for lane in lanes(survivor.lanes) {
                        if let Some(item) = item(survivor.tile, lane) {
                            collector.collect(item, survivor.logits[lane]);
                        }
                    }
                }
            }
            Precision::Quantized(catalogue, state) => {
                let all = catalogue.tiles();
                let Some(user) = &state.user else { return Ok(()) };
                survivors.reset(state.floor);
                Scratch::lend(network, |scratch| {
                    catalogue.isa.run(Estimate {
                        network,
                        tiles: all.slice(panel.clone()),
                        ahead: None,
                        user,
                        scratch,
                        survivors,
                    });
                })?;
                let int8 = user.width() == IntegerWidth::Int8;
                let settings = StandardFloats::enter();
                for survivor in survivors.found() {
                    let position = (panel.start + survivor.tile) * LANES;
                    for lane in lanes(survivor.lanes) {
                        if let Some(item) = item(survivor.tile, lane) {
                            let spread = if int8 { all.spread(position + lane) } else { 0.0 };
                            state.collect_or_defer(item, survivor.logits[lane], spread);
                        }
                    }
                }
                drop(settings);
                if state.is_full() {
                    query.make_room(row, state, watch)?;
                }
            }
            Precision::Dots(catalogue, scan) => {
                survivors.reset(scan.floor);
                catalogue.estimate(&scan.user, panel.clone(), survivors);
                scan.collect(panel.start, survivors)?;
            }
            Precision::Rows(_) => (),
        }
        Ok(())
    }

    fn visit_rows(&mut self, list: Range<usize>, watch: &Watch<'_>) -> Result<()> {
        let ListScan { query, row, items, precision: Precision::Rows(collector), .. } = self else { return Ok(()) };
        let mut listed = reserve("items of a list", list.len() * LANES)?;
        let positions = list.start * LANES..list.end * LANES;
        listed.extend(items[positions].iter().filter(|&&item| item != NO_ITEM && query.admits(*row, item)));
        listed.sort_unstable();
        query.visit_listed(*row, &listed, *collector, watch)
    }

    /// Rescores what may be among the best of the lists so far: they are collected then.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn settle(&mut self, watch: &Watch<'_>) -> Result<()> {
        match &mut self.precision {
            Precision::Float32(..) | Precision::Rows(_) => (),
            Precision::Quantized(_, state) => self.query.settle(self.row, state, watch)?,
            Precision::Dots(_, scan) => scan.finish(watch)?,
        }
        self.collector_mut().tighten();
        Ok(())
    }

    pub(crate) fn collector(&self) -> &C {
        match &self.precision {
            Precision::Float32(_, collector) | Precision::Rows(collector) => collector,
            Precision::Quantized(_, state) => state.collector,
            Precision::Dots(_, scan) => scan.collector,
        }
    }

    fn collector_mut(&mut self) -> &mut C {
        match &mut self.precision {
            Precision::Float32(_, collector) | Precision::Rows(collector) => collector,
            Precision::Quantized(_, state) => state.collector,
            Precision::Dots(_, scan) => scan.collector,
        }
    }
}

/// Tiles of a panel of dot products.
const PANEL: usize = 64;

//! The float32 scan.

use std::ops::Range;

use super::collector::lanes;
use super::panel::{USERS_PER_BLOCK, panel_tiles};
use super::{Collector, Query};
use crate::error::{Result, reserve};
use crate::filter::Cursor;
use crate::kernel::scan::Scan;
use crate::kernel::survivors::Survivors;
use crate::kernel::weights::{Network, Scratch};
use crate::kernel::{LANES, Lanes};
use crate::pool::Watch;

impl Query<'_> {
    /// Passes to each row's collector the items of these tiles that the filters admit and that reach its threshold.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(super) fn scan_float32<C: Collector>(
        &self,
        all: &[Lanes],
        rows: Range<usize>,
        tiles: Range<usize>,
        collectors: &mut [C],
        watch: &Watch<'_>,
    ) -> Result<()> {
        let Query { engine, users, .. } = self;
        let network = &*engine.network;
        let tile_len = network.tile_len();
        let panel_len = panel_tiles(tile_len, network);
        let first_item = (tiles.start * LANES) as u32;
        let mut cursors = reserve("cursors", rows.len())?;
        cursors.extend(rows.clone().map(|row| Cursor::new(self.excluded(row), first_item)));
        let mut user_rows = reserve("rows of users", rows.len())?;
        user_rows.extend(rows.map(|row| network.split_row(users.row(row))));
        let block = rows_per_check(panel_len, network).min(collectors.len());
        let mut survivors = reserve("survivors", block)?;
        for _ in 0..block {
            survivors.push(Survivors::new(panel_len.min(tiles.len()))?);
        }
        for first in tiles.clone().step_by(panel_len) {
            let panel = first..tiles.end.min(first + panel_len);
            let lines = &all[panel.start * tile_len..panel.end * tile_len];
            let ahead = &all[panel.end * tile_len..];
            let blocks = user_rows.chunks(block).zip(collectors.chunks_mut(block)).zip(cursors.chunks_mut(block));
            for (n, ((users, collectors), cursors)) in blocks.enumerate() {
                let work = lines.len() + users.len() * panel.len() * network.multiply_adds();
                if watch.stopped(LANES * work) {
                    return Ok(());
                }
                survivors
                    .iter_mut()
                    .zip(&*collectors)
                    .for_each(|(survivors, collector)| survivors.reset(collector.threshold()));
                Scratch::lend(network, |scratch| {
                    let scan = Scan {
                        network,
                        tiles: lines,
                        ahead: if n == 0 { ahead } else { &[] },
                        users,
                        scratch,
                        survivors: &mut survivors,
                    };
                    scan.run(engine.isa);
                })?;
                for (survivors, (collector, cursor)) in survivors.iter().zip(collectors.iter_mut().zip(cursors)) {
                    for survivor in survivors.found() {
                        let tile = panel.start + survivor.tile;
                        let excluded = cursor.sixteen((tile * LANES) as u32);
                        for lane in lanes(survivor.lanes & self.admitted_lanes(tile) & !excluded) {
                            collector.collect((tile * LANES + lane) as u32, survivor.logits[lane]);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Rows that are scored against a panel between two interrupt checks: some milliseconds of work without SIMD.
pub(super) fn rows_per_check(panel_len: usize, network: &Network) -> usize {
    const MAX_WORK: usize = 1 << 23;
    (MAX_WORK / (panel_len * LANES * network.multiply_adds())).clamp(1, USERS_PER_BLOCK)
}

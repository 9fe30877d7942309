//! The scan in float32.

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
    /// Shows each row's collector the items of these tiles that its filters leave.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(super) fn scan_float32<C: Collector>(
        &self,
        all: &[Lanes],
        rows: Range<usize>,
        tiles: Range<usize>,
        into: &mut [C],
        watch: &Watch<'_>,
    ) -> Result<()> {
        let Query { engine, users, .. } = self;
        let network = &engine.network;
        let tile_len = network.tile_len();
        let panel = panel_tiles(tile_len, network);
        let first_item = (tiles.start * LANES) as u32;
        let mut cursors: Vec<Cursor<'_>> =
            rows.clone().map(|row| Cursor::new(self.excluded(row), first_item)).collect();
        let user_rows: Vec<(&[f32], &[f32])> = rows.map(|row| network.split_row(users.row(row))).collect();
        let most = rows_at_once(panel, network).min(into.len());
        let mut survivors = reserve("survivors", most)?;
        for _ in 0..most {
            survivors.push(Survivors::new(panel.min(tiles.len()))?);
        }
        for first in tiles.clone().step_by(panel) {
            let here = first..tiles.end.min(first + panel);
            let lines = &all[here.start * tile_len..here.end * tile_len];
            let ahead = &all[here.end * tile_len..];
            let blocks = user_rows.chunks(most).zip(into.chunks_mut(most)).zip(cursors.chunks_mut(most));
            for (n, ((users, into), cursors)) in blocks.enumerate() {
                let work = lines.len() + users.len() * here.len() * network.multiply_adds();
                if watch.stopped(LANES * work) {
                    return Ok(());
                }
                survivors.iter_mut().zip(&*into).for_each(|(survivors, into)| survivors.reset(into.threshold()));
                Scratch::lend(network, |scratch| {
                    engine.isa.run(Scan {
                        network,
                        tiles: lines,
                        ahead: if n == 0 { ahead } else { &[] },
                        users,
                        scratch,
                        survivors: &mut survivors,
                    });
                });
                for (survivors, (into, cursor)) in survivors.iter().zip(into.iter_mut().zip(cursors)) {
                    for survivor in survivors.found() {
                        let tile = here.start + survivor.tile;
                        let excluded = cursor.sixteen((tile * LANES) as u32);
                        for lane in lanes(survivor.lanes & self.real_and_shared(tile) & !excluded) {
                            into.collect((tile * LANES + lane) as u32, survivor.logits[lane]);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// How many rows go through a panel between two checks whether to stop: some milliseconds of work without any SIMD.
fn rows_at_once(panel: usize, network: &Network) -> usize {
    const MOST_WORK: usize = 1 << 23;
    (MOST_WORK / (panel * LANES * network.multiply_adds())).clamp(1, USERS_PER_BLOCK)
}

//! The scan of items that have changed since the catalogue was laid out, and of new ones: float32 tiles in blocks,
//! whose items are in no order.

use std::ops::Range;

use super::collector::lanes;
use super::float32::rows_per_check;
use super::{Collector, Query};
use crate::engine::changes::{BLOCK_TILES, Changes};
use crate::error::{Result, reserve};
use crate::kernel::LANES;
use crate::kernel::scan::Scan;
use crate::kernel::survivors::Survivors;
use crate::kernel::weights::Scratch;
use crate::pool::Watch;

impl Query<'_> {
    /// Passes to a row's collector all items of the blocks that the filters admit.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn visit_changed(&self, row: usize, collector: &mut impl Collector, watch: &Watch<'_>) -> Result<()> {
        let tiles = self.engine.catalogue.changes.as_ref().map_or(0, Changes::tiles);
        self.scan_changed(row..row + 1, 0..tiles, std::slice::from_mut(collector), watch)
    }

    /// Passes to each row's collector the items of these tiles of the blocks that the filters admit and that reach its
    /// threshold.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(super) fn scan_changed<C: Collector>(
        &self,
        rows: Range<usize>,
        tiles: Range<usize>,
        collectors: &mut [C],
        watch: &Watch<'_>,
    ) -> Result<()> {
        let Query { engine, users, .. } = self;
        let (network, tile_len) = (&*engine.network, engine.network.tile_len());
        let Some(changes) = &engine.catalogue.changes else { return Ok(()) };
        let mut user_rows = reserve("rows of users", rows.len())?;
        user_rows.extend(rows.clone().map(|row| network.split_row(users.row(row))));
        let together = rows_per_check(BLOCK_TILES, network).min(rows.len());
        let mut survivors = reserve("survivors", together)?;
        for _ in 0..together {
            survivors.push(Survivors::new(BLOCK_TILES)?);
        }
        for at in tiles.start / BLOCK_TILES..tiles.end.div_ceil(BLOCK_TILES) {
            let (block, first) = (changes.block(at), at * BLOCK_TILES);
            let part = tiles.start.max(first) - first..tiles.end.min(first + BLOCK_TILES) - first;
            let lines = &block.tiles[part.start * tile_len..part.end * tile_len];
            let groups = user_rows.chunks(together).zip(collectors.chunks_mut(together));
            for (n, (users, collectors)) in groups.enumerate() {
                if watch.stopped(LANES * (lines.len() + users.len() * part.len() * network.multiply_adds())) {
                    return Ok(());
                }
                let resets = survivors.iter_mut().zip(&*collectors);
                resets.for_each(|(survivors, collector)| survivors.reset(collector.threshold()));
                Scratch::lend(network, |scratch| {
                    Scan { network, tiles: lines, ahead: &[], users, scratch, survivors: &mut survivors }
                        .run(engine.isa);
                })?;
                for (row, (survivors, collector)) in (n * together..).zip(survivors.iter().zip(collectors)) {
                    let excluded = self.excluded(rows.start + row);
                    for survivor in survivors.found() {
                        let items = &block.items[(part.start + survivor.tile) * LANES..][..LANES];
                        for lane in lanes(survivor.lanes) {
                            let Some(item) = items[lane] else { continue };
                            if self.shares(item) && excluded.binary_search(&item).is_err() {
                                collector.collect(item, survivor.logits[lane]);
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

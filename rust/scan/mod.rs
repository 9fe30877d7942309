//! Scores users against items, and passes to each row's collector the items that the filters admit.
//!
//! A scan makes one pass over the tiles for a block of users: a panel of tiles stays in the L1 cache while each user of
//! the block is scored against it. Only the survivors, the items that reach a user's threshold, need further work.

mod changed;
mod collector;
mod dots;
mod float32;
mod listed;
mod lists;
mod panel;
mod quantized;
mod query;

use std::ops::Range;

pub(crate) use collector::Collector;
pub(crate) use lists::ListScan;
pub(crate) use panel::USERS_PER_BLOCK;
pub(crate) use query::Query;

use crate::engine::catalogue::Tiles;
use crate::error::{Result, reserve};
use crate::filter::Shared;
use crate::pool::Watch;

impl Query<'_> {
    /// Passes to each row's collector the items of a part of the catalogue that the filters admit and that reach its
    /// threshold. Tiles of changed and new items come after those that were laid out at load.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn visit<C: Collector>(
        &self,
        rows: Range<usize>,
        part: Range<usize>,
        collectors: &mut [C],
        watch: &Watch<'_>,
    ) -> Result<()> {
        match (&self.shared, self.filter.candidates) {
            (_, Some(csr)) => {
                for (row, collector) in rows.zip(collectors) {
                    let allowed = |item: &u32| self.engine.has_item(*item) && self.shares(*item);
                    let mut items = reserve("candidates", csr.row(row).len())?;
                    items.extend(csr.row(row).iter().copied().filter(allowed));
                    self.visit_listed(row, &items, collector, watch)?;
                }
            }
            (Shared::Few(items), None) => {
                for (row, collector) in rows.zip(collectors) {
                    self.visit_listed(row, &items[part.clone()], collector, watch)?;
                }
            }
            _ => {
                let at_load = self.engine.catalogue.tiles_at_load();
                let changed = part.start.saturating_sub(at_load)..part.end.saturating_sub(at_load);
                let part = part.start.min(at_load)..part.end.min(at_load);
                if !changed.is_empty() {
                    self.scan_changed(rows.clone(), changed, collectors, watch)?;
                }
                if part.is_empty() {
                    return Ok(());
                }
                match &*self.engine.catalogue.tiles {
                    Tiles::Float32(all) => self.scan_float32(all, rows, part, collectors, watch)?,
                    Tiles::Quantized(quantized) => self.scan_quantized(quantized, rows, part, collectors, watch)?,
                    Tiles::Dots(dots) => self.scan_dots(dots, rows, part, collectors, watch)?,
                }
            }
        }
        Ok(())
    }
}

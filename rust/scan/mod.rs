//! Users times items: shows each row's collector the items that its filters leave.
//!
//! A scan goes through the tiles of items once for a block of users: a panel of tiles stays in the first-level cache while each user of the
//! block is scored with it. Only the survivors, the items that reach a user's threshold, cost more.

mod collector;
mod float32;
mod listed;
mod panel;
mod quantized;
mod query;

use std::ops::Range;

pub(crate) use collector::Collector;
pub(crate) use panel::USERS_PER_BLOCK;
pub(crate) use query::Query;

use crate::engine::catalogue::Tiles;
use crate::error::{Result, reserve};
use crate::filter::Shared;
use crate::pool::Watch;

impl Query<'_> {
    /// Shows each row's collector the items of a part of the catalogue that its filters leave, ascending.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn visit<C: Collector>(
        &self,
        rows: Range<usize>,
        part: Range<usize>,
        into: &mut [C],
        watch: &Watch<'_>,
    ) -> Result<()> {
        match (&self.shared, self.filter.candidates) {
            (shared, Some(csr)) => {
                for (row, into) in rows.zip(into) {
                    let allowed = |item: &u32| match shared {
                        Shared::All => true,
                        Shared::Most(set) => set.contains(*item),
                        Shared::Few(items) => items.binary_search(item).is_ok(),
                    };
                    let mut items = reserve("candidates", csr.row(row).len())?;
                    items.extend(csr.row(row).iter().copied().filter(allowed));
                    self.visit_listed(row, &items, into, watch);
                }
            }
            (Shared::Few(items), None) => {
                for (row, into) in rows.zip(into) {
                    self.visit_listed(row, &items[part.clone()], into, watch);
                }
            }
            _ => match &self.engine.catalogue.tiles {
                Tiles::Float32(all) => self.scan_float32(all, rows, part, into, watch)?,
                Tiles::Quantized(quantized) => self.scan_quantized(quantized, rows, part, into, watch)?,
            },
        }
        Ok(())
    }
}

//! Users times items: shows each row's collector the items that its filters leave.
//!
//! A scan goes through the tiles of items once for a block of users: a panel of tiles stays in the first-level cache while each user of the
//! block is scored with it. Only the survivors, the items that reach a user's threshold, cost more.

mod collector;
mod float32;
mod quantized;
mod query;

use std::ops::Range;

pub(crate) use collector::Collector;
pub(crate) use query::Query;

use crate::engine::Engine;
use crate::engine::catalogue::Tiles;
use crate::error::{Result, reserve};
use crate::filter::{Cursor, Shared};
use crate::kernel::weights::Network;
use crate::kernel::{LANES, Lanes, StandardFloats};
use crate::pool::Watch;

/// Users that share a pass over the catalogue.
pub(crate) const USERS_PER_BLOCK: usize = 64;

/// The most tiles in a panel.
const MOST_TILES: usize = 64;

/// Where a filter leaves fewer than one item in so many, scoring them one by one is cheaper than a scan.
const FEW: usize = 4;

impl Query<'_> {
    /// Shows each row's collector the items of a part of the catalogue that its filters leave, ascending.
    ///
    /// # Errors
    /// [`Error::Memory`].
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

    /// Shows a row's collector those of `items`, ascending, that are not excluded.
    fn visit_listed(&self, row: usize, items: &[u32], into: &mut impl Collector, watch: &Watch<'_>) {
        const AT_ONCE: usize = 1024;
        let mut excluded = Cursor::new(self.excluded(row), items.first().copied().unwrap_or(0));
        let mut left: Vec<u32> = Vec::with_capacity(items.len().min(AT_ONCE));
        let mut logits = [0.0; AT_ONCE];
        for items in items.chunks(AT_ONCE) {
            left.clear();
            left.extend(items.iter().copied().filter(|&item| !excluded.contains(item)));
            let logits = &mut logits[..left.len()];
            self.engine.score_candidates(self.users, row, &left, logits, watch);
            let _settings = StandardFloats::enter(); // else subnormal logits may compare as equal
            for (&item, &mut logit) in left.iter().zip(logits) {
                if logit >= into.threshold() {
                    into.collect(item, logit);
                }
            }
        }
    }
}

/// How many tiles of a length are a panel. Those of a huge network are few: between two panels a call may be stopped.
fn panel_tiles(tile_len: usize, network: &Network) -> usize {
    const MOST_WORK: usize = 1 << 27;
    let by_work = MOST_WORK / (LANES * network.multiply_adds());
    match (Engine::PANEL_BYTES / (tile_len * size_of::<Lanes>())).min(by_work) {
        few @ 0..4 => {
            if by_work < 4 {
                few.max(1)
            } else {
                4
            }
        }
        many => many.min(MOST_TILES) / 4 * 4,
    }
}

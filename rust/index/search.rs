//! The approximate search: visits lists in the order of their scores (`probes.rs`) until no further one promises an
//! item.
//!
//! Items that have changed since the catalogue was laid out, and new ones, are in no list: all of them are scored.
//!
//! What comes back is exact but for the lists that were not visited: the float32 logits of the best items of all
//! visited lists, in THE order.
//!
//! A list is visited if its score reaches `t - m d`: `t` the `k`-th best logit so far, `d` the standard
//! deviation of the user's scores of lists, `m` the margin that `calibrate` found for a recall. So a search goes as
//! deep as the user, `k` and the filters demand: where a filter leaves few items, `t` stays low, and while fewer than
//! `k` are found, every list is visited.

use super::lists::Lists;
use super::probes::Probes;
use crate::error::Result;
use crate::kernel::LANES;
use crate::order::{Key, Selection, reaches};
use crate::pool::Watch;
use crate::scan::{Collector, ListScan, Query};

/// Tiles of the lists that are visited before the threshold is looked at, and the share of those visited so far that
/// are visited before the next look.
const FIRST_TILES: usize = 48;
const NEXT_SHARE: usize = 4;
const NEXT_TILES: usize = 32;

/// When a search ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// No list's score reaches the `k`-th best logit by this margin, in standard deviations.
    Margin(f64),
    /// This many lists have been visited.
    Probes(usize),
}

/// What a search visited.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Visited {
    pub(super) lists: usize,
    pub(super) items: usize,
}

/// The best items of the lists visited.
pub(super) struct Best {
    selection: Selection,
    /// At least as many items as are wanted are known to reach it.
    proven: f32,
}

impl Best {
    pub(super) fn new(k: usize, items: usize) -> Result<Self> {
        Ok(Best { selection: Selection::new(k, items)?, proven: f32::NEG_INFINITY })
    }

    /// The logit of the `k`-th best item collected; negative infinity while there are fewer.
    fn kth(&self) -> f32 {
        self.selection.threshold()
    }

    pub(super) fn finish(&mut self) -> &[Key] {
        self.selection.finish()
    }
}

impl Collector for Best {
    fn threshold(&self) -> f32 {
        let own = self.selection.threshold();
        if reaches(own, self.proven) { own } else { self.proven }
    }

    fn certain(&self) -> f32 {
        f32::INFINITY
    }

    fn wanted(&self) -> Option<usize> {
        Some(self.selection.k())
    }

    fn prove(&mut self, logit: f32) {
        if reaches(logit, self.proven) {
            self.proven = logit;
        }
    }

    fn tighten(&mut self) {
        self.selection.tighten();
    }

    #[inline]
    fn collect(&mut self, item: u32, logit: f32) {
        self.selection.push(Key::new(logit, item));
    }
}

/// Collects the best items for row `row`.
///
/// # Errors
/// [`Error::Memory`](crate::Error::Memory).
pub(super) fn search(
    query: &Query<'_>,
    row: usize,
    lists: &Lists,
    until: Until,
    probes: &mut Probes,
    best: &mut Best,
    watch: &Watch<'_>,
) -> Result<Visited> {
    watch.stopped(lists.count() * query.engine.multiply_adds());
    probes.score(query, row, lists)?;
    query.visit_changed(row, best, watch)?;
    let mut scan = ListScan::new(query, &lists.listed, row, best)?;
    let (mut visited, mut tiles, mut pause) = (Visited::default(), 0, FIRST_TILES);
    let mut kth = f64::NEG_INFINITY;
    while let Some(list) = probes.get(visited.lists) {
        let enough = match until {
            // A user to whom all lists are alike visits all of them.
            Until::Margin(margin) => {
                let unit = probes.deviation();
                unit > 0.0 && f64::from(list.score()) < kth - margin * unit
            }
            Until::Probes(most) => visited.lists >= most && kth > f64::NEG_INFINITY,
        };
        if enough {
            break;
        }
        let list = lists.tiles(list.item());
        tiles += list.len();
        visited.lists += 1;
        scan.scan(list, watch)?;
        if tiles >= pause || matches!(until, Until::Probes(most) if visited.lists >= most) {
            scan.settle(watch)?;
            // It is exact after that, and so the same with every instruction set.
            kth = f64::from(scan.collector().kth());
            pause = tiles + NEXT_TILES.max(tiles / NEXT_SHARE);
        }
    }
    scan.settle(watch)?;
    visited.items = tiles * LANES;
    Ok(visited)
}

//! What a scan finds: the tiles of a panel in which a user's logits reach a threshold. All others leave no trace, so that they cost
//! a comparison and nothing else.

use super::{LANES, Lanes, Simd};
use crate::error::{Result, filled};

/// A tile that reaches the threshold.
#[derive(Clone, Copy)]
pub(crate) struct Hit {
    /// Which of the panel's.
    pub(crate) tile: usize,
    /// Bit `l` is set where lane `l` reaches the threshold.
    pub(crate) lanes: u16,
    /// Of all lanes.
    pub(crate) logits: Lanes,
}

/// The hits of a user in a panel of tiles.
pub(crate) struct Hits {
    threshold: f32,
    count: usize,
    found: Vec<Hit>,
}

impl Hits {
    /// Room for `tiles` tiles.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn new(tiles: usize) -> Result<Self> {
        let none = Hit { tile: 0, lanes: 0, logits: [0.0; LANES] };
        Ok(Hits { threshold: f32::INFINITY, count: 0, found: filled("hits", tiles, none)? })
    }

    /// Forgets what was found, and looks for logits of at least `threshold`.
    #[inline]
    pub(crate) fn seek(&mut self, threshold: f32) {
        (self.threshold, self.count) = (threshold, 0);
    }

    /// Looks at the logits of a tile.
    #[inline(always)]
    pub(super) fn look<S: Simd>(&mut self, s: S, tile: usize, logits: S::V) {
        let lanes = s.at_least(logits, s.splat(self.threshold));
        if lanes != 0 {
            let hit = &mut self.found[self.count];
            (hit.tile, hit.lanes) = (tile, lanes);
            s.store(logits, &mut hit.logits);
            self.count += 1;
        }
    }

    /// What has been found, in the order of the tiles.
    #[inline]
    pub(crate) fn found(&self) -> &[Hit] {
        &self.found[..self.count]
    }
}

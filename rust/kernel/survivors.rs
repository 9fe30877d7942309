//! The survivors of a scan: the tiles in which some item reaches the threshold. Other tiles are not stored.

use super::{LANES, Lanes, Simd};
use crate::error::{Result, filled};

/// A tile in which some item reaches the threshold.
#[derive(Clone, Copy)]
pub(crate) struct Survivor {
    /// The tile's position in its panel.
    pub(crate) tile: usize,
    /// Bit `l` is set if lane `l` reaches the threshold.
    pub(crate) lanes: u16,
    /// The logits of all lanes.
    pub(crate) logits: Lanes,
}

/// The survivors of one user in a panel of tiles.
pub(crate) struct Survivors {
    threshold: f32,
    count: usize,
    found: Vec<Survivor>,
}

impl Survivors {
    /// Capacity for `tiles` tiles.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn new(tiles: usize) -> Result<Self> {
        let none = Survivor { tile: 0, lanes: 0, logits: [0.0; LANES] };
        Ok(Survivors { threshold: f32::INFINITY, count: 0, found: filled("survivors", tiles, none)? })
    }

    /// Clears the survivors and sets the threshold.
    #[inline]
    pub(crate) fn reset(&mut self, threshold: f32) {
        (self.threshold, self.count) = (threshold, 0);
    }

    /// Records a tile if one of its logits reaches the threshold.
    #[inline(always)]
    pub(super) fn record<S: Simd>(&mut self, s: S, tile: usize, logits: S::V) {
        let lanes = s.at_least(logits, s.splat(self.threshold));
        if lanes != 0 {
            let survivor = &mut self.found[self.count];
            (survivor.tile, survivor.lanes) = (tile, lanes);
            s.store(logits, &mut survivor.logits);
            self.count += 1;
        }
    }

    /// The recorded tiles, in order.
    #[inline]
    pub(crate) fn found(&self) -> &[Survivor] {
        &self.found[..self.count]
    }
}

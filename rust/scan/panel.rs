//! Divides the catalogue into panels, so that tiles are read from memory once for many users.

use crate::engine::Engine;
use crate::kernel::weights::Network;
use crate::kernel::{LANES, Lanes};

/// Users that share a pass over the catalogue.
pub(crate) const USERS_PER_BLOCK: usize = 64;

/// The maximum tiles in a panel.
const MAX_TILES: usize = 64;

/// The number of tiles of this length in a panel. A huge network has few, because interrupts are checked between
/// panels.
pub(super) fn panel_tiles(tile_len: usize, network: &Network) -> usize {
    const MAX_WORK: usize = 1 << 27;
    let by_work = MAX_WORK / (LANES * network.multiply_adds());
    match (Engine::PANEL_BYTES / (tile_len * size_of::<Lanes>())).min(by_work) {
        few @ 0..4 => {
            if by_work < 4 {
                few.max(1)
            } else {
                4
            }
        }
        many => many.min(MAX_TILES) / 4 * 4,
    }
}

//! Tiles with their items in another order, as the lists of an index have them.

use std::ops::Range;

use super::layout::TILES_PER_TASK;
use crate::error::Result;
use crate::kernel::{Aligned, LANES, Lanes};
use crate::pool::Call;

/// No item: padding at the end of a list.
pub(crate) const NO_ITEM: u32 = u32::MAX;

/// Tiles of `tile_len` lines with the lanes of `from` in another order; lanes without one are zero. The lines `halves`
/// hold two features in half precision, one after the other.
pub(super) fn rearranged(
    from: &[Lanes],
    tile_len: usize,
    halves: Range<usize>,
    positions: &[u32],
    call: Call<'_>,
) -> Result<Aligned> {
    let mut to = Aligned::zeros("item tiles", (positions.len() / LANES).saturating_mul(tile_len))?;
    call.for_each_chunk(&mut to, TILES_PER_TASK * tile_len, |n, tiles, watch| {
        let positions = positions[n * TILES_PER_TASK * LANES..].chunks_exact(LANES);
        for (tile, positions) in tiles.chunks_exact_mut(tile_len).zip(positions) {
            if watch.stopped(LANES * tile_len) {
                return Ok(());
            }
            for (lane, &position) in positions.iter().enumerate().filter(|&(_, &position)| position != NO_ITEM) {
                let (at, from_lane) = (position as usize / LANES * tile_len, position as usize % LANES);
                for (line, (to, from)) in tile.iter_mut().zip(&from[at..]).enumerate() {
                    if halves.contains(&line) {
                        let from: &[[u16; LANES]; 2] = bytemuck::cast_ref(from);
                        let to: &mut [[u16; LANES]; 2] = bytemuck::cast_mut(to);
                        (0..2).for_each(|feature| to[feature][lane] = from[feature][from_lane]);
                    } else {
                        to[lane] = from[from_lane];
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(to)
}

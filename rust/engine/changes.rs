//! Changes of a catalogue: items with other vectors, new items, and items that are removed.
//!
//! The tiles that were laid out at load stay as they are: their quantization holds for the items that they were made
//! of. Changed and new items lie in blocks of float32 tiles beside them, in any order, and a scan of the others leaves
//! out what is stale. A change copies the blocks that it touches and shares all else with the engine that it is made
//! of (copy on write), which stays as it is.

use std::sync::Arc;

use crate::error::{Result, collected, filled, reserve};
use crate::kernel::row_table::BLOCK_ROWS;
use crate::kernel::weights::Network;
use crate::kernel::{Aligned, LANES, Lanes};

/// Tiles of a block.
pub(crate) const BLOCK_TILES: usize = BLOCK_ROWS / LANES;

/// The tiles of changed and new items, and what is stale in those that were laid out at load.
#[derive(Debug)]
pub(crate) struct Changes {
    blocks: Vec<Arc<TileBlock>>,
    /// Places in the blocks that have been used; all later ones are empty.
    used: usize,
    /// Used places that are empty again.
    free: Vec<u32>,
    /// For each tile that was laid out at load, the lanes whose items have changed or are removed.
    stale: Vec<u16>,
}

/// A block of tiles.
#[derive(Debug)]
pub(crate) struct TileBlock {
    /// The item at each place.
    pub(crate) items: [Option<u32>; BLOCK_ROWS],
    pub(crate) tiles: Aligned,
}

impl TileBlock {
    fn empty(tile_len: usize) -> Result<Self> {
        Ok(TileBlock { items: [None; BLOCK_ROWS], tiles: Aligned::zeros("block of tiles", BLOCK_TILES * tile_len)? })
    }

    fn try_clone(&self) -> Result<Self> {
        Ok(TileBlock { items: self.items, tiles: self.tiles.try_clone()? })
    }
}

impl Changes {
    /// None, in a catalogue of `items`.
    pub(super) fn none(items: usize) -> Result<Self> {
        let stale = filled("changed items", items.div_ceil(LANES), 0)?;
        Ok(Changes { blocks: Vec::new(), used: 0, free: Vec::new(), stale })
    }

    /// The same changes, with room for `more` items.
    pub(super) fn extended(&self, more: usize) -> Result<Self> {
        let mut blocks = reserve("blocks of tiles", self.blocks.len() + more.div_ceil(BLOCK_ROWS))?;
        blocks.extend(self.blocks.iter().cloned());
        let free = collected("changed items", self.free.iter().copied())?;
        let stale = collected("changed items", self.stale.iter().copied())?;
        Ok(Changes { blocks, used: self.used, free, stale })
    }

    /// A place for an item that is in no block.
    pub(super) fn next_place(&mut self) -> usize {
        match self.free.pop() {
            Some(place) => place as usize,
            None => {
                self.used += 1;
                self.used - 1
            }
        }
    }

    /// Marks what was laid out for an item at load, if anything was.
    pub(super) fn retire(&mut self, item: usize) {
        if let Some(lanes) = self.stale.get_mut(item / LANES) {
            *lanes |= 1 << (item % LANES);
        }
    }

    pub(super) fn put(&mut self, network: &Network, item: usize, place: usize, row: &[Lanes]) -> Result<()> {
        let tile_len = network.tile_len();
        if place / BLOCK_ROWS == self.blocks.len() {
            self.blocks.push(Arc::new(TileBlock::empty(tile_len)?));
        }
        let block = self.block_of(place)?;
        block.items[place % BLOCK_ROWS] = Some(item as u32);
        let (first, gmf) = network.split_row(row);
        let tile = &mut block.tiles[place % BLOCK_ROWS / LANES * tile_len..][..tile_len];
        tile.iter_mut().zip(first.iter().chain(gmf)).for_each(|(line, &x)| line[place % LANES] = x);
        Ok(())
    }

    pub(super) fn clear(&mut self, place: usize) -> Result<()> {
        self.block_of(place)?.items[place % BLOCK_ROWS] = None;
        self.free.push(place as u32);
        Ok(())
    }

    /// The block of a place, copied first if others share it.
    fn block_of(&mut self, place: usize) -> Result<&mut TileBlock> {
        let block = &mut self.blocks[place / BLOCK_ROWS];
        if Arc::get_mut(block).is_none() {
            *block = Arc::new(block.try_clone()?);
        }
        Ok(Arc::get_mut(block).expect("a block that nobody else has"))
    }

    /// The number of items in the blocks: all that are new or have changed.
    pub(crate) fn items(&self) -> usize {
        self.used - self.free.len()
    }

    /// The number of tiles in the blocks.
    pub(crate) fn tiles(&self) -> usize {
        self.used.div_ceil(LANES)
    }

    pub(crate) fn block(&self, at: usize) -> &TileBlock {
        &self.blocks[at]
    }

    /// The lanes of a tile that was laid out at load that are no longer true.
    #[inline(always)]
    pub(crate) fn stale(&self, tile: usize) -> u16 {
        self.stale[tile]
    }

    pub(crate) fn nbytes(&self) -> usize {
        let of_block = |block: &Arc<TileBlock>| size_of_val(&block.items) + block.tiles.nbytes();
        self.blocks.iter().map(of_block).sum::<usize>() + size_of_val(&self.stale[..])
    }
}

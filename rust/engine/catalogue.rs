//! The catalogue in its memory layouts: rows for access to single items, tiles for scans.

use std::sync::Arc;

use super::changes::Changes;
use super::dots::DotCatalogue;
use super::layout::Layout;
use super::rearranged::rearranged;
use crate::error::{Result, reserve};
use crate::kernel::quantized::Quantization;
use crate::kernel::quantized::tiles::QuantizedTiles;
use crate::kernel::row_table::{ItemRows, RowTable};
use crate::kernel::weights::Network;
use crate::kernel::{Aligned, IntegerIsa, LANES};
use crate::pool::Call;

/// The items of a model.
#[derive(Debug)]
pub(crate) struct Catalogue {
    /// One item after the other, for access to single items.
    pub(crate) rows: ItemRows,
    /// The tiles that were laid out at load.
    pub(crate) tiles: Arc<Tiles>,
    /// What has changed since.
    pub(crate) changes: Option<Changes>,
}

impl Catalogue {
    /// The number of tiles that were laid out at load.
    pub(crate) fn tiles_at_load(&self) -> usize {
        self.rows.table().count().div_ceil(LANES)
    }

    /// The number of tiles, those of changed and new items included.
    pub(crate) fn tile_count(&self) -> usize {
        self.tiles_at_load() + self.changes.as_ref().map_or(0, Changes::tiles)
    }

    /// The lanes of a tile that was laid out at load that hold an item, as it still is.
    #[inline(always)]
    pub(crate) fn lanes(&self, tile: usize) -> u16 {
        let items = self.rows.table().count() - tile * LANES;
        let items = if items >= LANES { u16::MAX } else { (1 << items) - 1 };
        items & !self.changes.as_ref().map_or(0, |changes| changes.stale(tile))
    }
}

/// Sixteen items side by side, feature by feature, for scans.
#[derive(Debug)]
pub(crate) enum Tiles {
    Float32(Aligned),
    Quantized(Box<QuantizedCatalogue>),
    Dots(Box<DotCatalogue>),
}

/// The items in another order, in lists of whole tiles.
#[derive(Debug)]
pub(crate) struct ListedTiles {
    pub(crate) tiles: Tiles,
    /// The item at each position, or `NO_ITEM`.
    pub(crate) items: Vec<u32>,
}

impl ListedTiles {
    pub(crate) fn nbytes(&self) -> usize {
        self.tiles.nbytes() + size_of_val(&self.items[..])
    }
}

/// Quantized tiles, the quantized layer that is applied to them, and the instruction set to use.
#[derive(Debug)]
pub(crate) struct QuantizedCatalogue {
    pub(crate) isa: IntegerIsa,
    /// Shared with the same items in another order.
    pub(crate) quantization: Arc<Quantization>,
    /// All lines except the int16 words.
    tiles: Aligned,
    int16: Aligned,
}

impl Tiles {
    pub(crate) fn nbytes(&self) -> usize {
        match self {
            Tiles::Float32(tiles) => tiles.nbytes(),
            Tiles::Quantized(quantized) => quantized.tiles.nbytes() + quantized.int16.nbytes(),
            Tiles::Dots(dots) => dots.nbytes(),
        }
    }

    /// The items in the order of their tiles.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn order(&self, items: usize) -> Result<Vec<u32>> {
        let mut order = reserve("items in order", items)?;
        match self {
            Tiles::Float32(_) | Tiles::Quantized(_) => order.extend(0..items as u32),
            Tiles::Dots(dots) => order.extend(dots.items_at(0..items)),
        }
        Ok(order)
    }

    /// The same tiles with the items in another order: `items` has an item or `NO_ITEM` for each position of whole
    /// tiles. Within a list they must be in the order of [`Tiles::order`].
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory); [`Error::Interrupted`](crate::Error::Interrupted).
    pub(crate) fn listed(&self, network: &Network, items: Vec<u32>, call: Call<'_>) -> Result<ListedTiles> {
        let tiles = match self {
            Tiles::Float32(tiles) => Tiles::Float32(rearranged(tiles, network.tile_len(), 0..0, &items, call)?),
            Tiles::Quantized(of) => {
                let layout = of.quantization.layout();
                Tiles::Quantized(Box::new(QuantizedCatalogue {
                    isa: of.isa,
                    quantization: Arc::clone(&of.quantization),
                    tiles: rearranged(&of.tiles, layout.len(), layout.gmf(), &items, call)?,
                    int16: rearranged(&of.int16, layout.int16, 0..0, &items, call)?,
                }))
            }
            Tiles::Dots(dots) => Tiles::Dots(Box::new(dots.listed(&items, call)?)),
        };
        Ok(ListedTiles { tiles, items })
    }
}

impl QuantizedCatalogue {
    /// Lays out the items in `rows`.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory); [`Error::Interrupted`](crate::Error::Interrupted).
    pub(super) fn new(
        layout: &Layout<'_>,
        isa: IntegerIsa,
        quantization: Quantization,
        rows: &RowTable,
    ) -> Result<Self> {
        let tiles = layout.quantized_tiles(rows, &quantization)?;
        let int16 = layout.int16_tiles(rows, &quantization)?;
        Ok(QuantizedCatalogue { isa, quantization: Arc::new(quantization), tiles, int16 })
    }

    /// The same items in int16 alone; `None` if there is no int8 to drop.
    ///
    /// # Errors
    /// As for [`QuantizedCatalogue::new`].
    pub(super) fn without_int8(self, layout: &Layout<'_>, rows: &RowTable) -> Result<Option<Self>> {
        let QuantizedCatalogue { isa, mut quantization, tiles, int16 } = self;
        if Arc::get_mut(&mut quantization).and_then(|own| own.int8.take()).is_none() {
            return Ok(None);
        }
        drop(tiles); // free them before allocating the new ones
        let tiles = layout.quantized_tiles(rows, &quantization)?;
        Ok(Some(QuantizedCatalogue { isa, quantization, tiles, int16 }))
    }

    /// All tiles.
    pub(crate) fn tiles(&self) -> QuantizedTiles<'_> {
        QuantizedTiles { layout: self.quantization.layout(), tiles: &self.tiles, int16: &self.int16 }
    }
}

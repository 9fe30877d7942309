//! The catalogue in its memory layouts: rows for access to single items, tiles for scans.

use std::sync::Arc;

use super::changes::Changes;
use super::dots::DotCatalogue;
use super::layout::Layout;
use crate::error::Result;
use crate::kernel::quantized::Quantization;
use crate::kernel::quantized::tiles::QuantizedTiles;
use crate::kernel::row_table::{ItemRows, RowTable};
use crate::kernel::{Aligned, IntegerIsa, LANES};

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

/// Quantized tiles, the quantized layer that is applied to them, and the instruction set to use.
#[derive(Debug)]
pub(crate) struct QuantizedCatalogue {
    pub(crate) isa: IntegerIsa,
    pub(crate) quantization: Quantization,
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
        Ok(QuantizedCatalogue { isa, quantization, tiles, int16 })
    }

    /// The same items in int16 alone; `None` if there is no int8 to drop.
    ///
    /// # Errors
    /// As for [`QuantizedCatalogue::new`].
    pub(super) fn without_int8(self, layout: &Layout<'_>, rows: &RowTable) -> Result<Option<Self>> {
        let QuantizedCatalogue { isa, mut quantization, tiles, int16 } = self;
        if quantization.int8.take().is_none() {
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

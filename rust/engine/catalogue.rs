//! The items, laid out: rows for single items, tiles for scans.

use super::layout::Layout;
use crate::error::Result;
use crate::kernel::quantized::Quantization;
use crate::kernel::quantized::tiles::QuantizedTiles;
use crate::kernel::row_table::RowTable;
use crate::kernel::{Aligned, IntegerIsa};

/// The items of a model.
#[derive(Debug)]
pub(crate) struct Catalogue {
    /// One item after the other: what a query of single items reads.
    pub(crate) rows: RowTable,
    pub(crate) tiles: Tiles,
}

/// Sixteen items side by side, feature by feature: what a scan reads.
#[derive(Debug)]
pub(crate) enum Tiles {
    Float32(Aligned),
    Quantized(Box<QuantizedCatalogue>),
}

/// Quantized tiles, with the layer that is computed from them and the instruction set that does it.
#[derive(Debug)]
pub(crate) struct QuantizedCatalogue {
    pub(crate) isa: IntegerIsa,
    pub(crate) quantization: Quantization,
    /// All lines but the int16 words.
    tiles: Aligned,
    int16: Aligned,
}

impl Tiles {
    pub(crate) fn nbytes(&self) -> usize {
        match self {
            Tiles::Float32(tiles) => tiles.nbytes(),
            Tiles::Quantized(quantized) => quantized.tiles.nbytes() + quantized.int16.nbytes(),
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

    /// The same items in int16 alone; `None` where they already are.
    ///
    /// # Errors
    /// As for [`QuantizedCatalogue::new`].
    pub(super) fn without_int8(self, layout: &Layout<'_>, rows: &RowTable) -> Result<Option<Self>> {
        let QuantizedCatalogue { isa, mut quantization, tiles, int16 } = self;
        if quantization.int8.take().is_none() {
            return Ok(None);
        }
        drop(tiles); // before the new ones take memory
        let tiles = layout.quantized_tiles(rows, &quantization)?;
        Ok(Some(QuantizedCatalogue { isa, quantization, tiles, int16 }))
    }

    /// All tiles.
    pub(crate) fn tiles(&self) -> QuantizedTiles<'_> {
        QuantizedTiles { layout: self.quantization.layout(), tiles: &self.tiles, int16: &self.int16 }
    }
}

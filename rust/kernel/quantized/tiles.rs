//! Quantized tiles: the layout of integers in words, words in lines, and lines in tiles.
//!
//! A 32-bit word holds two int16 or four 8-bit values of consecutive features. A tile has sixteen items; a line of a
//! tile holds one word of each item, stored in the bits of float32 values. [`TileLayout`] gives the position of each
//! line. The int16 words are in a separate array, so that int8 scans do not load them.

use std::ops::Range;

use crate::error::{Result, collected, reserve, try_collected};
use crate::kernel::weights::block_size;
use crate::kernel::{LANES, Lanes};

/// The width of the integers in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IntegerWidth {
    /// Four 8-bit values.
    Int8,
    /// Two int16.
    Int16,
}

impl IntegerWidth {
    /// Values in a word.
    pub(super) const fn per_word(self) -> usize {
        match self {
            IntegerWidth::Int8 => 4,
            IntegerWidth::Int16 => 2,
        }
    }

    /// Words for `features` values; the last word is padded with zeros.
    pub(super) const fn words(self, features: usize) -> usize {
        features.div_ceil(self.per_word())
    }

    /// `value` at position `at` of a word that is zero elsewhere.
    #[inline(always)]
    pub(super) const fn place(self, value: u64, at: usize) -> u32 {
        match self {
            IntegerWidth::Int8 => (value as u8 as u32) << (8 * at),
            IntegerWidth::Int16 => (value as u16 as u32) << (16 * at),
        }
    }

    /// `values` packed into words.
    pub(super) fn pack(self, values: &[i16]) -> Result<Vec<u32>> {
        let word = |values: &[i16]| values.iter().enumerate().fold(0, |word, (at, &x)| word | self.place(x as u64, at));
        collected("quantized values", values.chunks(self.per_word()).map(word))
    }
}

/// A layer's quantized weights, packed like [`Packed`](crate::kernel::weights::Packed) but in words of inputs.
#[derive(Debug, Clone)]
pub(crate) struct QuantizedLayer {
    pub(super) width: IntegerWidth,
    /// Words of inputs.
    pub(super) words: usize,
    pub(super) block: usize,
    pub(super) weight: Vec<u32>,
    /// For each output, the factor that converts its integer sum to a float.
    pub(super) scale: Vec<f32>,
}

impl QuantizedLayer {
    /// Packs `weight`, `[outputs, inputs]`, in blocks of at most `max_block` outputs.
    pub(super) fn new(width: IntegerWidth, weight: &[i16], scale: Vec<f32>, max_block: usize) -> Result<Self> {
        let outputs = scale.len();
        let inputs = weight.len() / outputs;
        let (words, block) = (width.words(inputs), block_size(outputs, max_block));
        let rows = try_collected("quantized weights", weight.chunks_exact(inputs).map(|row| width.pack(row)))?;
        let mut packed = reserve("quantized weights", words * outputs)?;
        for block in rows.chunks(block) {
            (0..words).for_each(|p| packed.extend(block.iter().map(|row| row[p])));
        }
        Ok(QuantizedLayer { width, words, block, weight: packed, scale })
    }

    pub(super) fn nbytes(&self) -> usize {
        size_of_val(&self.weight[..]) + size_of_val(&self.scale[..])
    }
}

/// The lines of a tile, in order: first-layer features in int8, GMF features in half precision, the spread of the int8
/// estimates (int8 and spread only in a layout with int8). And the number of lines of int16 words in the separate
/// array.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TileLayout {
    /// Lines of int8 words; 0 in a layout without int8.
    pub(crate) int8: usize,
    /// Lines of GMF features, two features per line.
    pub(crate) gmf: usize,
    /// Lines of int16 words, in the separate array.
    pub(crate) int16: usize,
}

impl TileLayout {
    /// Lines of a tile without the int16 words.
    pub(crate) fn len(self) -> usize {
        self.int8 + self.gmf + usize::from(self.int8 > 0)
    }

    /// The lines of GMF features.
    pub(crate) fn gmf(self) -> Range<usize> {
        self.int8..self.int8 + self.gmf
    }

    /// The line of spreads.
    pub(crate) fn spread(self) -> Option<usize> {
        (self.int8 > 0).then_some(self.int8 + self.gmf)
    }

    /// Lines of a tile that a scan in this width reads.
    pub(crate) fn lines_read(self, width: IntegerWidth) -> usize {
        match width {
            IntegerWidth::Int8 => self.len(),
            IntegerWidth::Int16 => self.gmf + self.int16,
        }
    }
}

/// Consecutive quantized tiles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuantizedTiles<'a> {
    pub(crate) layout: TileLayout,
    /// All lines except the int16 words.
    pub(crate) tiles: &'a [Lanes],
    /// The int16 words.
    pub(crate) int16: &'a [Lanes],
}

impl<'a> QuantizedTiles<'a> {
    /// The tiles in `range`.
    #[inline(always)]
    pub(crate) fn slice(self, range: Range<usize>) -> Self {
        let TileLayout { int16, .. } = self.layout;
        let len = self.layout.len();
        QuantizedTiles {
            layout: self.layout,
            tiles: &self.tiles[range.start * len..range.end * len],
            int16: &self.int16[range.start * int16..range.end * int16],
        }
    }

    /// The number of tiles.
    #[inline(always)]
    pub(super) fn count(self) -> usize {
        self.int16.len() / self.layout.int16
    }

    /// The tiles from `first` on; empty if there are none.
    pub(crate) fn from(self, first: usize) -> Self {
        QuantizedTiles {
            layout: self.layout,
            tiles: self.tiles.get(first * self.layout.len()..).unwrap_or_default(),
            int16: self.int16.get(first * self.layout.int16..).unwrap_or_default(),
        }
    }

    /// The spread of an item, by which its int8 estimate is raised; 0 in a layout without int8.
    pub(crate) fn spread(self, item: usize) -> f32 {
        let line = self.layout.spread();
        line.map_or(0.0, |line| self.tiles[item / LANES * self.layout.len() + line][item % LANES])
    }
}

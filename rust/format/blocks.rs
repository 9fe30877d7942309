//! The parts of a model: its kind, its embedding tables and its layers.

use std::{fmt, str::FromStr};

use super::json::quote;
use crate::error::{Error, Result, reserve};

/// The kind of a model: which blocks it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Generalised matrix factorisation only.
    Gmf,
    /// The multi-layer perceptron only.
    Mlp,
    /// Both, joined in the output layer.
    NeuMf,
}

impl Kind {
    /// The name in files and arguments: `gmf`, `mlp` or `neumf`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Gmf => "gmf",
            Kind::Mlp => "mlp",
            Kind::NeuMf => "neumf",
        }
    }

    pub(super) fn has_gmf(self) -> bool {
        self != Kind::Mlp
    }

    pub(super) fn has_mlp(self) -> bool {
        self != Kind::Gmf
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Kind::Gmf, Kind::Mlp, Kind::NeuMf].into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| {
            Error::Argument(format!("kind: expected \"gmf\", \"mlp\" or \"neumf\", got {}", quote(name)))
        })
    }
}

/// A `[rows, width]` float32 matrix in chunks of whole rows, so that a consumer can free it piece by piece.
#[derive(Debug, Clone)]
pub struct Table {
    pub(super) rows: usize,
    pub(super) width: usize,
    /// Row `r` is row `r & mask` of chunk `r >> shift`, `1 << shift` being the rows of a chunk.
    pub(super) shift: u32,
    pub(super) chunks: Vec<Vec<f32>>,
    pub(super) max_abs: f32,
}

impl Table {
    /// Rows in each chunk but the last of a table of this width: the largest power of two of rows that fit into 8 MiB,
    /// but at least 16.
    pub fn rows_per_chunk(width: usize) -> usize {
        const CHUNK_BYTES: usize = 8 << 20;
        let rows = CHUNK_BYTES / size_of::<f32>() / width.max(1);
        1 << rows.max(16).ilog2()
    }

    /// The table of these elements, row by row, all of them finite and in whole rows, in a single chunk.
    pub(crate) fn of(elements: Vec<f32>, width: usize) -> Self {
        let max_abs = elements.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
        Table { rows: elements.len() / width, width, shift: 31, chunks: vec![elements], max_abs }
    }

    /// The number of rows, below 2^31.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Row `row`, `width` elements.
    ///
    /// # Panics
    /// If `row` is not below `rows`.
    pub fn row(&self, row: usize) -> &[f32] {
        let start = (row & ((1 << self.shift) - 1)) * self.width;
        &self.chunks[row >> self.shift][start..start + self.width]
    }

    /// The largest absolute value of an element.
    pub fn max_abs(&self) -> f32 {
        self.max_abs
    }

    pub(super) fn extent(&self) -> Extent {
        Extent { width: self.width, max_abs: self.max_abs }
    }

    /// Bytes of memory held.
    pub fn nbytes(&self) -> usize {
        self.rows * self.width * size_of::<f32>()
    }

    /// All elements, row by row.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn into_elements(mut self) -> Result<Vec<f32>> {
        if self.chunks.len() == 1 {
            return Ok(self.chunks.remove(0));
        }
        let mut elements = reserve("table", self.rows * self.width)?;
        self.into_chunks().for_each(|chunk| elements.extend(chunk));
        Ok(elements)
    }

    /// The chunks in order: [`Table::rows_per_chunk`] whole rows in each but the last.
    pub fn into_chunks(self) -> impl ExactSizeIterator<Item = Vec<f32>> {
        self.chunks.into_iter()
    }
}

/// The extents of a table, for the overflow bound.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// Elements per row.
    pub(super) width: usize,
    /// The largest absolute value.
    pub(super) max_abs: f32,
}

/// A fully connected layer: `relu(weight . x + bias)`.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Elements of `x`.
    pub inputs: usize,
    /// Units.
    pub outputs: usize,
    /// `[outputs, inputs]`, row-major.
    pub weight: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

/// The GMF block: embeddings of one width `G`.
#[derive(Debug, Clone)]
pub struct Gmf {
    /// `[U, G]`.
    pub users: Table,
    /// `[I, G]`.
    pub items: Table,
}

/// The MLP block: embeddings `[U, Mu]` and `[I, Mi]`, and at least one layer, the first of which takes `[user, item]`.
#[derive(Debug, Clone)]
pub struct Mlp {
    /// `[U, Mu]`.
    pub users: Table,
    /// `[I, Mi]`.
    pub items: Table,
    /// Layer 0 has `Mu + Mi` inputs; the inputs of each further layer are the outputs of the one before.
    pub layers: Vec<Layer>,
}

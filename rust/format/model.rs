//! A model, valid by construction: its only constructor checks names, shapes, finiteness and overflow.
//!
//! Shapes: `U` users, `I` items, `G` GMF width, `Mu` and `Mi` MLP widths of users and items, `H` units of the last
//! layer.

use std::collections::BTreeMap;

use super::{
    blocks::{Extent, Gmf, Kind, Layer, Mlp, Table},
    metadata::Metadata,
    overflow::OverflowBound,
    schema::{Schema, Sizes, Slot, TensorInfo},
};
use crate::error::{Error, Result, filled, reserve};

/// A valid model: every shape agrees with every other, all numbers are finite, no score can overflow.
#[derive(Debug, Clone)]
pub struct Model {
    num_users: usize,
    num_items: usize,
    parts: Parts,
}

/// The parts of a [`Model`], from [`Model::into_parts`].
#[derive(Debug, Clone)]
pub struct Parts {
    /// Which of `gmf` and `mlp` are present.
    pub kind: Kind,
    /// The GMF block, for `gmf` and `neumf`.
    pub gmf: Option<Gmf>,
    /// The MLP block, for `mlp` and `neumf`.
    pub mlp: Option<Mlp>,
    /// `[G + H]`: the GMF block's weights, then the MLP block's.
    pub output_weight: Vec<f32>,
    /// The bias of the logit.
    pub output_bias: f32,
    /// All metadata of the file.
    pub metadata: Metadata,
    /// The overflow bound, which new user vectors are checked against.
    pub overflow_bound: OverflowBound,
}

/// Copies elements of a tensor; the arguments are its index in `infos`, the first element and the destination.
pub type Fill<'a> = dyn FnMut(usize, usize, &mut [f32]) -> Result<()> + 'a;

impl Model {
    /// Builds a model from tensors of any source. `fill` copies elements of a tensor, in row-major order, to its last
    /// argument; it is called for the tensors in the order of `infos`, for ascending elements, once for each element.
    /// Names and shapes are checked before the first call. Without a `kind`, it is inferred from the names.
    ///
    /// # Errors
    /// [`Error::Format`] for tensors that are unknown, missing, not finite, of inconsistent shapes, or so large that a
    /// score could overflow float32; [`Error::Memory`]; the errors of `fill`.
    pub fn assemble(kind: Option<Kind>, metadata: Metadata, infos: &[TensorInfo], fill: &mut Fill<'_>) -> Result<Self> {
        let (schema, tensors) = read(kind, infos, fill, |reader| reader.table())?;
        let overflow_bound = tensors.checked_bound(Table::extent)?;
        let Tensors { gmf, mlp, output_weight, output_bias } = tensors;
        let gmf = gmf.map(|[users, items]| Gmf { users, items });
        let mlp = mlp.map(|([users, items], layers)| Mlp { users, items, layers });
        let Sizes { kind, num_users, num_items, .. } = schema.sizes;
        let parts = Parts { kind, gmf, mlp, output_weight, output_bias, metadata, overflow_bound };
        Ok(Model { num_users, num_items, parts })
    }

    /// Checks tensors as [`Model::assemble`] does, without keeping the tables.
    ///
    /// # Errors
    /// As for [`Model::assemble`].
    pub fn check(kind: Option<Kind>, infos: &[TensorInfo], fill: &mut Fill<'_>) -> Result<Sizes> {
        let (schema, tensors) = read(kind, infos, fill, |reader| reader.extent())?;
        tensors.checked_bound(|&extent| extent)?;
        Ok(schema.sizes)
    }

    /// Checks names and shapes as [`Model::assemble`] does, before anything is read; returns the model's sizes.
    ///
    /// # Errors
    /// [`Error::Format`].
    pub fn sizes(kind: Option<Kind>, infos: &[TensorInfo]) -> Result<Sizes> {
        Ok(Schema::new(kind, infos)?.sizes)
    }

    /// Which blocks the model has.
    pub fn kind(&self) -> Kind {
        self.parts.kind
    }

    /// `U`.
    pub fn num_users(&self) -> usize {
        self.num_users
    }

    /// `I`.
    pub fn num_items(&self) -> usize {
        self.num_items
    }

    /// `G + Mu`: elements of a user's vectors, those of the GMF block and of the MLP block together.
    pub fn user_width(&self) -> usize {
        let (gmf, mlp) = (self.gmf().map(|gmf| &gmf.users), self.mlp().map(|mlp| &mlp.users));
        [gmf, mlp].into_iter().flatten().map(Table::width).sum()
    }

    /// All metadata of the file.
    pub fn metadata(&self) -> &Metadata {
        &self.parts.metadata
    }

    /// The overflow bound, which new user vectors are checked against.
    pub fn overflow_bound(&self) -> &OverflowBound {
        &self.parts.overflow_bound
    }

    /// The GMF block, if there is one.
    pub fn gmf(&self) -> Option<&Gmf> {
        self.parts.gmf.as_ref()
    }

    /// The MLP block, if there is one.
    pub fn mlp(&self) -> Option<&Mlp> {
        self.parts.mlp.as_ref()
    }

    /// Takes the model apart.
    pub fn into_parts(self) -> Parts {
        self.parts
    }
}

/// The tensors of a model, with each table as a `T`.
struct Tensors<T> {
    /// The tables of users and items.
    gmf: Option<[T; 2]>,
    mlp: Option<([T; 2], Vec<Layer>)>,
    output_weight: Vec<f32>,
    output_bias: f32,
}

impl<T> Tensors<T> {
    /// The overflow bound; an error if the users of the model exceed it.
    fn checked_bound(&self, extent: impl Fn(&T) -> Extent) -> Result<OverflowBound> {
        let gmf = self.gmf.as_ref().map(|tables| tables.each_ref().map(&extent));
        let mlp = self.mlp.as_ref().map(|(tables, layers)| (tables.each_ref().map(&extent), &layers[..]));
        let bound = OverflowBound::new(gmf, mlp, &self.output_weight, self.output_bias)?;
        bound.check_model()?;
        Ok(bound)
    }
}

/// Checks names and shapes, then reads all tensors, the tables with `read_table`.
fn read<T>(
    kind: Option<Kind>,
    infos: &[TensorInfo],
    fill: &mut Fill<'_>,
    read_table: impl Fn(&mut TensorReader<'_>) -> Result<T>,
) -> Result<(Schema, Tensors<T>)> {
    let schema = Schema::new(kind, infos)?;
    let mut tables = BTreeMap::new();
    let mut vectors = BTreeMap::new();
    for (index, (slot, info)) in schema.order.iter().zip(infos).enumerate() {
        let mut reader = TensorReader { info, index, fill };
        if slot.is_table() {
            tables.insert(*slot, read_table(&mut reader)?);
        } else {
            vectors.insert(*slot, reader.elements(0, info.shape.iter().product())?.0);
        }
    }

    let missing = |slot: Slot| Error::Internal(format!("{slot} is in the schema but was not read"));
    let mut table = |slot| tables.remove(&slot).ok_or_else(|| missing(slot));
    let mut vector = |slot| vectors.remove(&slot).ok_or_else(|| missing(slot));
    let mut gmf = None;
    if schema.sizes.kind.has_gmf() {
        gmf = Some([table(Slot::GmfUsers)?, table(Slot::GmfItems)?]);
    }
    let mut mlp = None;
    if schema.sizes.kind.has_mlp() {
        let mut layers = reserve("layers", schema.sizes.mlp_layers.len())?;
        for n in 0..schema.sizes.mlp_layers.len() {
            let (weight, bias) = (vector(Slot::LayerWeight(n))?, vector(Slot::LayerBias(n))?);
            let outputs = bias.len();
            layers.push(Layer { inputs: weight.len() / outputs, outputs, weight, bias });
        }
        mlp = Some(([table(Slot::MlpUsers)?, table(Slot::MlpItems)?], layers));
    }
    let (output_weight, output_bias) = (vector(Slot::OutputWeight)?, vector(Slot::OutputBias)?[0]);
    Ok((schema, Tensors { gmf, mlp, output_weight, output_bias }))
}

/// Elements read at a time: they are still in the cache when they are checked.
const PIECE: usize = 32 << 10;

/// One tensor being read.
pub(super) struct TensorReader<'a> {
    pub(super) info: &'a TensorInfo,
    pub(super) index: usize,
    pub(super) fill: &'a mut Fill<'a>,
}

impl TensorReader<'_> {
    pub(super) fn table(&mut self) -> Result<Table> {
        let (rows, width) = (self.info.shape[0], self.info.shape[1]);
        let per_chunk = Table::rows_per_chunk(width);
        let mut chunks = reserve(&self.info.name, rows.div_ceil(per_chunk))?;
        let mut largest = 0.0f32;
        for first in (0..rows).step_by(per_chunk) {
            let (chunk, max_abs) = self.elements(first * width, per_chunk.min(rows - first) * width)?;
            chunks.push(chunk);
            largest = largest.max(max_abs);
        }
        Ok(Table { rows, width, shift: per_chunk.ilog2(), chunks, max_abs: largest })
    }

    /// Reads and checks a table without keeping its elements; returns its [`Extent`].
    fn extent(&mut self) -> Result<Extent> {
        let (count, width) = (self.info.shape.iter().product(), self.info.shape[1]);
        let mut piece = filled(&self.info.name, PIECE.min(count), 0.0)?;
        let mut max_abs = 0.0f32;
        for first in (0..count).step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(count - first)];
            max_abs = max_abs.max(self.fill_finite(first, piece)?);
        }
        Ok(Extent { width, max_abs })
    }

    /// Reads `count` elements from `first` on; returns them and the largest absolute value.
    pub(super) fn elements(&mut self, first: usize, count: usize) -> Result<(Vec<f32>, f32)> {
        let mut elements = reserve(&self.info.name, count)?;
        let mut max_abs = 0.0f32;
        while elements.len() < count {
            let start = elements.len();
            elements.resize(count.min(start + PIECE), 0.0);
            max_abs = max_abs.max(self.fill_finite(first + start, &mut elements[start..])?);
        }
        Ok((elements, max_abs))
    }

    /// Fills `piece` with the elements from `first` on, and returns the largest absolute value.
    fn fill_finite(&mut self, first: usize, piece: &mut [f32]) -> Result<f32> {
        (self.fill)(self.index, first, piece)?;
        // Without the sign bit, floats order like integers: finite, infinity, NaN.
        let magnitude = piece.iter().fold(0, |largest, x| largest.max(x.abs().to_bits() as i32));
        if magnitude >= f32::INFINITY.to_bits() as i32 {
            return Err(self.not_finite(first, piece));
        }
        Ok(f32::from_bits(magnitude as u32))
    }

    fn not_finite(&self, first: usize, piece: &[f32]) -> Error {
        let (name, at) = (&self.info.name, piece.iter().position(|x| !x.is_finite()).unwrap_or(0));
        let (value, element) = (piece[at], first + at);
        let place = match self.info.shape[..] {
            [_, width] => vec![element / width, element % width],
            _ => vec![element],
        };
        Error::Format(format!("{name}: element {place:?} is {value}, expected finite values"))
    }
}

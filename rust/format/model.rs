//! A model that cannot be wrong: its one constructor checks names, shapes, finiteness and range.
//!
//! Shapes: `U` users, `I` items, `G` GMF width, `Mu` and `Mi` MLP widths of users and items, `H` units of the last layer.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::{json::quote, range::Range};
use crate::error::{Error, Result, reserve};

/// Which blocks a model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Generalised matrix factorisation alone.
    Gmf,
    /// The multi-layer perceptron alone.
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

    fn has_gmf(self) -> bool {
        self != Kind::Mlp
    }

    fn has_mlp(self) -> bool {
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
            Error::Argument(format!("kind {} is not known, expected \"gmf\", \"mlp\" or \"neumf\"", quote(name)))
        })
    }
}

/// A `[rows, width]` float32 matrix in chunks of whole rows, so that a consumer can free it piece by piece.
#[derive(Debug, Clone)]
pub struct Table {
    rows: usize,
    width: usize,
    /// Row `r` is row `r & mask` of chunk `r >> shift`, `1 << shift` being the rows of a chunk.
    shift: u32,
    chunks: Vec<Vec<f32>>,
    max_abs: f32,
}

impl Table {
    /// Rows in every chunk of a table of this width but the last: a power of two, at least 16; at most 8 MiB of rows otherwise.
    pub fn rows_per_chunk(width: usize) -> usize {
        const CHUNK_BYTES: usize = 8 << 20;
        let rows = CHUNK_BYTES / size_of::<f32>() / width.max(1);
        1 << rows.max(16).ilog2()
    }

    /// The number of rows, below 2^31.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Row `row`, `width` elements.
    ///
    /// # Panics
    /// When `row` is not below `rows`.
    pub fn row(&self, row: usize) -> &[f32] {
        let start = (row & ((1 << self.shift) - 1)) * self.width;
        &self.chunks[row >> self.shift][start..start + self.width]
    }

    /// The largest absolute value.
    pub fn max_abs(&self) -> f32 {
        self.max_abs
    }

    /// Bytes of memory held.
    pub fn nbytes(&self) -> usize {
        self.rows * self.width * size_of::<f32>()
    }

    /// The chunks in order: whole rows, [`Table::rows_per_chunk`] of them in each but the last.
    pub fn into_chunks(self) -> impl ExactSizeIterator<Item = Vec<f32>> {
        self.chunks.into_iter()
    }
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
    /// Layer 0 has `Mu + Mi` inputs, each further one the units of the layer before it.
    pub layers: Vec<Layer>,
}

/// A valid model: every shape agrees with every other, all numbers are finite, no score can overflow.
#[derive(Debug, Clone)]
pub struct Model {
    num_users: usize,
    num_items: usize,
    parts: Parts,
}

/// What a [`Model`] is made of, given away by [`Model::into_parts`].
#[derive(Debug, Clone)]
pub struct Parts {
    /// Which of `gmf` and `mlp` are there.
    pub kind: Kind,
    /// The GMF block, for `gmf` and `neumf`.
    pub gmf: Option<Gmf>,
    /// The MLP block, for `mlp` and `neumf`.
    pub mlp: Option<Mlp>,
    /// `[G + H]`: the GMF block's weights, then the MLP block's.
    pub output_weight: Vec<f32>,
    /// The logit's constant.
    pub output_bias: f32,
    /// The metadata of the file, whole.
    pub metadata: BTreeMap<String, String>,
    /// The bound that new user vectors must keep.
    pub range: Range,
}

/// The name and shape of one tensor, under the names of the format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// For example `mlp.layers.0.weight`.
    pub name: String,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
}

/// Copies elements of a tensor: `(index in infos, first element, destination)`.
pub type Fill<'a> = dyn FnMut(usize, usize, &mut [f32]) -> Result<()> + 'a;

impl Model {
    /// Builds a model from tensors, wherever they come from. `fill` copies elements of a tensor, in row-major order, to its
    /// last argument; it is asked for the tensors in the order of `infos`, for ascending elements, for each element once.
    /// Names and shapes are checked before it is first called. Without a `kind`, the names decide.
    ///
    /// # Errors
    /// [`Error::Format`] for tensors that are no model: unknown, missing, of shapes that disagree, not finite, or so large
    /// that a score could overflow float32; [`Error::Memory`]; whatever `fill` returns.
    pub fn assemble(
        kind: Option<Kind>,
        metadata: BTreeMap<String, String>,
        infos: &[TensorInfo],
        fill: &mut Fill<'_>,
    ) -> Result<Self> {
        let plan = Plan::new(kind, infos)?;
        let mut tables = BTreeMap::new();
        let mut vectors = BTreeMap::new();
        for (index, (slot, info)) in plan.order.iter().zip(infos).enumerate() {
            let mut source = Source { info, index, fill };
            if slot.is_table() {
                tables.insert(*slot, source.table()?);
            } else {
                vectors.insert(*slot, source.elements(0, info.shape.iter().product())?.0);
            }
        }

        let missing = |slot: Slot| Error::Internal(format!("{slot} was planned but not read"));
        let mut table = |slot| tables.remove(&slot).ok_or_else(|| missing(slot));
        let mut vector = |slot| vectors.remove(&slot).ok_or_else(|| missing(slot));
        let mut gmf = None;
        if plan.kind.has_gmf() {
            gmf = Some(Gmf { users: table(Slot::GmfUsers)?, items: table(Slot::GmfItems)? });
        }
        let mut mlp = None;
        if plan.kind.has_mlp() {
            let (users, items) = (table(Slot::MlpUsers)?, table(Slot::MlpItems)?);
            let mut layers = reserve("layers", plan.layers)?;
            for n in 0..plan.layers {
                let (weight, bias) = (vector(Slot::LayerWeight(n))?, vector(Slot::LayerBias(n))?);
                let outputs = bias.len();
                layers.push(Layer { inputs: weight.len() / outputs, outputs, weight, bias });
            }
            mlp = Some(Mlp { users, items, layers });
        }
        let (output_weight, output_bias) = (vector(Slot::OutputWeight)?, vector(Slot::OutputBias)?[0]);

        let range = Range::new(gmf.as_ref(), mlp.as_ref(), &output_weight, output_bias);
        range.check_model(gmf.as_ref(), mlp.as_ref())?;
        let parts = Parts { kind: plan.kind, gmf, mlp, output_weight, output_bias, metadata, range };
        Ok(Model { num_users: plan.num_users, num_items: plan.num_items, parts })
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

    /// The metadata of the file, whole.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.parts.metadata
    }

    /// The bound that new user vectors must keep.
    pub fn range(&self) -> &Range {
        &self.parts.range
    }

    /// The GMF block, if there is one.
    pub fn gmf(&self) -> Option<&Gmf> {
        self.parts.gmf.as_ref()
    }

    /// The MLP block, if there is one.
    pub fn mlp(&self) -> Option<&Mlp> {
        self.parts.mlp.as_ref()
    }

    /// Gives the model away in parts.
    pub fn into_parts(self) -> Parts {
        self.parts
    }
}

/// One tensor being read.
struct Source<'a> {
    info: &'a TensorInfo,
    index: usize,
    fill: &'a mut Fill<'a>,
}

impl Source<'_> {
    fn table(&mut self) -> Result<Table> {
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

    /// `count` elements from `first` on, and the largest absolute value among them. Goes forward in pieces that stay in the
    /// cache from being written to being checked.
    fn elements(&mut self, first: usize, count: usize) -> Result<(Vec<f32>, f32)> {
        const PIECE: usize = 32 << 10;
        let mut elements = reserve(&self.info.name, count)?;
        let mut largest = 0;
        while elements.len() < count {
            let start = elements.len();
            elements.resize(count.min(start + PIECE), 0.0);
            let piece = &mut elements[start..];
            (self.fill)(self.index, first + start, piece)?;
            // Without its sign bit, a float orders as an integer: finite, infinity, NaN.
            let magnitude = piece.iter().fold(0, |largest, x| largest.max(x.abs().to_bits() as i32));
            if magnitude >= f32::INFINITY.to_bits() as i32 {
                return Err(self.not_finite(first + start, piece));
            }
            largest = largest.max(magnitude);
        }
        Ok((elements, f32::from_bits(largest as u32)))
    }

    fn not_finite(&self, first: usize, piece: &[f32]) -> Error {
        let (name, at) = (&self.info.name, piece.iter().position(|x| !x.is_finite()).unwrap_or(0));
        let (value, element) = (piece[at], first + at);
        let place = match self.info.shape[..] {
            [_, width] => vec![element / width, element % width],
            _ => vec![element],
        };
        Error::Format(format!("{name}: element {place:?} is {value}, expected finite numbers"))
    }
}

/// A tensor's place in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    GmfUsers,
    GmfItems,
    MlpUsers,
    MlpItems,
    LayerWeight(usize),
    LayerBias(usize),
    OutputWeight,
    OutputBias,
}

impl Slot {
    fn parse(name: &str) -> Option<Self> {
        let fixed =
            [Slot::GmfUsers, Slot::GmfItems, Slot::MlpUsers, Slot::MlpItems, Slot::OutputWeight, Slot::OutputBias];
        if let Some(slot) = fixed.into_iter().find(|slot| slot.to_string() == name) {
            return Some(slot);
        }
        let (number, part) = name.strip_prefix("mlp.layers.")?.split_once('.')?;
        let n = number.parse().ok()?;
        let slots = [Slot::LayerWeight(n), Slot::LayerBias(n)];
        // Only the canonical spelling of a number: `00` and `+0` are other names.
        slots.into_iter().find(|slot| slot.to_string() == name).filter(|_| matches!(part, "weight" | "bias"))
    }

    fn is_table(self) -> bool {
        matches!(self, Slot::GmfUsers | Slot::GmfItems | Slot::MlpUsers | Slot::MlpItems)
    }

    fn is_in(self, kind: Kind) -> bool {
        match self {
            Slot::GmfUsers | Slot::GmfItems => kind.has_gmf(),
            Slot::MlpUsers | Slot::MlpItems | Slot::LayerWeight(_) | Slot::LayerBias(_) => kind.has_mlp(),
            Slot::OutputWeight | Slot::OutputBias => true,
        }
    }

    fn dimensions(self) -> usize {
        if matches!(self, Slot::LayerBias(_) | Slot::OutputBias) { 1 } else { 2 }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Slot::GmfUsers => f.write_str("gmf.user_embedding.weight"),
            Slot::GmfItems => f.write_str("gmf.item_embedding.weight"),
            Slot::MlpUsers => f.write_str("mlp.user_embedding.weight"),
            Slot::MlpItems => f.write_str("mlp.item_embedding.weight"),
            Slot::LayerWeight(n) => write!(f, "mlp.layers.{n}.weight"),
            Slot::LayerBias(n) => write!(f, "mlp.layers.{n}.bias"),
            Slot::OutputWeight => f.write_str("output.weight"),
            Slot::OutputBias => f.write_str("output.bias"),
        }
    }
}

/// The tensors of a model, checked by name and shape before any data are read.
struct Plan {
    kind: Kind,
    /// The slot of each tensor, in the order given.
    order: Vec<Slot>,
    num_users: usize,
    num_items: usize,
    layers: usize,
}

impl Plan {
    fn new(kind: Option<Kind>, infos: &[TensorInfo]) -> Result<Self> {
        let mut order = reserve("tensors", infos.len())?;
        let mut shapes = Shapes(BTreeMap::new());
        for info in infos {
            let slot = Slot::parse(&info.name)
                .ok_or_else(|| Error::Format(format!("{}: not a tensor of this format", quote(&info.name))))?;
            if shapes.0.insert(slot, &info.shape).is_some() {
                return Err(Error::Format(format!("{slot}: given twice")));
            }
            order.push(slot);
        }
        let kind = match kind {
            Some(kind) => kind,
            None => shapes.infer_kind()?,
        };
        let layers = shapes.check_names(kind)?;
        shapes.check_sizes()?;
        let (num_users, num_items) = shapes.check_agreement(kind, layers)?;
        Ok(Plan { kind, order, num_users, num_items, layers })
    }
}

/// The shape of every tensor given.
struct Shapes<'a>(BTreeMap<Slot, &'a [usize]>);

impl Shapes<'_> {
    fn infer_kind(&self) -> Result<Kind> {
        let has_gmf = self.0.keys().any(|slot| !slot.is_in(Kind::Mlp));
        let has_mlp = self.0.keys().any(|slot| !slot.is_in(Kind::Gmf));
        match (has_gmf, has_mlp) {
            (true, true) => Ok(Kind::NeuMf),
            (true, false) => Ok(Kind::Gmf),
            (false, true) => Ok(Kind::Mlp),
            (false, false) => Err(Error::Format("no tensor of a GMF or an MLP block".to_owned())),
        }
    }

    /// Every tensor of the kind is there and no other; returns the number of layers.
    fn check_names(&self, kind: Kind) -> Result<usize> {
        if let Some(slot) = self.0.keys().find(|slot| !slot.is_in(kind)) {
            return Err(Error::Format(format!("{slot}: does not belong to a model of kind {kind}")));
        }
        let require = |slot: Slot| match self.0.contains_key(&slot) || !slot.is_in(kind) {
            true => Ok(()),
            false => Err(Error::Format(format!("{slot}: missing from a model of kind {kind}"))),
        };
        [Slot::GmfUsers, Slot::GmfItems, Slot::MlpUsers, Slot::MlpItems].into_iter().try_for_each(require)?;
        let highest = self.0.keys().filter_map(|slot| match slot {
            Slot::LayerWeight(n) | Slot::LayerBias(n) => Some(*n),
            _ => None,
        });
        let layers = highest.max().map_or(1, |n| n.saturating_add(1));
        // With a gap, however far the numbers run, this ends at the first number missing.
        (0..layers).try_for_each(|n| require(Slot::LayerWeight(n)).and_then(|()| require(Slot::LayerBias(n))))?;
        [Slot::OutputWeight, Slot::OutputBias].into_iter().try_for_each(require)?;
        Ok(layers)
    }

    /// Each tensor by itself: its number of dimensions, every one at least 1, tables of fewer than 2^31 rows.
    fn check_sizes(&self) -> Result<()> {
        for (slot, shape) in &self.0 {
            let dimensions = slot.dimensions();
            if shape.len() != dimensions {
                return Err(Error::Format(format!("{slot}: shape {shape:?}, expected {dimensions} dimension(s)")));
            }
            if shape.contains(&0) {
                return Err(Error::Format(format!("{slot}: shape {shape:?}, every dimension must be at least 1")));
            }
            if shape.iter().try_fold(size_of::<f32>(), |bytes, &size| bytes.checked_mul(size)).is_none() {
                return Err(Error::Format(format!("{slot}: shape {shape:?} is too large")));
            }
            if slot.is_table() && shape[0] > i32::MAX as usize {
                return Err(Error::Format(format!("{slot}: {} rows, the limit is 2147483647", shape[0])));
            }
        }
        Ok(())
    }

    /// The tensors with each other; returns `U` and `I`.
    fn check_agreement(&self, kind: Kind, layers: usize) -> Result<(usize, usize)> {
        let (mut joined, mut origin) = (0, Vec::new());
        if kind.has_gmf() {
            let width = self.0[&Slot::GmfUsers][1];
            self.expect(Slot::GmfItems, 1, width, format_args!("{}", Slot::GmfUsers))?;
            joined = width;
            origin.push(format!("GMF width {width}"));
        }
        if kind == Kind::NeuMf {
            self.expect(Slot::MlpUsers, 0, self.0[&Slot::GmfUsers][0], format_args!("{}", Slot::GmfUsers))?;
            self.expect(Slot::MlpItems, 0, self.0[&Slot::GmfItems][0], format_args!("{}", Slot::GmfItems))?;
        }
        if kind.has_mlp() {
            let (users, items) = (self.0[&Slot::MlpUsers][1], self.0[&Slot::MlpItems][1]);
            let mut inputs = users.saturating_add(items);
            for n in 0..layers {
                let weight = Slot::LayerWeight(n);
                match n {
                    0 => self.expect(weight, 1, inputs, format_args!("embedding widths, {users} + {items}"))?,
                    _ => self.expect(weight, 1, inputs, format_args!("{}", Slot::LayerWeight(n - 1)))?,
                }
                inputs = self.0[&weight][0];
                self.expect(Slot::LayerBias(n), 0, inputs, format_args!("{weight}"))?;
            }
            joined = inputs.saturating_add(joined);
            origin.push(format!("last layer {inputs}"));
        }
        self.expect(Slot::OutputWeight, 0, 1, format_args!("one logit"))?;
        self.expect(Slot::OutputWeight, 1, joined, format_args!("{}", origin.join(" + ")))?;
        self.expect(Slot::OutputBias, 0, 1, format_args!("one logit"))?;
        let (users, items) = match kind {
            Kind::Gmf | Kind::NeuMf => (Slot::GmfUsers, Slot::GmfItems),
            Kind::Mlp => (Slot::MlpUsers, Slot::MlpItems),
        };
        Ok((self.0[&users][0], self.0[&items][0]))
    }

    fn expect(&self, slot: Slot, dimension: usize, size: usize, because: fmt::Arguments<'_>) -> Result<()> {
        let shape = self.0[&slot];
        if shape[dimension] == size {
            return Ok(());
        }
        let mut expected = shape.to_vec();
        expected[dimension] = size;
        Err(Error::Format(format!("{slot}: shape {shape:?}, expected {expected:?} to fit {because}")))
    }
}

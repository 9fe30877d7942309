//! The tensors of each kind of model, and how their shapes must agree: checked before any data is read.

use std::{collections::BTreeMap, fmt};

use super::{blocks::Kind, json::quote};
use crate::error::{Error, Result, reserve};

/// The name and shape of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the format, such as `mlp.layers.0.weight`.
    pub name: String,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
}

/// The kind and sizes of a model, read off the shapes of its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// Which blocks the model has.
    pub kind: Kind,
    /// `U`.
    pub num_users: usize,
    /// `I`.
    pub num_items: usize,
    /// `G`; 0 without a GMF block.
    pub gmf_width: usize,
    /// `Mu`; 0 without an MLP block.
    pub mlp_user_width: usize,
    /// `Mi`; 0 without an MLP block.
    pub mlp_item_width: usize,
    /// The units of each layer; none without an MLP block.
    pub mlp_layers: Vec<usize>,
}

/// A tensor's place in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
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
        // Only the canonical spelling of the number: reject `00` and `+0`.
        slots.into_iter().find(|slot| slot.to_string() == name).filter(|_| matches!(part, "weight" | "bias"))
    }

    pub(super) fn is_table(self) -> bool {
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

/// The tensors of a model, checked by name and shape before any data is read.
pub(super) struct Schema {
    /// The slot of each tensor, in the order of the tensors given.
    pub(super) order: Vec<Slot>,
    pub(super) sizes: Sizes,
}

impl Schema {
    pub(super) fn new(kind: Option<Kind>, infos: &[TensorInfo]) -> Result<Self> {
        let mut order = reserve("tensors", infos.len())?;
        let mut shapes = Shapes(BTreeMap::new());
        for info in infos {
            let slot = Slot::parse(&info.name)
                .ok_or_else(|| Error::Format(format!("{}: not a tensor of the model format", quote(&info.name))))?;
            if shapes.0.insert(slot, &info.shape).is_some() {
                return Err(Error::Format(format!("{slot}: duplicate tensor")));
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
        let width = |slot: Slot| shapes.0.get(&slot).map_or(0, |shape| shape[1]);
        let mut mlp_layers = Vec::new();
        if kind.has_mlp() {
            mlp_layers = reserve("layers", layers)?;
            mlp_layers.extend((0..layers).map(|n| shapes.0[&Slot::LayerBias(n)][0]));
        }
        let sizes = Sizes {
            kind,
            num_users,
            num_items,
            gmf_width: width(Slot::GmfUsers),
            mlp_user_width: width(Slot::MlpUsers),
            mlp_item_width: width(Slot::MlpItems),
            mlp_layers,
        };
        Ok(Schema { order, sizes })
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
            (false, false) => Err(Error::Format("no tensors of a GMF or MLP block".to_owned())),
        }
    }

    /// Checks that exactly the tensors of the kind are present; returns the number of layers.
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
        // If a number is missing, this ends there, however large the others are.
        (0..layers).try_for_each(|n| require(Slot::LayerWeight(n)).and_then(|()| require(Slot::LayerBias(n))))?;
        [Slot::OutputWeight, Slot::OutputBias].into_iter().try_for_each(require)?;
        Ok(layers)
    }

    /// Checks each tensor alone: the right number of dimensions, each at least 1, and tables of fewer than 2^31 rows.
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

    /// Checks that the shapes agree with each other; returns `U` and `I`.
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
        Err(Error::Format(format!("{slot}: shape {shape:?}, expected {expected:?} to match {because}")))
    }
}

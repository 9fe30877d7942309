//! `history.safetensors`: how a history becomes a user's vectors, so that new users need no training.
//!
//! Shapes: `I` items, `W` the width of a user's vectors (GMF, then MLP), `d` the width of a ridge regression.

use std::collections::BTreeMap;

use super::{
    blocks::Table,
    container::Header,
    json::quote,
    model::{Fill, Model, TensorReader},
    schema::TensorInfo,
    stream::Stream,
    weights::split,
};
use crate::error::{Error, Result};

/// How a history becomes a user's vectors, valid by construction: `bias` plus a term of each encoder.
#[derive(Debug, Clone)]
pub struct FoldIn {
    /// `[W]`: the vectors of a user without a history.
    pub(crate) empty: Vec<f32>,
    /// `[W]`: the constant of all others.
    pub(crate) bias: Vec<f32>,
    pub(crate) linear: Vec<Linear>,
    pub(crate) ridge: Vec<Ridge>,
    num_items: usize,
}

/// The name, shape and elements of a tensor.
pub type NamedTensor = (String, Vec<usize>, Vec<f32>);

/// The sum of a history's rows of a table, times `n^-exponent`, for `n` items.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    /// `[I, W]`.
    pub(crate) items: Table,
    /// In quarters: 0 to 4.
    pub(crate) exponent: u8,
}

/// A ridge regression on a history's rows of a table, mapped to a user's vectors.
#[derive(Debug, Clone)]
pub(crate) struct Ridge {
    /// `[I, d]`.
    pub(crate) items: Table,
    /// `[d]`, at least 0: the part of the regularisation that all users share.
    pub(crate) diagonal: Vec<f32>,
    /// At least 0, not both 0: regularisation of every user, and for each item of the history.
    pub(crate) l2: [f32; 2],
    /// `[d, W]`.
    pub(crate) output: Table,
}

impl FoldIn {
    /// Builds it from tensors of any source for a model of `num_items` items whose users' vectors have `width` elements
    /// in all; `fill` is called as by [`Model::assemble`].
    ///
    /// # Errors
    /// [`Error::Format`] for tensors that are unknown, missing, of the wrong shape, or have values that the
    /// specification excludes; [`Error::Memory`]; the errors of `fill`.
    pub fn assemble(num_items: usize, width: usize, infos: &[TensorInfo], fill: &mut Fill<'_>) -> Result<Self> {
        let shapes: BTreeMap<&str, &[usize]> = infos.iter().map(|info| (info.name.as_str(), &info.shape[..])).collect();
        let expected = expected_shapes(&shapes, num_items, width)?;
        if let Some(name) = shapes.keys().find(|&&name| !expected.contains_key(name)) {
            return Err(Error::Format(format!(
                "{}: unexpected tensor; this file holds empty, bias, linear.0.items, linear.0.exponent, ..., and \
                 ridge.0.items, ridge.0.diagonal, ridge.0.l2, ridge.0.output, ...",
                quote(name)
            )));
        }
        for (name, expected) in &expected {
            let Some(shape) = shapes.get(name.as_str()) else {
                return Err(Error::Format(format!("tensor {name} is missing")));
            };
            if shape != expected {
                return Err(Error::Format(format!("{name}: shape {shape:?}, expected {expected:?}")));
            }
        }

        let (mut tables, mut vectors) = (BTreeMap::new(), BTreeMap::new());
        for (index, info) in infos.iter().enumerate() {
            let mut reader = TensorReader { info, index, fill };
            match info.shape[..] {
                [len] => drop(vectors.insert(info.name.as_str(), reader.elements(0, len)?.0)),
                _ => drop(tables.insert(info.name.as_str(), reader.table()?)),
            }
        }
        let unread = |name: &str| Error::Internal(format!("{name} was not read"));
        let mut table = |name: &str| tables.remove(name).ok_or_else(|| unread(name));
        let mut vector = |name: &str| vectors.remove(name).ok_or_else(|| unread(name));
        let (empty, bias) = (vector("empty")?, vector("bias")?);
        let (mut linear, mut ridge) = (Vec::new(), Vec::new());
        for (k, name) in encoders(&shapes, "linear") {
            let exponent = quarters(k, vector(&format!("{name}.exponent"))?[0])?;
            linear.push(Linear { items: table(&format!("{name}.items"))?, exponent });
        }
        for (k, name) in encoders(&shapes, "ridge") {
            let (diagonal, l2) = (vector(&format!("{name}.diagonal"))?, vector(&format!("{name}.l2"))?);
            let l2 = checked_l2(k, &diagonal, [l2[0], l2[1]])?;
            let (items, output) = (table(&format!("{name}.items"))?, table(&format!("{name}.output"))?);
            ridge.push(Ridge { items, diagonal, l2, output });
        }
        Ok(FoldIn { empty, bias, linear, ridge, num_items })
    }

    /// `I`.
    pub fn num_items(&self) -> usize {
        self.num_items
    }

    /// `W`.
    pub fn width(&self) -> usize {
        self.bias.len()
    }

    /// The tensors that [`FoldIn::assemble`] takes: names, shapes and elements.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn into_tensors(self) -> Result<Vec<NamedTensor>> {
        let vector = |name: &str, elements: Vec<f32>| (name.to_owned(), vec![elements.len()], elements);
        let table = |name: &str, table: Table| {
            let shape = vec![table.rows(), table.width()];
            Ok((name.to_owned(), shape, table.into_elements()?))
        };
        let mut tensors = vec![vector("empty", self.empty), vector("bias", self.bias)];
        for (k, Linear { items, exponent }) in self.linear.into_iter().enumerate() {
            tensors.push(table(&format!("linear.{k}.items"), items)?);
            tensors.push(vector(&format!("linear.{k}.exponent"), vec![f32::from(exponent) / 4.0]));
        }
        for (k, Ridge { items, diagonal, l2, output }) in self.ridge.into_iter().enumerate() {
            tensors.push(table(&format!("ridge.{k}.items"), items)?);
            tensors.push(vector(&format!("ridge.{k}.diagonal"), diagonal));
            tensors.push(vector(&format!("ridge.{k}.l2"), l2.to_vec()));
            tensors.push(table(&format!("ridge.{k}.output"), output)?);
        }
        Ok(tensors)
    }

    /// Bytes of memory held.
    pub fn nbytes(&self) -> usize {
        let linear: usize = self.linear.iter().map(|linear| linear.items.nbytes()).sum();
        let of_ridge = |ridge: &Ridge| ridge.items.nbytes() + size_of_val(&ridge.diagonal[..]) + ridge.output.nbytes();
        size_of_val(&self.empty[..])
            + size_of_val(&self.bias[..])
            + linear
            + self.ridge.iter().map(of_ridge).sum::<usize>()
    }
}

/// Reads the data of `history.safetensors`, whose header has been read.
pub(super) fn read_history(stream: &mut Stream<'_>, header: Header, model: &Model) -> Result<FoldIn> {
    let entries = header.entries;
    if let Some(entry) = entries.iter().find(|entry| !entry.dtype.is_float()) {
        let (name, dtype) = (quote(&entry.name), entry.dtype);
        return Err(Error::Format(format!("{name}: dtype {dtype:?}, expected F32, F16 or BF16")));
    }
    let (dtypes, infos) = split(entries)?;
    FoldIn::assemble(model.num_items(), model.user_width(), &infos, &mut |index, _, out| {
        stream.floats(dtypes[index], out)
    })
}

/// The encoders of a `kind`, numbered from 0 without gaps: their numbers and names, such as `linear.0`.
fn encoders(shapes: &BTreeMap<&str, &[usize]>, kind: &str) -> Vec<(usize, String)> {
    let name = |k| (k, format!("{kind}.{k}"));
    (0..).map(name).take_while(|(_, name)| shapes.contains_key(format!("{name}.items").as_str())).collect()
}

/// The tensors that the file must hold, given which encoders it has.
fn expected_shapes(
    shapes: &BTreeMap<&str, &[usize]>,
    num_items: usize,
    width: usize,
) -> Result<BTreeMap<String, Vec<usize>>> {
    let mut expected = BTreeMap::from([("empty".to_owned(), vec![width]), ("bias".to_owned(), vec![width])]);
    for (_, name) in encoders(shapes, "linear") {
        expected.insert(format!("{name}.items"), vec![num_items, width]);
        expected.insert(format!("{name}.exponent"), vec![1]);
    }
    for (_, name) in encoders(shapes, "ridge") {
        let items = format!("{name}.items");
        let d = match shapes[items.as_str()] {
            [_, d] if *d > 0 => *d,
            shape => {
                return Err(Error::Format(format!("{items}: shape {shape:?}, expected [{num_items}, d] with d >= 1")));
            }
        };
        expected.insert(items, vec![num_items, d]);
        expected.insert(format!("{name}.diagonal"), vec![d]);
        expected.insert(format!("{name}.l2"), vec![2]);
        expected.insert(format!("{name}.output"), vec![d, width]);
    }
    if expected.len() == 2 {
        return Err(Error::Format("no encoder: expected linear.0.items or ridge.0.items".to_owned()));
    }
    Ok(expected)
}

fn quarters(k: usize, exponent: f32) -> Result<u8> {
    let found = (0..=4u8).find(|&quarters| f32::from(quarters) / 4.0 == exponent);
    found.ok_or_else(|| Error::Format(format!("linear.{k}.exponent: expected 0, 0.25, 0.5, 0.75 or 1, got {exponent}")))
}

fn checked_l2(k: usize, diagonal: &[f32], l2: [f32; 2]) -> Result<[f32; 2]> {
    if let Some(at) = diagonal.iter().position(|&x| x < 0.0) {
        let value = diagonal[at];
        return Err(Error::Format(format!("ridge.{k}.diagonal: element [{at}] is {value}, expected at least 0")));
    }
    if l2.iter().any(|&x| x < 0.0) || l2 == [0.0; 2] {
        return Err(Error::Format(format!("ridge.{k}.l2: expected values of at least 0, not both 0, got {l2:?}")));
    }
    Ok(l2)
}

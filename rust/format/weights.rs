//! Reads a single `model.safetensors`: header, metadata, then the tensors, directly into a [`Model`].

use std::io::Read;

use super::{
    blocks::Kind,
    container::{Entry, Header},
    dtype::Dtype,
    json::quote,
    metadata::Metadata,
    model::Model,
    schema::{Sizes, TensorInfo},
    stream::Stream,
};
use crate::error::{Error, Result, reserve};

/// The format version that this reader supports.
pub(super) const FORMAT_VERSION: u64 = 1;

/// Reads a `model.safetensors` of `length` bytes from `reader`. The interrupt check `check` is called at least every 8
/// MiB; its error aborts the read.
///
/// # Errors
/// [`Error::Format`] if it is not a valid model file, [`Error::Memory`], [`Error::Io`], or the error of `check`.
pub fn read_model(reader: &mut dyn Read, length: u64, check: &mut dyn FnMut() -> Result<()>) -> Result<Model> {
    let mut stream = Stream::new(reader, length, check);
    let header = Header::read(&mut stream)?;
    read_weights(&mut stream, header, &|_| Ok(()))
}

/// Reads the model whose `header` has just been read from `stream`, if `admit` accepts its sizes.
pub(super) fn read_weights(
    stream: &mut Stream<'_>,
    header: Header,
    admit: &dyn Fn(&Sizes) -> Result<()>,
) -> Result<Model> {
    let Header { metadata, entries, .. } = header;
    check_version(&metadata)?;
    let kind = require(&metadata, "kind")?;
    let kind = kind.parse::<Kind>().map_err(|error| Error::Format(format!("metadata: {error}")))?;
    expect(&metadata, "activation", "relu")?;
    if let Some(entry) = entries.iter().find(|entry| !entry.dtype.is_float()) {
        let (name, dtype) = (quote(&entry.name), entry.dtype);
        return Err(Error::Format(format!("{name}: dtype {dtype:?}, expected F32, F16 or BF16")));
    }
    let (dtypes, infos) = split(entries)?;
    admit(&Model::sizes(Some(kind), &infos)?)?;
    Model::assemble(Some(kind), metadata, &infos, &mut |index, _, out| stream.floats(dtypes[index], out))
}

/// The dtypes of tensors, and their names and shapes.
pub(super) fn split(entries: Vec<Entry>) -> Result<(Vec<Dtype>, Vec<TensorInfo>)> {
    let (mut dtypes, mut infos) = (reserve("tensors", entries.len())?, reserve("tensors", entries.len())?);
    for Entry { name, dtype, shape } in entries {
        dtypes.push(dtype);
        infos.push(TensorInfo { name, shape });
    }
    Ok((dtypes, infos))
}

/// Rejects metadata of another format or version; every file of a model has both keys.
pub(super) fn check_version(metadata: &Metadata) -> Result<()> {
    expect(metadata, "format", "neuralcf")?;
    expect(metadata, "format_version", &FORMAT_VERSION.to_string())
}

fn expect(metadata: &Metadata, key: &str, expected: &str) -> Result<()> {
    let got = require(metadata, key)?;
    if got != expected {
        let got = quote(got);
        return Err(Error::Format(format!("metadata: {key:?}: expected {expected:?}, got {got}")));
    }
    Ok(())
}

fn require<'a>(metadata: &'a Metadata, key: &str) -> Result<&'a str> {
    metadata
        .get(key)
        .ok_or_else(|| Error::Format(format!("metadata: {key:?} is missing; is this a neuralcf model file?")))
}

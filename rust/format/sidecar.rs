//! The optional files of a model directory: the seen interactions and the external ids.

use super::{
    container::{Entry, Header},
    dtype::Dtype,
    json::quote,
    stream::Stream,
};
use crate::{
    csr::Csr,
    error::{Error, Result},
    ids::Ids,
};

/// Reads the data of `seen.safetensors`, whose header has been read, for `users` rows and `items` columns.
pub(super) fn read_seen(stream: &mut Stream<'_>, header: &Header, users: usize, items: usize) -> Result<Csr> {
    let mut indptr = None;
    let mut indices = None;
    for entry in &header.entries {
        let len = vector_len(entry)?;
        match (entry.name.as_str(), entry.dtype) {
            ("indptr", Dtype::I64) if len != users + 1 => {
                return Err(Error::Format(format!("indptr: {len} values, expected {} (users + 1)", users + 1)));
            }
            ("indptr", Dtype::I64) => indptr = Some(stream.collect("indptr", len, i64::from_le_bytes)?),
            ("indices", Dtype::I32) => indices = Some(stream.collect("indices", len, u32::from_le_bytes)?),
            ("indptr", dtype) => return Err(wrong_dtype("indptr", dtype, "I64")),
            ("indices", dtype) => return Err(wrong_dtype("indices", dtype, "I32")),
            (name, _) => return Err(unknown(name, "indptr and indices")),
        }
    }
    let (indptr, indices) = (indptr.ok_or_else(|| missing("indptr"))?, indices.ok_or_else(|| missing("indices"))?);
    let indptr = offsets("indptr", indptr, indices.len())?;
    for (row, span) in indptr.windows(2).enumerate() {
        let cells = &indices[span[0]..span[1]];
        stream.worked(size_of_val(span) + size_of_val(cells))?;
        // Read as unsigned, a negative index is out of range too.
        if let Some(&item) = cells.iter().find(|&&item| item as usize >= items) {
            let item = item.cast_signed();
            return Err(Error::Format(format!("indices: item {item} in row {row}, expected 0 to {}", items - 1)));
        }
        if !cells.is_sorted_by(|a, b| a < b) {
            return Err(Error::Format(format!("indices: row {row} is not sorted or has duplicate items")));
        }
    }
    Csr::new("seen", indptr, indices, items).map_err(|error| Error::Format(error.to_string()))
}

/// Reads the data of `ids.safetensors`, whose header has been read: the ids of `users` users and of `items` items.
pub(super) fn read_ids(stream: &mut Stream<'_>, header: &Header, users: usize, items: usize) -> Result<(Ids, Ids)> {
    let mut sides = [Side::new("users", users), Side::new("items", items)];
    for entry in &header.entries {
        let len = vector_len(entry)?;
        let (name, part) = entry.name.split_once('.').map_or((&*entry.name, None), |(name, part)| (name, Some(part)));
        let Some(side) = sides.iter_mut().find(|side| side.name == name) else {
            return Err(unknown(&entry.name, "users and items, each as one tensor or as .bytes and .offsets"));
        };
        match (part, entry.dtype) {
            (None, Dtype::I64) => side.ints = Some(stream.collect(&entry.name, len, i64::from_le_bytes)?),
            (Some("bytes"), Dtype::U8) => side.bytes = Some(stream.collect(&entry.name, len, |[byte]| byte)?),
            (Some("offsets"), Dtype::I64) => {
                side.offsets = Some(stream.collect(&entry.name, len, i64::from_le_bytes)?);
            }
            (None | Some("offsets"), dtype) => return Err(wrong_dtype(&entry.name, dtype, "I64")),
            (Some("bytes"), dtype) => return Err(wrong_dtype(&entry.name, dtype, "U8")),
            _ => return Err(unknown(&entry.name, "users and items, each as one tensor or as .bytes and .offsets")),
        }
    }
    let [users, items] = sides;
    Ok((users.into_ids(stream)?, items.into_ids(stream)?))
}

/// The tensors with the ids of one side, users or items, read so far.
struct Side {
    name: &'static str,
    count: usize,
    ints: Option<Vec<i64>>,
    bytes: Option<Vec<u8>>,
    offsets: Option<Vec<i64>>,
}

impl Side {
    fn new(name: &'static str, count: usize) -> Self {
        Side { name, count, ints: None, bytes: None, offsets: None }
    }

    fn into_ids(self, stream: &mut Stream<'_>) -> Result<Ids> {
        let Side { name, count, ints, bytes, offsets: starts } = self;
        let mut check = || stream.poll();
        let ids = match (ints, bytes, starts) {
            (Some(ints), None, None) => Ids::from_ints_with(ints, &mut check),
            (None, Some(bytes), Some(starts)) => {
                let starts = offsets(&format!("{name}.offsets"), starts, bytes.len())?;
                Ids::from_strings_with(bytes, starts, &mut check)
            }
            (None, None, None) => return Err(missing(name)),
            (None, Some(_), None) => return Err(missing(&format!("{name}.offsets"))),
            (None, None, Some(_)) => return Err(missing(&format!("{name}.bytes"))),
            (Some(_), ..) => return Err(Error::Format(format!("{name}: given both as integers and as strings"))),
        };
        let ids = ids.map_err(|error| match error {
            Error::Argument(text) => Error::Format(format!("{name}: {text}")),
            other => other.within(name),
        })?;
        if ids.len() != count {
            return Err(Error::Format(format!("{name}: {} ids, but the weights have {count} {name}", ids.len())));
        }
        Ok(ids)
    }
}

/// Checks that `positions` run from 0 to `end` and never decrease, and converts them.
pub(super) fn offsets(name: &str, positions: Vec<i64>, end: usize) -> Result<Vec<usize>> {
    let (first, last) = (positions.first(), positions.last());
    if first != Some(&0) || last.and_then(|&last| usize::try_from(last).ok()) != Some(end) {
        let ends = [first, last].map(|end| end.map_or("nothing".to_owned(), i64::to_string));
        return Err(Error::Format(format!(
            "{name}: must run from 0 to {end}, but runs from {} to {}",
            ends[0], ends[1]
        )));
    }
    if let Some(at) = positions.windows(2).position(|pair| pair[0] > pair[1]) {
        let (from, to) = (positions[at], positions[at + 1]);
        return Err(Error::Format(format!("{name}: decreases from {from} to {to} after element {at}")));
    }
    // They start at 0 and never decrease, so none is negative. The vector is converted in place.
    Ok(positions.into_iter().map(|position| position as usize).collect())
}

pub(super) fn vector_len(entry: &Entry) -> Result<usize> {
    match entry.shape[..] {
        [len] => Ok(len),
        _ => Err(Error::Format(format!("{}: {} dimensions, expected one", quote(&entry.name), entry.shape.len()))),
    }
}

pub(super) fn missing(name: &str) -> Error {
    Error::Format(format!("tensor {name} is missing"))
}

pub(super) fn unknown(name: &str, expected: &str) -> Error {
    Error::Format(format!("{}: unexpected tensor; this file holds {expected}", quote(name)))
}

pub(super) fn wrong_dtype(name: &str, dtype: Dtype, expected: &str) -> Error {
    Error::Format(format!("{name}: dtype {dtype:?}, expected {expected}"))
}

//! `index.safetensors`: an approximate index, saved beside the model whose items it has in lists.

use super::{
    container::{Entry, Header},
    dtype::Dtype,
    json::quote,
    metadata::Metadata,
    sidecar::{missing, unknown, vector_len, wrong_dtype},
    stream::Stream,
};
use crate::error::{Error, Result, filled};

/// An index as a file holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedIndex {
    /// `[I]`: the list of each item. The lists are numbered from 0, and each has an item.
    pub list_of: Vec<u32>,
    /// `[L]`, a finite number for each list: how far its best item stands above its centroid, in logits.
    pub lifts: Vec<f32>,
    /// What was calibrated, no NaN among it: `k`, recall, margin, recall measured, lists and items visited.
    pub levels: Vec<[f64; 6]>,
    /// The number of lists that was asked for.
    pub lists: usize,
    /// What chose the samples of items and of users.
    pub seed: u64,
}

/// The index of a model directory, as [`open`](super::open) read it.
#[derive(Debug)]
pub struct OpenedIndex {
    /// Its content.
    pub saved: SavedIndex,
    /// SHA-256 of the file, in hexadecimal, as the file itself states it.
    pub digest: String,
}

/// Reads the rest of `index.safetensors`, whose header has been read, for a model of `items` items.
pub(super) fn read_index(stream: &mut Stream<'_>, header: &Header, items: usize) -> Result<SavedIndex> {
    let [lists, seed] = ["lists", "seed"].map(|key| number(&header.metadata, key));
    let (lists, seed) = (lists? as usize, seed?);
    let (mut list_of, mut lifts, mut levels) = (None, None, None);
    for entry in &header.entries {
        match (entry.name.as_str(), entry.dtype) {
            ("list_of", Dtype::I32) => {
                let len = vector_len(entry)?;
                if len != items {
                    let text = format!("list_of: {len} values, expected {items}, one for each item of the weights");
                    return Err(Error::Format(text));
                }
                list_of = Some(stream.collect("list_of", len, u32::from_le_bytes)?);
            }
            ("lifts", Dtype::F32) => lifts = Some(stream.collect("lifts", vector_len(entry)?, f32::from_le_bytes)?),
            ("levels", Dtype::F64) => levels = Some(read_levels(stream, entry)?),
            ("list_of", dtype) => return Err(wrong_dtype("list_of", dtype, "I32")),
            ("lifts", dtype) => return Err(wrong_dtype("lifts", dtype, "F32")),
            ("levels", dtype) => return Err(wrong_dtype("levels", dtype, "F64")),
            (name, _) => return Err(unknown(name, "list_of, lifts and levels")),
        }
    }
    let list_of = list_of.ok_or_else(|| missing("list_of"))?;
    let lifts = lifts.ok_or_else(|| missing("lifts"))?;
    let levels = levels.ok_or_else(|| missing("levels"))?;
    stream.worked(2 * size_of_val(&list_of[..]))?;
    check_lifts(&lifts, check_lists(&list_of)?)?;
    Ok(SavedIndex { list_of, lifts, levels, lists, seed })
}

/// Rejects the index of other weights than those whose file has the SHA-256 `weights`.
pub(super) fn check_weights(metadata: &Metadata, weights: &str) -> Result<()> {
    match metadata.get("model_sha256") {
        Some(of) if of == weights => Ok(()),
        of => {
            let of = of.map_or_else(|| "none".to_owned(), quote);
            Err(Error::Format(format!(
                "an index of other weights: expected model_sha256 \"{weights}\", that of model.safetensors, got {of}"
            )))
        }
    }
}

fn read_levels(stream: &mut Stream<'_>, entry: &Entry) -> Result<Vec<[f64; 6]>> {
    let [rows, 6] = entry.shape[..] else {
        return Err(Error::Format(format!("levels: shape {:?}, expected [n, 6]", entry.shape)));
    };
    let levels = stream.collect("levels", rows, |bytes: [u8; 48]| {
        let (values, _) = bytes.as_chunks();
        std::array::from_fn(|at| f64::from_le_bytes(values[at]))
    })?;
    match levels.iter().position(|level: &[f64; 6]| level.iter().any(|value| value.is_nan())) {
        Some(row) => Err(Error::Format(format!("levels: NaN in row {row}"))),
        None => Ok(levels),
    }
}

/// Checks that every list up to the last has an item; returns the number of lists.
fn check_lists(list_of: &[u32]) -> Result<usize> {
    let items = list_of.len();
    let mut used = filled("lists", items, false)?;
    for (item, &list) in list_of.iter().enumerate() {
        match used.get_mut(list as usize) {
            Some(used) => *used = true,
            None => {
                // Read as unsigned, a negative number is out of range too.
                let (list, last) = (list.cast_signed(), items - 1);
                return Err(Error::Format(format!("list_of: item {item} is in list {list}, expected 0 to {last}")));
            }
        }
    }
    let count = used.iter().rposition(|&used| used).map_or(0, |last| last + 1);
    match used[..count].iter().position(|&used| !used) {
        Some(list) => {
            let last = count - 1;
            Err(Error::Format(format!("list_of: no item is in list {list}, expected one in each up to list {last}")))
        }
        None => Ok(count),
    }
}

fn check_lifts(lifts: &[f32], lists: usize) -> Result<()> {
    if lifts.len() != lists {
        return Err(Error::Format(format!("lifts: {} values, expected {lists}, one for each list", lifts.len())));
    }
    match lifts.iter().position(|lift| !lift.is_finite()) {
        Some(list) => Err(Error::Format(format!("lifts: {} for list {list}, expected a finite number", lifts[list]))),
        None => Ok(()),
    }
}

fn number(metadata: &Metadata, key: &str) -> Result<u64> {
    let text = metadata.get(key);
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        let got = text.map_or_else(|| "none".to_owned(), quote);
        Error::Format(format!("metadata: {key}: expected an integer from 0 to 2^64 - 1, got {got}"))
    })
}

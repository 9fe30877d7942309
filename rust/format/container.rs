//! The safetensors container, read strictly: the header is bounded, and checked whole before any data is read.
//!
//! ```text
//! 8 bytes   N, little-endian
//! N bytes   JSON: {"__metadata__": {..}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ..}
//! the rest  the tensors, little-endian, row-major, contiguous
//! ```

use std::collections::BTreeMap;

use super::{
    digest,
    dtype::Dtype,
    json::{Json, quote},
    stream::Stream,
};
use crate::error::{Error, Result};

/// The maximum size of the header, in bytes. A model of a hundred layers needs some 20 KB.
pub(super) const HEADER_LIMIT: u64 = 4 << 20;

/// A tensor in the header. Its data follow those of the previous entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
}

/// A header, checked against the length of its file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, String>,
    /// In the order of their data, which fill the rest of the file exactly.
    pub(super) entries: Vec<Entry>,
    /// The length of its JSON in bytes.
    length: u64,
}

impl Header {
    /// Checks what the header, just read, says of the file's own digest, and blanks it in that of the stream. Returns
    /// it, or `None` if the file has none.
    pub(super) fn blank_own_digest(&self, stream: &mut Stream<'_>) -> Result<Option<String>> {
        let [marked, own] = ["digest", "sha256"].map(|key| self.metadata.get(key).map(String::as_str));
        match (marked == Some("sha256"), own) {
            (false, None) => Ok(None),
            (true, Some(own)) => {
                stream.blank_in_digest(&self.length.to_le_bytes(), self.length as usize, digest::parse(own)?)?;
                Ok(Some(own.to_owned()))
            }
            // Each without the other is damage, so that no single change of a key switches the check off.
            _ => Err(Error::Format(
                "metadata: expected \"digest\", \"sha256\", and the key \"sha256\", or neither".to_owned(),
            )),
        }
    }

    /// Reads the header; the next bytes of the stream are the first tensor's.
    pub(super) fn read(stream: &mut Stream<'_>) -> Result<Self> {
        let length = stream.length();
        if length < 8 {
            return Err(Error::Format(format!("{length} bytes long, too short for a safetensors file")));
        }
        let mut prefix = [0; 8];
        prefix.copy_from_slice(stream.bytes(8)?);
        let header = u64::from_le_bytes(prefix);
        if header > HEADER_LIMIT {
            return Err(Error::Format(format!(
                "header of {header} bytes, the limit is {HEADER_LIMIT}; is this a safetensors file?"
            )));
        }
        if header > length - 8 {
            return Err(Error::Format(format!("truncated: a header of {header} bytes in a file of {length} bytes")));
        }
        let text = stream.bytes(header as usize)?;
        if text.first() != Some(&b'{') {
            return Err(Error::Format("header does not start with '{'; is this a safetensors file?".to_owned()));
        }
        let object = Json::object(text).map_err(|error| error.within("header"))?;
        Self::from_json(object, header, length - 8 - header)
    }

    /// Checks a parsed header of `length` bytes against the `available` bytes that follow it.
    fn from_json(object: BTreeMap<String, Json>, length: u64, available: u64) -> Result<Self> {
        let mut metadata = BTreeMap::new();
        let mut spans = Vec::new();
        for (name, value) in object {
            if name == "__metadata__" {
                metadata = parse_metadata(value)?;
            } else {
                spans.push(parse_entry(name, &value)?);
            }
        }
        spans.sort_by_key(|(span, _)| *span);
        let mut end = 0;
        for ((start, stop), entry) in &spans {
            let name = quote(&entry.name);
            if *start > end {
                return Err(Error::Format(format!("a gap in the data: bytes {end} to {start}, before {name}")));
            }
            if *start < end {
                return Err(Error::Format(format!(
                    "{name}: its data start at byte {start} and overlap another tensor, which ends at {end}"
                )));
            }
            end = *stop;
        }
        if end > available {
            return Err(Error::Format(format!(
                "truncated: the tensors take {end} bytes, the file has {available} after its header"
            )));
        }
        if end < available {
            return Err(Error::Format(format!("{} bytes after the last tensor", available - end)));
        }
        Ok(Header { metadata, entries: spans.into_iter().map(|(_, entry)| entry).collect(), length })
    }
}

fn parse_metadata(value: Json) -> Result<BTreeMap<String, String>> {
    let Json::Object(object) = value else {
        return Err(Error::Format(format!("__metadata__: expected an object, got {}", value.describe())));
    };
    let text = |(key, value): (String, Json)| match value {
        Json::String(value) => Ok((key, value)),
        other => {
            let (key, other) = (quote(&key), other.describe());
            Err(Error::Format(format!("__metadata__: the value of {key} must be a string, got {other}")))
        }
    };
    object.into_iter().map(text).collect()
}

/// Parses a tensor's entry; returns it with the span of its data, checked against its shape and dtype.
fn parse_entry(name: String, value: &Json) -> Result<((u64, u64), Entry)> {
    let fail = |text: String| Error::Format(format!("{}: {text}", quote(&name)));
    let Json::Object(fields) = value else {
        return Err(fail(format!("expected an object, got {}", value.describe())));
    };
    if let Some(key) = fields.keys().find(|key| !matches!(key.as_str(), "dtype" | "shape" | "data_offsets")) {
        return Err(fail(format!("unknown key {} in the header", quote(key))));
    }
    let field = |key: &str| fields.get(key).ok_or_else(|| fail(format!("{key} is missing")));

    let dtype = field("dtype")?;
    let dtype = dtype
        .string()
        .and_then(Dtype::parse)
        .ok_or_else(|| fail(format!("dtype: expected F32, F16, BF16, I64, I32 or U8, got {}", dtype.describe())))?;
    let shown = field("shape")?.describe();
    let shape = integers(field("shape")?).ok_or_else(|| fail(format!("shape must be a list of sizes, got {shown}")))?;
    let offsets = integers(field("data_offsets")?);
    let &[start, end] = offsets.as_deref().unwrap_or_default() else {
        return Err(fail("data_offsets must be a list of two positions".to_owned()));
    };

    if start > end {
        return Err(fail(format!("data_offsets run backwards, from {start} to {end}")));
    }
    let elements = shape.iter().try_fold(dtype.size() as u64, |bytes, &size| bytes.checked_mul(size));
    let bytes = elements.ok_or_else(|| fail(format!("shape {shown} is too large")))?;
    if bytes != end - start {
        return Err(fail(format!(
            "shape {shown} of {dtype:?} takes {bytes} bytes, but data_offsets {start} to {end} hold {}",
            end - start
        )));
    }
    let sizes = shape.iter().map(|&size| usize::try_from(size)).collect::<std::result::Result<_, _>>();
    let shape = sizes.map_err(|_| fail(format!("shape {shown} is too large")))?;
    Ok(((start, end), Entry { name, dtype, shape }))
}

fn integers(value: &Json) -> Option<Vec<u64>> {
    match value {
        Json::List(list) => list.iter().map(Json::integer).collect(),
        _ => None,
    }
}

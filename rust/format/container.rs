//! The safetensors container, read strictly: the header is bounded, and checked whole before any data is read.
//!
//! ```text
//! 8 bytes   N, little-endian
//! N bytes   JSON: {"__metadata__": {..}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ..}
//! the rest  the tensors, little-endian, row-major, contiguous
//! ```

use super::{
    digest,
    dtype::Dtype,
    json::{Json, quote},
    metadata::Metadata,
    stream::Stream,
};
use crate::error::{Error, Result, collected, copied, push};

/// The maximum size of the header, in bytes. A model of a hundred layers needs some 20 KB.
pub(super) const HEADER_LIMIT: u64 = 4 << 20;

/// The maximum number of dimensions of a tensor; the tensors of the format have one or two.
const MOST_DIMENSIONS: usize = 8;

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
    pub(super) metadata: Metadata,
    /// In the order of their data, which fill the rest of the file exactly.
    pub(super) entries: Vec<Entry>,
    /// The length of its JSON in bytes.
    length: u64,
}

impl Header {
    /// Checks what the header, just read, says of the file's own digest, and blanks it in that of the stream. Returns
    /// it, or `None` if the file has none.
    pub(super) fn blank_own_digest(&self, stream: &mut Stream<'_>) -> Result<Option<String>> {
        let [marked, own] = ["digest", "sha256"].map(|key| self.metadata.get(key));
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
        let (text, interrupts) = stream.bytes_and_interrupts(header as usize)?;
        if text.first() != Some(&b'{') {
            return Err(Error::Format("header does not start with '{'; is this a safetensors file?".to_owned()));
        }
        let content = Json::read(text, interrupts, |json| {
            let (mut metadata, mut spans) = (Metadata::default(), Vec::new());
            json.object(&"expected an object", &mut |json, name| {
                match name {
                    "__metadata__" => metadata = Metadata::read(json, header as usize)?,
                    _ => {
                        let entry = read_entry(json, name).map_err(|error| error.within(quote(name)))?;
                        push("tensors", &mut spans, entry)?;
                    }
                }
                Ok(())
            })?;
            Ok((metadata, spans))
        });
        let (metadata, spans) = content.map_err(|error| error.within("header"))?;
        Self::checked(metadata, spans, header, length - 8 - header)
    }

    /// Checks the tensors of a header of `length` bytes, with the spans of their data, against the `available` bytes
    /// that follow it.
    fn checked(metadata: Metadata, mut spans: Vec<(Span, Entry)>, length: u64, available: u64) -> Result<Self> {
        spans.sort_unstable_by_key(|(span, _)| *span);
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
        let entries = collected("tensors", spans.into_iter().map(|(_, entry)| entry))?;
        Ok(Header { metadata, entries, length })
    }
}

/// Where the data of a tensor start and end, after the header.
type Span = (u64, u64);

/// Reads the entry of the tensor `name`, and checks the span of its data against its shape and dtype.
fn read_entry(json: &mut Json<'_, '_>, name: &str) -> Result<(Span, Entry)> {
    const DTYPES: &str = "dtype: expected F64, F32, F16, BF16, I64, I32 or U8";
    let (mut dtype, mut shape, mut offsets) = (None, None, None);
    json.object(&"expected an object", &mut |json, key| {
        match key {
            "dtype" => {
                let text = json.string(&DTYPES)?;
                let parsed = Dtype::parse(&text);
                dtype = Some(parsed.ok_or_else(|| Error::Format(format!("{DTYPES}, got {}", quote(&text))))?);
            }
            "shape" => shape = Some(json.integers(MOST_DIMENSIONS, &"shape must be a list of sizes, at most 8")?),
            "data_offsets" => {
                let expected = "data_offsets must be a list of two positions";
                offsets = match json.integers(2, &expected)?[..] {
                    [start, end] => Some((start, end)),
                    ref other => return Err(Error::Format(format!("{expected}, got {other:?}"))),
                };
            }
            _ => return Err(Error::Format(format!("unknown key {} in the header", quote(key)))),
        }
        Ok(())
    })?;
    let missing = |key: &str| Error::Format(format!("{key} is missing"));
    let dtype = dtype.ok_or_else(|| missing("dtype"))?;
    let shape = shape.ok_or_else(|| missing("shape"))?;
    let (start, end) = offsets.ok_or_else(|| missing("data_offsets"))?;

    if start > end {
        return Err(Error::Format(format!("data_offsets run backwards, from {start} to {end}")));
    }
    let too_large = || Error::Format(format!("shape {shape:?} is too large"));
    let bytes = shape.iter().try_fold(dtype.size() as u64, |bytes, &size| bytes.checked_mul(size));
    let bytes = bytes.ok_or_else(too_large)?;
    if bytes != end - start {
        return Err(Error::Format(format!(
            "shape {shape:?} of {dtype:?} takes {bytes} bytes, but data_offsets {start} to {end} hold {}",
            end - start
        )));
    }
    let sizes = shape.iter().map(|&size| usize::try_from(size)).collect::<std::result::Result<_, _>>();
    let shape = sizes.map_err(|_| too_large())?;
    Ok(((start, end), Entry { name: copied("tensor name", name)?, dtype, shape }))
}

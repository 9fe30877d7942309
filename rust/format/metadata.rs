//! The metadata of a safetensors file.

use std::{fmt, ops::Range};

use super::json::{Json, quote};
use crate::error::{Result, push, with_room};

/// Keys and values, sorted by key. They take the memory of their text, and 32 bytes for each key: many small ones take
/// little.
#[derive(Clone, Default)]
pub struct Metadata {
    /// All keys and values.
    text: String,
    /// Where each key and its value stand.
    entries: Vec<[Range<u32>; 2]>,
}

impl Metadata {
    /// Reads an object of strings from a header of `length` bytes, at most 2^32.
    pub(super) fn read(json: &mut Json<'_, '_>, length: usize) -> Result<Self> {
        let mut text = with_room("metadata", length)?;
        let mut entries = Vec::new();
        json.object(&"__metadata__: expected an object", &mut |json, key| {
            let value = json.string(&"expected a string");
            let value = value.map_err(|error| error.within(format_args!("__metadata__: {}", quote(key))))?;
            // No longer than in the header, so that the room is enough.
            let mut add = |added: &str| {
                let start = text.len() as u32;
                text.push_str(added);
                start..text.len() as u32
            };
            push("metadata", &mut entries, [add(key), add(&value)])
        })?;
        entries.sort_unstable_by(|[one, _], [other, _]| at(&text, one).cmp(at(&text, other)));
        Ok(Metadata { text, entries })
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.entries.binary_search_by(|[other, _]| at(&self.text, other).cmp(key)).ok()?;
        Some(at(&self.text, &self.entries[found][1]))
    }

    /// Keys and values, in ascending order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|[key, value]| (at(&self.text, key), at(&self.text, value)))
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

fn at<'a>(text: &'a str, range: &Range<u32>) -> &'a str {
    &text[range.start as usize..range.end as usize]
}

//! SHA-256 digests of files: how damage is found that leaves a file well-formed.

use sha2::{Digest, Sha256, digest::Output};

use super::json::{Json, quote};
use crate::error::{Error, Result};

/// The digits of a digest in hexadecimal.
const DIGITS: usize = 64;

/// The digest in lower-case hexadecimal.
pub(super) fn hexadecimal(digest: Output<Sha256>) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The line that the program sha256sum prints of the file `name`; a model's digest is that of such lines.
pub(super) fn line(digest: &str, name: &str) -> String {
    format!("{digest}  {name}\n")
}

/// Adds `text` to `digest`, with zeros in place of `own`, the digest that `text` states of itself.
///
/// # Errors
/// [`Error::Format`] if `own` does not occur exactly once in `text`.
pub(super) fn update_with_blank(digest: &mut Sha256, text: &[u8], own: &str) -> Result<()> {
    let mut places = text.windows(DIGITS).enumerate().filter(|(_, window)| *window == own.as_bytes());
    let (Some((start, _)), None) = (places.next(), places.next()) else {
        return Err(Error::Format(format!("sha256: {} must occur exactly once, unescaped", quote(own))));
    };
    digest.update(&text[..start]);
    digest.update([b'0'; DIGITS]);
    digest.update(&text[start + DIGITS..]);
    Ok(())
}

/// `value` if it is a digest in lower-case hexadecimal.
pub(super) fn parse(value: &str) -> Result<&str> {
    let digits = value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match digits && value.len() == DIGITS {
        true => Ok(value),
        false => {
            Err(Error::Format(format!("sha256: expected {DIGITS} lower-case hexadecimal digits, got {}", quote(value))))
        }
    }
}

/// Rejects a file whose digest `got` is not the one `expected` that `place` states.
pub(super) fn compare(expected: &str, got: &str, place: impl std::fmt::Display) -> Result<()> {
    match expected == got {
        true => Ok(()),
        false => {
            Err(Error::Format(format!("damaged or changed: its SHA-256 is {got}, expected {expected} by {place}")))
        }
    }
}

/// Size and digest of one file, as config.json lists them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) size: u64,
    pub(super) sha256: String,
}

impl Listed {
    /// Reads the entry of a file in config.json.
    pub(super) fn from_json(value: &Json) -> Result<Self> {
        let Json::Object(fields) = value else {
            return Err(Error::Format(format!("expected an object, got {}", value.describe())));
        };
        let size = fields.get("size").and_then(Json::integer);
        let size = size.ok_or_else(|| Error::Format("size: expected a number of bytes".to_owned()))?;
        let sha256 = fields.get("sha256").and_then(Json::string).unwrap_or_default();
        Ok(Listed { size, sha256: parse(sha256)?.to_owned() })
    }
}

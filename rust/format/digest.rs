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

/// Reads a digest, the value of a key sha256.
pub(super) fn read(json: &mut Json<'_, '_>) -> Result<String> {
    json.string(&"sha256: expected a string").and_then(|text| parse(&text).map(str::to_owned))
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
    pub(super) fn read(json: &mut Json<'_, '_>) -> Result<Self> {
        let (mut size, mut sha256) = (None, None);
        json.object(&"expected an object", &mut |json, key| {
            match key {
                "size" => size = Some(json.integer(&"size: expected a number of bytes")?),
                "sha256" => sha256 = Some(read(json)?),
                _ => json.skip()?,
            }
            Ok(())
        })?;
        let missing = |key: &str| Error::Format(format!("{key} is missing"));
        Ok(Listed { size: size.ok_or_else(|| missing("size"))?, sha256: sha256.ok_or_else(|| missing("sha256"))? })
    }
}

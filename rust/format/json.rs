//! JSON as the format reads it: strict, and without duplicate keys.

use std::{collections::BTreeMap, fmt};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, Result};

/// A JSON value; values that the format never reads are [`Json::Other`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json {
    /// A non-negative integer.
    Integer(u64),
    String(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
    /// `null`, a boolean, a negative number or a fraction.
    Other,
}

impl Json {
    /// Parses `text` as one object.
    ///
    /// # Errors
    /// [`Error::Format`] if it is not valid JSON, has a duplicate key at any level, is nested too deeply, or is not an
    /// object.
    pub(super) fn object(text: &[u8]) -> Result<BTreeMap<String, Json>> {
        match serde_json::from_slice(text) {
            Ok(Json::Object(object)) => Ok(object),
            Ok(other) => Err(Error::Format(format!("expected a JSON object, got {}", other.describe()))),
            Err(error) => Err(Error::Format(format!("not valid JSON: {error}"))),
        }
    }

    /// Describes the value, for an error message.
    pub(super) fn describe(&self) -> String {
        match self {
            Json::Integer(value) => value.to_string(),
            Json::String(text) => quote(text),
            Json::List(list) => match list.iter().map(|item| item.integer()).collect::<Option<Vec<_>>>() {
                Some(integers) if integers.len() <= 8 => format!("{integers:?}"),
                _ => format!("a list of {} values", list.len()),
            },
            Json::Object(object) => format!("an object with {} keys", object.len()),
            Json::Other => "null, a boolean, a negative number or a fraction".to_owned(),
        }
    }

    pub(super) fn integer(&self) -> Option<u64> {
        match *self {
            Json::Integer(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn string(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }
}

/// `text` in quotes, escaped and truncated: text from a file may be long or hold control characters.
pub(super) fn quote(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}... ({} bytes)", &text[..end], text.len()),
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Json, E> {
        Ok(Json::Integer(value))
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_unit<E>(self) -> std::result::Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<Json, E> {
        Ok(Json::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> std::result::Result<Json, E> {
        Ok(Json::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> std::result::Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = access.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Json, A::Error> {
        let mut object = BTreeMap::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = access.next_value()?;
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("duplicate key {} in an object", quote(&key))));
            }
            object.insert(key, value);
        }
        Ok(Json::Object(object))
    }
}

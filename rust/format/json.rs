//! JSON as the format reads it: strict, and without duplicate keys.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher, RandomState},
};

use hashbrown::HashTable;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, Result, try_for};

/// The entry of a tensor, or of a file in config.json, has a value for every 10 bytes of text or more; a text with more
/// values, which would take many times its size, is none of a model. [`SPARE_VALUES`] more are allowed to short texts.
const LEAST_BYTES_PER_VALUE: usize = 8;
const SPARE_VALUES: usize = 256;

/// Bytes of memory that a byte of text takes at most, built at this density.
const BYTES_PER_BYTE: usize = 24;

/// A JSON value; values that the format never reads are [`Json::Other`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json {
    /// A non-negative integer.
    Integer(u64),
    String(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
    /// `null`, a boolean, a negative number, a fraction, or what was not wanted.
    Other,
}

impl Json {
    /// Parses `text` as one object.
    ///
    /// # Errors
    /// [`Error::Format`] if it is not valid JSON, has a duplicate key at any level, is nested too deeply, or is not an
    /// object.
    pub(super) fn object(text: &[u8]) -> Result<BTreeMap<String, Json>> {
        Self::object_with(text, |_| true)
    }

    /// [`Json::object`], but of those entries whose key is not `wanted` nothing is built: they become [`Json::Other`].
    ///
    /// # Errors
    /// As for [`Json::object`]; [`Error::Memory`].
    pub(super) fn object_with(text: &[u8], wanted: fn(&str) -> bool) -> Result<BTreeMap<String, Json>> {
        // Maps and strings have no constructors that fail, so the memory is tried for first.
        try_for("JSON", text.len().saturating_mul(BYTES_PER_BYTE))?;
        let budget = Cell::new(text.len() / LEAST_BYTES_PER_VALUE + SPARE_VALUES);
        let mut parser = serde_json::Deserializer::from_slice(text);
        let parsed = Reader { budget: &budget, wanted, depth: 0 }.deserialize(&mut parser);
        match parsed.and_then(|json| parser.end().map(|()| json)) {
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

/// Builds values, or skips those below unwanted keys of the outermost object. Either way no key may occur twice.
#[derive(Clone, Copy)]
struct Reader<'a> {
    /// How many more values may be built.
    budget: &'a Cell<usize>,
    wanted: fn(&str) -> bool,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Json, D::Error> {
        let left = self.budget.get().checked_sub(1);
        let too_many = || D::Error::custom("too many small values, more than any model needs");
        self.budget.set(left.ok_or_else(too_many)?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> std::result::Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = access.next_element_seed(Reader { depth: self.depth + 1, ..self })? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Json, A::Error> {
        let inner = Reader { depth: self.depth + 1, ..self };
        let mut object = BTreeMap::new();
        while let Some(key) = access.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("duplicate key {} in an object", quote(&key))));
            }
            let value = if self.depth > 0 || (self.wanted)(&key) {
                access.next_value_seed(inner)?
            } else {
                access.next_value_seed(Skipped)?;
                Json::Other
            };
            object.insert(key, value);
        }
        Ok(Json::Object(object))
    }
}

/// Checks a value without building it.
#[derive(Clone, Copy)]
struct Skipped;

impl<'de> DeserializeSeed<'de> for Skipped {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Skipped {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> std::result::Result<(), A::Error> {
        while access.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<(), A::Error> {
        // A hash with a random key stands for each key: 8 bytes for an entry of at least 5.
        let hasher = RandomState::new();
        let mut keys = HashTable::new();
        while let Some(key) = access.next_key::<String>()? {
            let hash = hasher.hash_one(&key);
            if keys.find(hash, |&other| other == hash).is_some() {
                return Err(A::Error::custom(format!("duplicate key {} in an object", quote(&key))));
            }
            keys.insert_unique(hash, hash, |&hash| hash);
            access.next_value_seed(self)?;
        }
        Ok(())
    }
}

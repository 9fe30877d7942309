//! JSON as the format reads it: strict, and one value after the other, so that nothing is built but what the caller
//! keeps. What a text takes beside itself is 8 bytes or so for each key of the objects that are open, by which no key
//! occurs twice.

use std::{
    borrow::Cow,
    fmt::Display,
    hash::{BuildHasher, RandomState},
};

use hashbrown::HashTable;

use super::interrupts::Interrupts;
use crate::error::{Error, Result, push, reserve, with_room};

/// The deepest nesting of lists and objects.
const DEEPEST: usize = 128;

/// The interrupt check may run after this many values, which take less than a millisecond.
const CHECK_EVERY: usize = 4096;

/// A list is described by its elements up to this number.
const DESCRIBED: usize = 8;

/// A text, read up to some place. `expected`, an argument of most methods, starts the error about a value of another
/// type.
pub(super) struct Json<'t, 'c> {
    text: &'t str,
    /// The position of the next byte.
    at: usize,
    /// How many lists and objects are open.
    depth: usize,
    /// Has a random key, so that crafted keys cannot collide.
    hasher: RandomState,
    interrupts: &'t mut Interrupts<'c>,
    unchecked: usize,
}

impl<'t, 'c> Json<'t, 'c> {
    /// Calls `read` to read the one value of `text`, and checks that nothing follows.
    ///
    /// # Errors
    /// [`Error::Format`] if it is not valid JSON, has a duplicate key at any level, or is nested too deeply;
    /// [`Error::Memory`]; the errors of `read` and of the interrupt check.
    pub(super) fn read<T>(
        text: &'t [u8],
        interrupts: &'t mut Interrupts<'c>,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let text = str::from_utf8(text).map_err(|error| Error::Format(format!("not valid JSON: {error}")))?;
        let mut json = Json { text, at: 0, depth: 0, hasher: RandomState::new(), interrupts, unchecked: 0 };
        let content = read(&mut json)?;
        match json.next_byte() {
            None => Ok(content),
            Some(_) => Err(json.invalid("the end")),
        }
    }

    /// Reads an object; `member` is called after each key, and must read its value.
    pub(super) fn object(
        &mut self,
        expected: &dyn Display,
        member: &mut dyn FnMut(&mut Self, &str) -> Result<()>,
    ) -> Result<()> {
        match self.value()? {
            b'{' => self.members(member),
            _ => Err(self.another(expected)),
        }
    }

    /// Reads a string.
    pub(super) fn string(&mut self, expected: &dyn Display) -> Result<Cow<'t, str>> {
        match self.value()? {
            b'"' => self.quoted()?.decode(),
            _ => Err(self.another(expected)),
        }
    }

    /// Reads a non-negative integer.
    pub(super) fn integer(&mut self, expected: &dyn Display) -> Result<u64> {
        let (first, start) = (self.value()?, self.at);
        if let b'-' | b'0'..=b'9' = first
            && let Some(integer) = self.number()?
        {
            return Ok(integer);
        }
        self.at = start;
        Err(self.another(expected))
    }

    /// Reads a list of at most `most` non-negative integers.
    pub(super) fn integers(&mut self, most: usize, expected: &dyn Display) -> Result<Vec<u64>> {
        let (first, start, depth) = (self.value()?, self.at, self.depth);
        let (mut integers, mut fits) = (reserve("integers", most.min(DESCRIBED))?, first == b'[');
        if fits {
            self.elements(&mut |json| {
                fits = fits && integers.len() < most;
                match json.value()? {
                    b'-' | b'0'..=b'9' if fits => match json.number()? {
                        Some(integer) => push("integers", &mut integers, integer)?,
                        None => fits = false,
                    },
                    _ => {
                        fits = false;
                        json.skip()?;
                    }
                }
                Ok(())
            })?;
        }
        if fits {
            return Ok(integers);
        }
        (self.at, self.depth) = (start, depth);
        Err(self.another(expected))
    }

    /// Checks a value without building it.
    pub(super) fn skip(&mut self) -> Result<()> {
        match self.value()? {
            b'{' => self.members(&mut |json, _| json.skip()),
            b'[' => self.elements(&mut |json| json.skip()),
            b'"' => self.quoted().map(drop),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => Err(self.invalid("a value")),
        }
    }

    /// Reads a value, and describes it for an error message.
    pub(super) fn describe(&mut self) -> Result<String> {
        let mut count = 0;
        match self.value()? {
            b'{' => {
                self.members(&mut |json, _| {
                    count += 1;
                    json.skip()
                })?;
                Ok(format!("an object with {count} keys"))
            }
            b'[' => {
                let mut integers = Vec::with_capacity(DESCRIBED + 1);
                self.elements(&mut |json| {
                    count += 1;
                    match json.value()? {
                        b'-' | b'0'..=b'9' => {
                            let integer = json.number()?;
                            integers.extend(integer.filter(|_| integers.len() <= DESCRIBED));
                            Ok(())
                        }
                        _ => json.skip(),
                    }
                })?;
                Ok(if integers.len() == count { describe(&integers) } else { format!("a list of {count} values") })
            }
            b'"' => Ok(quote(&self.quoted()?.decode()?)),
            b'-' | b'0'..=b'9' => {
                let integer = self.number()?;
                Ok(integer.map_or_else(|| "a negative number or a fraction".to_owned(), |integer| integer.to_string()))
            }
            _ => {
                let start = self.at;
                self.skip()?;
                Ok(self.text[start..self.at].to_owned())
            }
        }
    }

    /// The error about a value, which is next, of another type than expected.
    fn another(&mut self, expected: &dyn Display) -> Error {
        match self.describe() {
            Ok(got) => Error::Format(format!("{expected}, got {got}")),
            Err(error) => error,
        }
    }

    /// Reads the members of an object, whose `{` is next.
    fn members(&mut self, member: &mut dyn FnMut(&mut Self, &str) -> Result<()>) -> Result<()> {
        // A hash with a random key stands for each key.
        let mut keys = HashTable::<u64>::new();
        self.open()?;
        let mut more = !self.closes(b'}');
        while more {
            if self.next_byte() != Some(b'"') {
                return Err(self.invalid("a key"));
            }
            let key = self.quoted()?.decode()?;
            let hash = self.hasher.hash_one(&*key);
            if keys.find(hash, |&other| other == hash).is_some() {
                return Err(Error::Format(format!("not valid JSON: duplicate key {} in an object", quote(&key))));
            }
            let lack = |_| Error::Memory("keys of a JSON object: cannot reserve memory".to_owned());
            keys.try_reserve(1, |&hash| hash).map_err(lack)?;
            keys.insert_unique(hash, hash, |&hash| hash);
            if self.next_byte() != Some(b':') {
                return Err(self.invalid("':'"));
            }
            self.at += 1;
            member(self, &key)?;
            more = self.continues(b'}')?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads the elements of a list, whose `[` is next.
    fn elements(&mut self, element: &mut dyn FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.open()?;
        let mut more = !self.closes(b']');
        while more {
            element(self)?;
            more = self.continues(b']')?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn open(&mut self) -> Result<()> {
        if self.depth == DEEPEST {
            return Err(Error::Format(format!("not valid JSON: nested more than {DEEPEST} levels deep")));
        }
        (self.at, self.depth) = (self.at + 1, self.depth + 1);
        Ok(())
    }

    /// Whether the list or object that has just been opened is empty.
    fn closes(&mut self, close: u8) -> bool {
        let closes = self.next_byte() == Some(close);
        self.at += usize::from(closes);
        closes
    }

    /// Whether another element follows, rather than the end of the list or object.
    fn continues(&mut self, close: u8) -> Result<bool> {
        let continues = match self.next_byte() {
            Some(b',') => true,
            Some(byte) if byte == close => false,
            _ => return Err(self.invalid(&format!("',' or '{}'", char::from(close)))),
        };
        self.at += 1;
        Ok(continues)
    }

    /// The first byte of the next value; calls the interrupt check if it is due.
    fn value(&mut self) -> Result<u8> {
        self.unchecked += 1;
        if self.unchecked == CHECK_EVERY {
            self.unchecked = 0;
            self.interrupts.poll()?;
        }
        self.next_byte().ok_or_else(|| self.invalid("a value"))
    }

    /// The next byte that is no white space.
    fn next_byte(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        let space = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.at += space;
        rest.get(space).copied()
    }

    fn word(&mut self, word: &str) -> Result<()> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.invalid("a value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// Reads a number; returns it if it is a non-negative integer.
    fn number(&mut self) -> Result<Option<u64>> {
        let bytes = self.text.as_bytes();
        let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (start, negative) = (self.at, bytes[self.at] == b'-');
        self.at += usize::from(negative);
        let whole = if bytes.get(self.at) == Some(&b'0') { 1 } else { digits(self.at) };
        let mut valid = whole > 0;
        self.at += whole;
        let end = self.at;
        if bytes.get(self.at) == Some(&b'.') {
            let fraction = digits(self.at + 1);
            valid &= fraction > 0;
            self.at += 1 + fraction;
        }
        if let Some(b'e' | b'E') = bytes.get(self.at) {
            let sign = usize::from(matches!(bytes.get(self.at + 1), Some(b'+' | b'-')));
            let exponent = digits(self.at + 1 + sign);
            valid &= exponent > 0;
            self.at += 1 + sign + exponent;
        }
        if !valid {
            return Err(self.invalid("a digit"));
        }
        Ok(if negative || self.at > end { None } else { self.text[start..end].parse().ok() })
    }

    /// Reads a string, whose `"` is next.
    fn quoted(&mut self) -> Result<Quoted<'t>> {
        let bytes = self.text.as_bytes();
        let (start, mut escaped) = (self.at + 1, false);
        self.at = start;
        loop {
            match bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    let Some((_, length)) = escape(&bytes[self.at..]) else {
                        return Err(self.invalid("an escape of JSON"));
                    };
                    (self.at, escaped) = (self.at + length, true);
                }
                None | Some(..0x20) => return Err(self.invalid("the end of a string")),
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(Quoted { text: &self.text[start..self.at - 1], escaped })
    }

    /// The error that something else than `expected` is next.
    fn invalid(&self, expected: &str) -> Error {
        let got = self.text.get(self.at..).and_then(|rest| rest.chars().next());
        let got = got.map_or_else(|| "the end".to_owned(), |got| format!("{got:?}"));
        Error::Format(format!("not valid JSON: byte {}: expected {expected}, got {got}", self.at))
    }
}

/// A string as it stands between its quotes; its escapes are valid.
struct Quoted<'t> {
    text: &'t str,
    escaped: bool,
}

impl<'t> Quoted<'t> {
    fn decode(&self) -> Result<Cow<'t, str>> {
        if !self.escaped {
            return Ok(Cow::Borrowed(self.text));
        }
        // No escape is shorter than its character.
        let mut decoded = with_room("string", self.text.len())?;
        let mut rest = self.text;
        while let Some(at) = rest.find('\\')
            && let Some((character, length)) = escape(&rest.as_bytes()[at..])
        {
            decoded.push_str(&rest[..at]);
            decoded.push(character);
            rest = &rest[at + length..];
        }
        decoded.push_str(rest);
        Ok(Cow::Owned(decoded))
    }
}

/// The character of the escape that `bytes` start with, and its length; `None` if it is not valid.
fn escape(bytes: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = str::from_utf8(bytes.get(at..at + 4)?).ok()?;
        let all = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        u32::from_str_radix(digits, 16).ok().filter(|_| all)
    };
    let character = match bytes.get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = unit(2)?;
            if !matches!(first, 0xd800..0xdc00) {
                return char::from_u32(first).map(|character| (character, 6));
            }
            let second = unit(8).filter(|_| bytes[6..8] == *b"\\u")?;
            let low = second.checked_sub(0xdc00).filter(|&low| low < 0x400)?;
            return char::from_u32(0x10000 + ((first - 0xd800) << 10) + low).map(|character| (character, 12));
        }
        _ => return None,
    };
    Some((character, 2))
}

/// Describes a list, for an error message.
pub(super) fn describe(integers: &[u64]) -> String {
    match integers.len() {
        ..=DESCRIBED => format!("{integers:?}"),
        count => format!("a list of {count} values"),
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Builds what serde_json builds, where both can.
    fn build(json: &mut Json<'_, '_>) -> Result<Value> {
        let start = json.at;
        match json.value()? {
            b'{' => {
                let mut object = serde_json::Map::new();
                json.object(&"an object", &mut |json, key| {
                    object.insert(key.to_owned(), build(json)?);
                    Ok(())
                })?;
                Ok(Value::Object(object))
            }
            b'[' => {
                let mut list = Vec::new();
                json.elements(&mut |json| {
                    list.push(build(json)?);
                    Ok(())
                })?;
                Ok(Value::Array(list))
            }
            b'"' => Ok(Value::String(json.string(&"a string")?.into_owned())),
            _ => {
                json.skip()?;
                let text = json.text[start..json.at].trim();
                serde_json::from_str(text).map_err(|error| Error::Format(error.to_string()))
            }
        }
    }

    fn read<T>(text: &[u8], read: impl FnOnce(&mut Json<'_, '_>) -> Result<T>) -> Result<T> {
        Json::read(text, &mut Interrupts::new(&mut || Ok(())), read)
    }

    #[test]
    fn accepts_and_builds_what_serde_json_does() {
        let valid = [
            r#"{"a":[0,-1,1.5e-3,18446744073709551615],"b\u00e9\ud83d\ude00":{"c":null,"":true},"x":"\"\\\/\b\f\n\r\t"}"#,
            r#" [ {} , [ ] , "ü" , false , 0.0 , 10E+2 ] "#,
        ];
        let pieces = r#"{}[]:,"\0123-.eE+ tfnu\u \ud800\udc00 null true ü\n"#.chars().collect::<Vec<_>>();
        let (mut state, mut accepted) = (7u64, [0, 0]);
        let mut below = |bound: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % bound
        };
        for run in 0..100_000 {
            let mut text: Vec<char> = valid[run % 2].chars().collect();
            for _ in 0..below(4) {
                let at = below(text.len());
                let piece = pieces[below(pieces.len())];
                match below(4) {
                    0 => text[at] = piece,
                    1 => text.insert(at, piece),
                    2 => drop(text.remove(at)),
                    _ => {
                        let end = text.len().min(at + below(9));
                        let copy = text[at..end].to_vec();
                        text.splice(at..at, copy);
                    }
                }
            }
            let text: String = text.into_iter().collect();
            let (expected, got) = (serde_json::from_str::<Value>(&text), read(text.as_bytes(), build));
            match (&expected, &got) {
                (_, Err(Error::Format(message))) if message.contains("duplicate key") => {}
                (Err(error), _) if error.to_string().contains("number out of range") => continue,
                (Ok(expected), Ok(got)) => assert_eq!(expected, got, "{text}"),
                _ => assert!(expected.is_err() && got.is_err(), "{text}: {expected:?}, {got:?}"),
            }
            assert_eq!(read(text.as_bytes(), |json| json.skip()).is_ok(), got.is_ok(), "{text}");
            accepted[usize::from(got.is_ok())] += 1;
        }
        assert!(accepted.iter().all(|&count| count > 10_000), "refused and accepted: {accepted:?}");
    }

    #[test]
    fn no_key_occurs_twice_at_any_level() {
        for text in [r#"{"a":1,"\u0061":2}"#, r#"[{"b":{"a":1,"c":[],"a":2}}]"#] {
            let error = read(text.as_bytes(), |json| json.skip()).unwrap_err().to_string();
            assert!(error.contains(r#"duplicate key "a""#), "{error}");
        }
    }
}

//! External ids: lookup from index to id and from id to index, both in constant time.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
};

use hashbrown::HashTable;

use crate::error::{Error, Result};

/// One external id. An integer never equals a string: `7` is not `"7"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id<'a> {
    /// An integer id.
    Int(i64),
    /// A string id.
    Str(&'a str),
}

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Int(id) => write!(f, "{id}"),
            Id::Str(id) => write!(f, "{id:?}"),
        }
    }
}

/// A list of unique ids, all integers or all strings; the id at position `i` belongs to index `i`.
///
/// The hash table stores positions only and compares ids through the list. Its hash has a random key, so that crafted
/// ids cannot force collisions.
#[derive(Debug, Clone)]
pub struct Ids {
    keys: Keys,
    positions: HashTable<u32>,
    hasher: RandomState,
}

#[derive(Debug, Clone)]
enum Keys {
    Ints(Vec<i64>),
    /// Id `i` is `text[offsets[i]..offsets[i + 1]]`.
    Strings {
        text: String,
        offsets: Vec<usize>,
    },
}

impl Keys {
    fn len(&self) -> usize {
        match self {
            Keys::Ints(ints) => ints.len(),
            Keys::Strings { offsets, .. } => offsets.len() - 1,
        }
    }

    fn get(&self, position: usize) -> Id<'_> {
        match self {
            Keys::Ints(ints) => Id::Int(ints[position]),
            Keys::Strings { text, offsets } => Id::Str(&text[offsets[position]..offsets[position + 1]]),
        }
    }
}

/// The hash of an id under the table's random key.
fn hash(hasher: &RandomState, id: Id<'_>) -> u64 {
    match id {
        Id::Int(id) => hasher.hash_one(id),
        Id::Str(id) => hasher.hash_one(id),
    }
}

impl Ids {
    /// Integer ids, in order.
    ///
    /// # Errors
    /// [`Error::Argument`] for a duplicate id; [`Error::Memory`].
    pub fn from_ints(ints: Vec<i64>) -> Result<Self> {
        Self::index(Keys::Ints(ints), &mut || Ok(()))
    }

    /// String ids, in order: id `i` is the UTF-8 text `bytes[offsets[i]..offsets[i + 1]]`.
    ///
    /// # Errors
    /// [`Error::Argument`] for offsets that decrease or do not run from 0 to the number of bytes, for an id that is not
    /// UTF-8, for a duplicate id; [`Error::Memory`].
    pub fn from_strings(bytes: Vec<u8>, offsets: Vec<usize>) -> Result<Self> {
        Self::index(strings(bytes, offsets)?, &mut || Ok(()))
    }

    /// [`Ids::from_ints`], interruptible: the interrupt check `check` runs every 65,536 ids; its error is returned.
    pub(crate) fn from_ints_with(ints: Vec<i64>, check: &mut dyn FnMut() -> Result<()>) -> Result<Self> {
        Self::index(Keys::Ints(ints), check)
    }

    /// [`Ids::from_strings`], interruptible like [`Ids::from_ints_with`].
    pub(crate) fn from_strings_with(
        bytes: Vec<u8>,
        offsets: Vec<usize>,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Self> {
        Self::index(strings(bytes, offsets)?, check)
    }

    fn index(keys: Keys, check: &mut dyn FnMut() -> Result<()>) -> Result<Self> {
        const CHECK_EVERY: usize = 1 << 16;
        let len = keys.len();
        if u32::try_from(len).is_err() {
            return Err(Error::Argument(format!("{len} ids, the limit is {}", u32::MAX)));
        }
        let hasher = RandomState::new();
        let mut positions = HashTable::new();
        positions
            .try_reserve(len, |&position: &u32| hash(&hasher, keys.get(position as usize)))
            .map_err(|_| Error::Memory(format!("lookup table of {len} ids: cannot reserve memory")))?;
        for position in 0..len {
            if position % CHECK_EVERY == CHECK_EVERY - 1 {
                check()?;
            }
            let id = keys.get(position);
            let key = hash(&hasher, id);
            if let Some(first) = positions.find(key, |&other| keys.get(other as usize) == id) {
                return Err(Error::Argument(format!("duplicate id {id}, at {first} and {position}")));
            }
            positions.insert_unique(key, position as u32, |&other| hash(&hasher, keys.get(other as usize)));
        }
        Ok(Ids { keys, positions, hasher })
    }

    /// The number of ids.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are no ids.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id at `index`.
    ///
    /// # Panics
    /// When `index` is not below `len`.
    pub fn get(&self, index: usize) -> Id<'_> {
        self.keys.get(index)
    }

    /// The index of an integer id; `None` if it is unknown or the ids are strings.
    pub fn find_int(&self, id: i64) -> Option<usize> {
        self.find(Id::Int(id))
    }

    /// The index of a string id; `None` if it is unknown or the ids are integers.
    pub fn find_str(&self, id: &str) -> Option<usize> {
        self.find(Id::Str(id))
    }

    fn find(&self, id: Id<'_>) -> Option<usize> {
        let key = hash(&self.hasher, id);
        self.positions.find(key, |&position| self.keys.get(position as usize) == id).map(|&position| position as usize)
    }

    /// Bytes of memory held.
    pub fn nbytes(&self) -> usize {
        let keys = match &self.keys {
            Keys::Ints(ints) => size_of_val(&ints[..]),
            Keys::Strings { text, offsets } => text.len() + size_of_val(&offsets[..]),
        };
        keys + self.positions.allocation_size()
    }
}

/// Checks that each id, `bytes[offsets[i]..offsets[i + 1]]`, is valid UTF-8 on its own.
fn strings(bytes: Vec<u8>, offsets: Vec<usize>) -> Result<Keys> {
    if offsets.first() != Some(&0) || offsets.last() != Some(&bytes.len()) {
        let (first, last) = (offsets.first(), offsets.last());
        return Err(Error::Argument(format!(
            "offsets must run from 0 to the number of bytes, {}; they run from {first:?} to {last:?}",
            bytes.len()
        )));
    }
    if let Some(at) = offsets.windows(2).position(|pair| pair[0] > pair[1]) {
        return Err(Error::Argument(format!(
            "offsets decrease from {} to {} at id {at}",
            offsets[at],
            offsets[at + 1]
        )));
    }
    let not_utf8 = |position: usize| Error::Argument(format!("the id at {position} is not valid UTF-8"));
    let text = String::from_utf8(bytes).map_err(|error| {
        let first_bad = error.utf8_error().valid_up_to();
        not_utf8(offsets.partition_point(|&offset| offset <= first_bad) - 1)
    })?;
    match offsets.iter().position(|&offset| !text.is_char_boundary(offset)) {
        Some(split) => Err(not_utf8(split - 1)),
        None => Ok(Keys::Strings { text, offsets }),
    }
}

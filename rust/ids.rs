//! External ids: lookup from index to id and from id to index, both in constant time.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use hashbrown::HashTable;

use crate::error::{Error, Result, filled, push, reserve};

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

/// Unique ids, all integers or all strings, each with an index: the `i`-th id of a model has index `i`.
///
/// Ids can be added and removed, which makes another list that shares what the model had. An added id gets the next
/// index; the index of a removed one is given to no other, and is its own again if it comes back.
#[derive(Debug, Clone)]
pub struct Ids {
    /// Those of the model.
    loaded: Arc<Table>,
    /// Those that were added since, whose indices follow.
    added: Table,
    /// One bit for each index, set if its id has been removed; empty if none has.
    removed: Vec<u64>,
    len: usize,
}

/// A list of ids and where each is in it.
///
/// The hash table stores positions only and compares ids through the list. Its hash has a random key, so that crafted
/// ids cannot force collisions.
#[derive(Debug, Clone)]
struct Table {
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
    /// No ids of the same type.
    fn none(&self) -> Keys {
        match self {
            Keys::Ints(_) => Keys::Ints(Vec::new()),
            Keys::Strings { .. } => Keys::Strings { text: String::new(), offsets: vec![0] },
        }
    }

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
        let added = Table { keys: keys.none(), positions: HashTable::new(), hasher: RandomState::new() };
        let loaded = Table::new(keys, check)?;
        Ok(Ids { len: loaded.keys.len(), loaded: Arc::new(loaded), added, removed: Vec::new() })
    }

    /// These ids and more integers, and the indices of the latter.
    ///
    /// # Errors
    /// [`Error::Argument`] for an id that is there already, and if the ids are strings; [`Error::Memory`].
    pub fn with_ints(&self, ints: &[i64]) -> Result<(Self, Vec<u32>)> {
        self.with(ints.iter().map(|&id| Id::Int(id)), ints.len())
    }

    /// These ids and more strings, and the indices of the latter.
    ///
    /// # Errors
    /// [`Error::Argument`] for an id that is there already, and if the ids are integers; [`Error::Memory`].
    pub fn with_strings<S: AsRef<str>>(&self, strings: &[S]) -> Result<(Self, Vec<u32>)> {
        self.with(strings.iter().map(|id| Id::Str(id.as_ref())), strings.len())
    }

    fn with<'i>(&self, ids: impl Iterator<Item = Id<'i>>, count: usize) -> Result<(Self, Vec<u32>)> {
        if u32::try_from(self.bound() + count).is_err() {
            return Err(Error::Argument(format!("{} ids, the limit is {}", self.bound() + count, u32::MAX)));
        }
        let mut all = self.clone();
        let mut indices = reserve("indices of ids", count)?;
        for id in ids {
            let index = match all.find_ever(id) {
                None => {
                    all.added.push(id)?;
                    all.bound() - 1
                }
                Some(index) if !all.has(index) => {
                    all.removed[index / 64] &= !(1 << (index % 64));
                    index
                }
                Some(_) => return Err(Error::Argument(format!("duplicate id {id}"))),
            };
            indices.push(index as u32);
            all.len += 1;
        }
        if !all.removed.is_empty() {
            all.removed.resize(all.bound().div_ceil(64), 0);
        }
        Ok((all, indices))
    }

    /// These ids without those at `indices`, none of which has been removed before.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for an index without an id; [`Error::Memory`].
    pub fn without(&self, indices: &[u32]) -> Result<Self> {
        let mut left = self.clone();
        if left.removed.is_empty() {
            left.removed = filled("removed ids", left.bound().div_ceil(64), 0)?;
        }
        for &index in indices {
            if !left.has(index as usize) {
                return Err(Error::OutOfRange(format!("index {index} has no id")));
            }
            left.removed[index as usize / 64] |= 1 << (index % 64);
            left.len -= 1;
        }
        Ok(left)
    }

    /// The number of ids.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no ids.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every index is below this; more than the number of ids if some have been removed.
    pub fn bound(&self) -> usize {
        self.loaded.keys.len() + self.added.keys.len()
    }

    /// Whether the ids are strings; those of an empty list count as integers.
    pub fn are_strings(&self) -> bool {
        matches!(self.loaded.keys, Keys::Strings { .. }) && self.bound() > 0
    }

    /// Whether there is an id at `index`: it is below the bound, and its id has not been removed.
    pub fn has(&self, index: usize) -> bool {
        index < self.bound() && self.removed.get(index / 64).is_none_or(|word| word >> (index % 64) & 1 == 0)
    }

    /// The id at `index`, or the one that was there before it was removed.
    ///
    /// # Panics
    /// When `index` is not below the bound.
    pub fn get(&self, index: usize) -> Id<'_> {
        match index.checked_sub(self.loaded.keys.len()) {
            None => self.loaded.keys.get(index),
            Some(position) => self.added.keys.get(position),
        }
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
        self.find_ever(id).filter(|&index| self.has(index))
    }

    /// The index of an id, which may have been removed.
    fn find_ever(&self, id: Id<'_>) -> Option<usize> {
        let loaded = self.loaded.find(id);
        if self.added.keys.len() == 0 {
            return loaded;
        }
        loaded.or_else(|| self.added.find(id).map(|position| self.loaded.keys.len() + position))
    }

    /// Bytes of memory held.
    pub fn nbytes(&self) -> usize {
        self.loaded.nbytes() + self.added.nbytes() + size_of_val(&self.removed[..])
    }
}

impl Table {
    fn new(keys: Keys, check: &mut dyn FnMut() -> Result<()>) -> Result<Self> {
        const CHECK_EVERY: usize = 1 << 16;
        let len = keys.len();
        if u32::try_from(len).is_err() {
            return Err(Error::Argument(format!("{len} ids, the limit is {}", u32::MAX)));
        }
        let mut table = Table { keys, positions: HashTable::new(), hasher: RandomState::new() };
        table.reserve(len)?;
        for position in 0..len {
            if position % CHECK_EVERY == CHECK_EVERY - 1 {
                check()?;
            }
            if let Some(first) = table.find(table.keys.get(position)) {
                let id = table.keys.get(position);
                return Err(Error::Argument(format!("duplicate id {id}, at {first} and {position}")));
            }
            table.insert(position);
        }
        Ok(table)
    }

    /// Makes room for `more` positions.
    fn reserve(&mut self, more: usize) -> Result<()> {
        let Table { keys, positions, hasher } = self;
        positions
            .try_reserve(more, |&position| hash(hasher, keys.get(position as usize)))
            .map_err(|_| Error::Memory(format!("lookup table of {} ids: cannot reserve memory", keys.len())))
    }

    /// Adds a position, for which there is room, to the lookup table.
    fn insert(&mut self, position: usize) {
        let Table { keys, positions, hasher } = self;
        let key = hash(hasher, keys.get(position));
        positions.insert_unique(key, position as u32, |&other| hash(hasher, keys.get(other as usize)));
    }

    /// Adds an id at the end.
    ///
    /// # Errors
    /// [`Error::Argument`] for an id of the other type; [`Error::Memory`].
    fn push(&mut self, id: Id<'_>) -> Result<()> {
        match (&mut self.keys, id) {
            (Keys::Ints(ints), Id::Int(id)) => push("ids", ints, id)?,
            (Keys::Strings { text, offsets }, Id::Str(id)) => {
                let reserved = text.try_reserve(id.len()).and_then(|()| offsets.try_reserve(1));
                reserved.map_err(|_| Error::Memory("ids: cannot reserve memory".into()))?;
                text.push_str(id);
                offsets.push(text.len());
            }
            (Keys::Ints(_), Id::Str(_)) => return Err(Error::Argument(format!("expected an integer id, got {id}"))),
            (Keys::Strings { .. }, Id::Int(_)) => {
                return Err(Error::Argument(format!("expected a string id, got {id}")));
            }
        }
        self.reserve(1)?;
        self.insert(self.keys.len() - 1);
        Ok(())
    }

    fn find(&self, id: Id<'_>) -> Option<usize> {
        let key = hash(&self.hasher, id);
        self.positions.find(key, |&position| self.keys.get(position as usize) == id).map(|&position| position as usize)
    }

    fn nbytes(&self) -> usize {
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

//! Which items a query may return: exclusions per row, allowed and denied items.

use crate::csr::Csr;
use crate::error::{Error, Result, filled, reserve};
use crate::indices::{IndexCheck, Indices};

/// A set of items, one bit for each item of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemSet {
    words: Vec<u64>,
    items: usize,
}

impl ItemSet {
    /// The items listed in `indices`, of a catalogue of `items`; `what` names the argument in errors.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for an index that is not below `items`; [`Error::Memory`].
    pub fn from_indices(what: &str, indices: &[u32], items: usize) -> Result<Self> {
        Self::of(what, &IndexCheck { what, noun: "item", bound: items }.all(indices)?)
    }

    /// The items in `indices`, which were checked against the catalogue; `what` names the argument in errors.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn of(what: &str, indices: &Indices<'_>) -> Result<Self> {
        let items = indices.bound();
        let mut set = ItemSet { words: filled(what, items.div_ceil(64), 0)?, items };
        for &item in indices.values() {
            set.words[item as usize / 64] |= 1 << (item % 64);
        }
        Ok(set)
    }

    /// The items whose `mask` is true; `what` names the argument in errors.
    ///
    /// # Errors
    /// [`Error::Argument`] if `mask` does not have exactly `items` values.
    pub fn from_mask(what: &str, mask: &[bool], items: usize) -> Result<Self> {
        if mask.len() != items {
            let got = mask.len();
            return Err(Error::Argument(format!(
                "{what}: expected a boolean mask with one value for each of {items} items, got {got}"
            )));
        }
        let word = |bits: &[bool]| bits.iter().rev().fold(0, |word, &bit| word << 1 | u64::from(bit));
        let mut words = reserve(what, items.div_ceil(64))?;
        words.extend(mask.chunks(64).map(word));
        Ok(ItemSet { words, items })
    }

    /// All items of a catalogue.
    fn all(items: usize) -> Result<Self> {
        let mut words = filled("allow and deny", items.div_ceil(64), u64::MAX)?;
        if let (Some(last), used @ 1..) = (words.last_mut(), items % 64) {
            *last = (1 << used) - 1;
        }
        Ok(ItemSet { words, items })
    }

    /// A copy.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(crate) fn try_clone(&self) -> Result<Self> {
        let mut words = reserve("set of items", self.words.len())?;
        words.extend_from_slice(&self.words);
        Ok(ItemSet { words, items: self.items })
    }

    /// The set for a catalogue that has grown to `items`, without the items in `removed`, which are below `items`. New
    /// items are not in it.
    pub(crate) fn for_catalogue(&self, items: usize, removed: &[u32]) -> Result<Self> {
        let mut words = reserve("set of items", items.div_ceil(64))?;
        words.extend_from_slice(&self.words);
        words.resize(items.div_ceil(64), 0);
        for &item in removed {
            words[item as usize / 64] &= !(1 << (item % 64));
        }
        Ok(ItemSet { words, items })
    }

    /// Replaces each word by `combine(word, word of other)`; `other` is of the same catalogue.
    pub(crate) fn combine(&mut self, other: &ItemSet, combine: fn(u64, u64) -> u64) {
        debug_assert_eq!(self.items, other.items);
        self.words.iter_mut().zip(&other.words).for_each(|(word, &other)| *word = combine(*word, other));
    }

    /// A copy with the items in `add`, and then without those in `remove`.
    ///
    /// # Errors
    /// [`Error::Argument`] if one is of another catalogue; [`Error::Memory`].
    pub fn changed(&self, add: &ItemSet, remove: &ItemSet) -> Result<Self> {
        let expected = self.items;
        if let Some(got) = [add.items, remove.items].into_iter().find(|&items| items != expected) {
            return Err(Error::Argument(format!("items: expected a set of {expected} items, got one of {got}")));
        }
        let mut set = self.try_clone()?;
        set.combine(add, |word, add| word | add);
        set.combine(remove, |word, remove| word & !remove);
        Ok(set)
    }

    /// The number of items in the catalogue, not in the set.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Whether `item` is in the set.
    pub fn contains(&self, item: u32) -> bool {
        self.words[item as usize / 64] >> (item % 64) & 1 == 1
    }

    /// How many items are in the set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Items `16 * group` to `16 * group + 15`, one bit each.
    #[inline]
    pub(crate) fn sixteen(&self, group: usize) -> u16 {
        (self.words[group / 4] >> (16 * (group % 4))) as u16
    }

    /// The items of the set, ascending.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn indices(&self) -> Result<Vec<u32>> {
        let mut indices = reserve("allowed items", self.count())?;
        for (at, &word) in self.words.iter().enumerate() {
            let mut rest = word;
            while rest != 0 {
                indices.push((at * 64) as u32 + rest.trailing_zeros());
                rest &= rest - 1;
            }
        }
        Ok(indices)
    }
}

/// Which items a call may return. A default filter admits every item.
#[derive(Debug, Default, Clone)]
pub struct Filter<'a> {
    /// Items excluded row by row.
    pub exclude: Option<Exclude<'a>>,
    /// Items that may be returned for any row; `None` allows all.
    pub allow: Option<Allow<'a>>,
    /// Items that are returned for no row.
    pub deny: Option<&'a ItemSet>,
    /// The only items that may be returned for row `r`: its candidates.
    pub candidates: Option<&'a Csr>,
}

/// Items that may be returned for any row.
#[derive(Debug, Clone, Copy)]
pub enum Allow<'a> {
    /// Those of a set.
    Set(&'a ItemSet),
    /// Those listed, in any order, repeated or not. Few cost what they are, whatever the size of the catalogue.
    Listed(&'a Indices<'a>),
}

impl Allow<'_> {
    /// The number of items in the catalogue.
    pub(crate) fn items(&self) -> usize {
        match self {
            Allow::Set(set) => set.items(),
            Allow::Listed(listed) => listed.bound(),
        }
    }
}

/// Items excluded row by row.
#[derive(Debug, Clone, Copy)]
pub enum Exclude<'a> {
    /// Row `r` of the call excludes the items of row `r`.
    Rows(&'a Csr),
    /// Each user excludes the items stored for that user.
    Seen(&'a Csr),
}

/// The part of a [`Filter`] that is the same for every row.
#[derive(Debug)]
pub(crate) enum Shared {
    /// Every item.
    All,
    /// Many items: scan the catalogue and mask out the others.
    Most(ItemSet),
    /// Few items: score them one by one.
    Few(Vec<u32>),
}

impl Filter<'_> {
    /// The items that `allow` and `deny` admit; [`Shared::Few`] if they are at most `items / few`.
    pub(crate) fn shared(&self, items: usize, few: usize) -> Result<Shared> {
        let mut allowed = match self.allow {
            None if self.deny.is_none() => return Ok(Shared::All),
            None => ItemSet::all(items)?,
            Some(Allow::Set(set)) => set.try_clone()?,
            Some(Allow::Listed(listed)) if listed.len() <= items / few => return self.few(listed),
            Some(Allow::Listed(listed)) => ItemSet::of("allow", listed)?,
        };
        if let Some(deny) = self.deny {
            allowed.combine(deny, |word, deny| word & !deny);
        }
        Ok(match allowed.count() {
            count if count == items => Shared::All,
            count if count <= items / few => Shared::Few(allowed.indices()?),
            _ => Shared::Most(allowed),
        })
    }

    /// The listed items that are not denied.
    fn few(&self, listed: &Indices<'_>) -> Result<Shared> {
        let mut left = reserve("allowed items", listed.len())?;
        left.extend(listed.values().iter().filter(|&&item| !self.deny.is_some_and(|deny| deny.contains(item))));
        left.sort_unstable();
        left.dedup();
        Ok(Shared::Few(left))
    }
}

/// A cursor over a sorted list of excluded items.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a>(&'a [u32]);

impl<'a> Cursor<'a> {
    /// Starts at the first of `excluded`, which is sorted, that is at least `first`.
    pub(crate) fn new(excluded: &'a [u32], first: u32) -> Self {
        Cursor(&excluded[excluded.partition_point(|&item| item < first)..])
    }

    /// A bit mask of the excluded items among the sixteen from `first` on. `first` must not decrease from call to call.
    #[inline]
    pub(crate) fn sixteen(&mut self, first: u32) -> u16 {
        let mut bits = 0;
        while let [item, rest @ ..] = self.0
            && *item < first + 16
        {
            if *item >= first {
                bits |= 1 << (item - first);
            }
            self.0 = rest;
        }
        bits
    }

    /// Whether `item` is excluded. `item` must not decrease from call to call.
    #[inline]
    pub(crate) fn contains(&mut self, item: u32) -> bool {
        while let [head, rest @ ..] = self.0
            && *head < item
        {
            self.0 = rest;
        }
        self.0.first() == Some(&item)
    }
}

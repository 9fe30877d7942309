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

    /// The items that `indices`, checked against the catalogue, list; `what` names the argument in errors.
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
    /// [`Error::Argument`] when `mask` has not one value for each of the `items`.
    pub fn from_mask(what: &str, mask: &[bool], items: usize) -> Result<Self> {
        if mask.len() != items {
            let got = mask.len();
            return Err(Error::Argument(format!(
                "{what}: a boolean mask has one value for each of {items} items; got {got}"
            )));
        }
        let word = |bits: &[bool]| bits.iter().rev().fold(0, |word, &bit| word << 1 | u64::from(bit));
        let mut words = reserve(what, items.div_ceil(64))?;
        words.extend(mask.chunks(64).map(word));
        Ok(ItemSet { words, items })
    }

    /// The items of a catalogue of `items` that are in `allow`, where there is such a set, and not in `deny`.
    fn left(items: usize, allow: Option<&ItemSet>, deny: Option<&ItemSet>) -> Result<Self> {
        let mut words = filled("allow and deny", items.div_ceil(64), u64::MAX)?;
        if let (Some(last), used @ 1..) = (words.last_mut(), items % 64) {
            *last = (1 << used) - 1;
        }
        if let Some(allow) = allow {
            words.iter_mut().zip(&allow.words).for_each(|(word, allow)| *word &= allow);
        }
        if let Some(deny) = deny {
            words.iter_mut().zip(&deny.words).for_each(|(word, deny)| *word &= !deny);
        }
        Ok(ItemSet { words, items })
    }

    /// Items of the catalogue that it is a set of.
    pub(crate) fn items(&self) -> usize {
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
    fn indices(&self) -> Result<Vec<u32>> {
        let mut indices = reserve("allowed items", self.count())?;
        for (at, &word) in self.words.iter().enumerate() {
            let mut left = word;
            while left != 0 {
                indices.push((at * 64) as u32 + left.trailing_zeros());
                left &= left - 1;
            }
        }
        Ok(indices)
    }
}

/// What a call may return: everything, but for what these take away. A default filter takes nothing away.
#[derive(Debug, Default, Clone)]
pub struct Filter<'a> {
    /// Items that a row must not get.
    pub exclude: Option<Exclude<'a>>,
    /// Items that any row may get; all where `None`.
    pub allow: Option<&'a ItemSet>,
    /// Items that no row may get.
    pub deny: Option<&'a ItemSet>,
    /// Row `r` may get nothing but these.
    pub candidates: Option<&'a Csr>,
}

/// Items excluded row by row.
#[derive(Debug, Clone, Copy)]
pub enum Exclude<'a> {
    /// Row `r` of the call must not get the items of row `r`.
    Rows(&'a Csr),
    /// A user must not get the items stored for that user.
    Seen(&'a Csr),
}

/// The part of a [`Filter`] that is the same for every row.
#[derive(Debug)]
pub(crate) enum Shared {
    /// Every item.
    All,
    /// So many items that the catalogue is scanned and the others are masked out.
    Most(ItemSet),
    /// So few items that they are scored one by one.
    Few(Vec<u32>),
}

impl Filter<'_> {
    /// What `allow` and `deny` leave. At most one item in `few` is few.
    pub(crate) fn shared(&self, items: usize, few: usize) -> Result<Shared> {
        if self.allow.is_none() && self.deny.is_none() {
            return Ok(Shared::All);
        }
        let left = ItemSet::left(items, self.allow, self.deny)?;
        Ok(match left.count() {
            count if count == items => Shared::All,
            count if count <= items / few => Shared::Few(left.indices()?),
            _ => Shared::Most(left),
        })
    }
}

/// Walks along a sorted list of excluded items.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a>(&'a [u32]);

impl<'a> Cursor<'a> {
    /// Before item `first` of `excluded`, which is sorted.
    pub(crate) fn new(excluded: &'a [u32], first: u32) -> Self {
        Cursor(&excluded[excluded.partition_point(|&item| item < first)..])
    }

    /// Which of the sixteen items from `first` on are excluded, one bit each. `first` never falls from call to call.
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

    /// Whether `item` is excluded. `item` never falls from call to call.
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

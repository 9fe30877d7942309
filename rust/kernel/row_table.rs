//! A table of rows, one per item or user.
//!
//! A row is `H0` first-layer features and then `G` GMF features, each padded with zeros to whole cache lines.

use std::sync::Arc;

use super::weights::Network;
use super::{Aligned, LANES, Lanes};
use crate::error::{Result, reserve};

impl Network {
    /// Length of a row, in [`Lanes`].
    pub(crate) fn row_len(&self) -> usize {
        self.gmf_at() + self.g.div_ceil(LANES)
    }

    /// Where the GMF part of a row begins, in [`Lanes`].
    pub(crate) fn gmf_at(&self) -> usize {
        self.h0.div_ceil(LANES)
    }

    /// Splits a row into its first-layer features and its GMF features.
    #[inline(always)]
    pub(crate) fn split_row<'a>(&self, row: &'a [Lanes]) -> (&'a [f32], &'a [f32]) {
        let (first, gmf) = row.split_at(self.gmf_at());
        (&first.as_flattened()[..self.h0], &gmf.as_flattened()[..self.g])
    }
}

/// A table of rows, stored one after the other.
#[derive(Debug)]
pub(crate) struct RowTable {
    lines: Aligned,
    row_len: usize,
}

/// The rows of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    lines: &'a [Lanes],
    row_len: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    pub(super) fn row(self, at: usize) -> &'a [Lanes] {
        &self.lines[at * self.row_len..][..self.row_len]
    }
}

impl RowTable {
    /// `count` rows of `row_len` lines, all zeros.
    ///
    /// # Errors
    /// [`crate::Error::Memory`] naming `what` they were for.
    pub(crate) fn zeros(what: &str, count: usize, row_len: usize) -> Result<Self> {
        Ok(RowTable { lines: Aligned::zeros(what, count.saturating_mul(row_len))?, row_len })
    }

    /// All rows.
    #[inline(always)]
    pub(crate) fn lines(&self) -> &[Lanes] {
        &self.lines
    }

    pub(crate) fn lines_mut(&mut self) -> &mut [Lanes] {
        &mut self.lines
    }

    /// The number of rows.
    pub(crate) fn count(&self) -> usize {
        self.lines.len() / self.row_len
    }

    #[inline(always)]
    pub(crate) fn row(&self, at: usize) -> &[Lanes] {
        self.rows().row(at)
    }

    /// All rows, for access to many.
    #[inline(always)]
    pub(super) fn rows(&self) -> Rows<'_> {
        Rows { lines: &self.lines, row_len: self.row_len }
    }

    /// A copy.
    ///
    /// # Errors
    /// [`crate::Error::Memory`].
    pub(crate) fn try_clone(&self) -> Result<Self> {
        Ok(RowTable { lines: self.lines.try_clone()?, row_len: self.row_len })
    }

    pub(crate) fn nbytes(&self) -> usize {
        self.lines.nbytes()
    }
}

/// Rows of a block of [`ItemRows`].
pub(crate) const BLOCK_ROWS: usize = 16 * LANES;

/// The rows of a catalogue's items: a table, and blocks with the rows of items that have changed since or are new.
/// Tables that one was changed from share the table and all blocks that are alike.
#[derive(Debug)]
pub(crate) struct ItemRows {
    table: Arc<RowTable>,
    /// Where the row of each item is: in the table, or after all of it in the blocks. Empty if nothing has changed.
    places: Vec<u32>,
    blocks: Vec<Arc<RowTable>>,
}

impl ItemRows {
    /// The place of an item that has been removed.
    const REMOVED: u32 = u32::MAX;

    /// The rows of a table.
    pub(crate) fn new(table: RowTable) -> Self {
        ItemRows { table: Arc::new(table), places: Vec::new(), blocks: Vec::new() }
    }

    /// The rows as they were at first.
    pub(crate) fn table(&self) -> &RowTable {
        &self.table
    }

    /// The number of items, those that have been removed included.
    pub(crate) fn count(&self) -> usize {
        if self.places.is_empty() { self.table.count() } else { self.places.len() }
    }

    /// The row of an item, which has not been removed.
    #[inline(always)]
    pub(crate) fn row(&self, item: usize) -> &[Lanes] {
        self.row_of(self.table.rows(), item)
    }

    /// The same, given the rows of the table.
    #[inline(always)]
    pub(super) fn row_of<'a>(&'a self, table: Rows<'a>, item: usize) -> &'a [Lanes] {
        if self.places.is_empty() {
            return table.row(item);
        }
        match (self.places[item] as usize).checked_sub(self.table.count()) {
            None => table.row(item),
            Some(place) => self.blocks[place / BLOCK_ROWS].row(place % BLOCK_ROWS),
        }
    }

    /// The place of an item in the blocks, if it is there.
    pub(crate) fn place_in_blocks(&self, item: usize) -> Option<usize> {
        if self.has(item) { (*self.places.get(item)? as usize).checked_sub(self.table.count()) } else { None }
    }

    /// Whether an item has not been removed.
    #[inline(always)]
    pub(crate) fn has(&self, item: usize) -> bool {
        self.places.get(item) != Some(&Self::REMOVED)
    }

    /// The same rows, for `new` more items, which are removed so far, and with room for `more` items in blocks.
    ///
    /// # Errors
    /// [`crate::Error::Memory`].
    pub(crate) fn extended(&self, new: usize, more: usize) -> Result<Self> {
        let count = self.count();
        let mut places = reserve("places of items", count + new)?;
        match self.places.is_empty() {
            true => places.extend(0..count as u32),
            false => places.extend_from_slice(&self.places),
        }
        places.resize(count + new, Self::REMOVED);
        let mut blocks = reserve("blocks of items", self.blocks.len() + more.div_ceil(BLOCK_ROWS))?;
        blocks.extend(self.blocks.iter().cloned());
        Ok(ItemRows { table: Arc::clone(&self.table), places, blocks })
    }

    /// Puts the row of an item to a place in the blocks, which is in them or the next one after them.
    ///
    /// # Errors
    /// [`crate::Error::Memory`].
    pub(crate) fn put(&mut self, item: usize, place: usize, row: &[Lanes]) -> Result<()> {
        let at = place / BLOCK_ROWS;
        if at == self.blocks.len() {
            self.blocks.push(Arc::new(RowTable::zeros("block of items", BLOCK_ROWS, self.table.row_len)?));
        } else if Arc::get_mut(&mut self.blocks[at]).is_none() {
            self.blocks[at] = Arc::new(self.blocks[at].try_clone()?);
        }
        let block = Arc::get_mut(&mut self.blocks[at]).expect("a block that nobody else has");
        block.lines_mut()[place % BLOCK_ROWS * row.len()..][..row.len()].copy_from_slice(row);
        self.places[item] = (self.table.count() + place) as u32;
        Ok(())
    }

    /// Removes an item.
    pub(crate) fn remove(&mut self, item: usize) {
        self.places[item] = Self::REMOVED;
    }

    /// Bytes of memory held; what others share counts too.
    pub(crate) fn nbytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(|block| block.nbytes()).sum();
        self.table.nbytes() + size_of_val(&self.places[..]) + blocks
    }
}

//! A table of rows, one per item or user.
//!
//! A row is `H0` first-layer features and then `G` GMF features, each padded with zeros to whole cache lines.

use super::weights::Network;
use super::{Aligned, LANES, Lanes};
use crate::error::Result;

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
    pub(super) row_len: usize,
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
        &self.lines[at * self.row_len..][..self.row_len]
    }

    pub(crate) fn nbytes(&self) -> usize {
        self.lines.nbytes()
    }
}

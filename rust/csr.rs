//! Rows of item indices (compressed sparse rows).

use std::ops::Range;

use crate::error::{Error, Result};
use crate::indices::{IndexCheck, Indices};

/// Rows of item indices (compressed sparse rows): row `r` is `indices[indptr[r]..indptr[r + 1]]`, sorted, unique, in
/// range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    indptr: Vec<usize>,
    indices: Vec<u32>,
    columns: usize,
}

impl Csr {
    /// Checks that every index is below `columns`, then does the checks of [`Csr::from_indices`].
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for an index that is not below `columns`; those of [`Csr::from_indices`].
    pub fn new(what: &str, indptr: Vec<usize>, indices: Vec<u32>, columns: usize) -> Result<Self> {
        let check = IndexCheck { what: &format!("{what}.indices"), noun: "item", bound: columns };
        Self::from_indices(what, indptr, check.all(indices)?)
    }

    /// Checks `indptr` (starts at 0, never decreases, ends at `indices.len()`); sorts each row and drops duplicates.
    /// `what` names the argument in errors.
    ///
    /// # Errors
    /// [`Error::Argument`] for a malformed `indptr`.
    pub fn from_indices(what: &str, indptr: Vec<usize>, indices: Indices<'_>) -> Result<Self> {
        let (first, last) = match (indptr.first(), indptr.last()) {
            (Some(&first), Some(&last)) => (first, last),
            _ => return Err(Error::Argument(format!("{what}: indptr is empty, expected rows + 1 values"))),
        };
        if first != 0 || last != indices.len() {
            return Err(Error::Argument(format!(
                "{what}: indptr must run from 0 to the number of indices, {}; got {first} to {last}",
                indices.len()
            )));
        }
        if let Some(row) = indptr.windows(2).position(|pair| pair[0] > pair[1]) {
            let (from, to) = (indptr[row], indptr[row + 1]);
            return Err(Error::Argument(format!("{what}: indptr decreases at row {row}, from {from} to {to}")));
        }
        let columns = indices.bound();
        let mut csr = Csr { indptr, indices: indices.into_values(), columns };
        csr.sort_rows();
        Ok(csr)
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.indptr.len() - 1
    }

    /// The number of columns; every index is below it.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The number of stored indices.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether no index is stored.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The sorted, unique indices of row `row`.
    pub fn row(&self, row: usize) -> &[u32] {
        &self.indices[self.range(row)]
    }

    /// The positions of row `row`'s indices among all.
    pub(crate) fn range(&self, row: usize) -> Range<usize> {
        self.indptr[row]..self.indptr[row + 1]
    }

    /// Bytes of memory held.
    pub fn nbytes(&self) -> usize {
        size_of_val(&self.indptr[..]) + size_of_val(&self.indices[..])
    }

    fn sort_rows(&mut self) {
        let mut kept = 0;
        for row in 0..self.rows() {
            let (start, end) = (self.indptr[row], self.indptr[row + 1]);
            self.indptr[row] = kept;
            let cells = &mut self.indices[start..end];
            if !cells.is_sorted() {
                cells.sort_unstable();
            }
            let mut previous = None;
            for at in start..end {
                let item = self.indices[at];
                if previous != Some(item) {
                    self.indices[kept] = item;
                    kept += 1;
                    previous = Some(item);
                }
            }
        }
        *self.indptr.last_mut().expect("indptr has rows + 1 values") = kept;
        self.indices.truncate(kept);
    }
}

//! Histories: the items that users have, with weights or without.

use crate::csr::Csr;
use crate::error::{Error, Result, reserve};
use crate::indices::Indices;

/// The items that users have, one row for each user.
#[derive(Debug, Clone)]
pub struct Histories {
    rows: Csr,
    /// One for each item, above 0; `None` if all are 1.
    weights: Option<Vec<f32>>,
}

/// The history of one user.
#[derive(Debug, Clone, Copy)]
pub(crate) struct History<'a> {
    /// Ascending, unique.
    pub(crate) items: &'a [u32],
    weights: Option<&'a [f32]>,
}

impl Histories {
    /// Histories in which every item counts alike.
    pub fn new(rows: Csr) -> Self {
        Histories { rows, weights: None }
    }

    /// Histories with a weight for each of `indices`; those of an item that a row repeats are summed. `what` names the
    /// argument of the rows in errors.
    ///
    /// # Errors
    /// As for [`Csr::from_indices`]; [`Error::Argument`] for another number of weights than of indices, and for weights
    /// that are not finite and above 0; [`Error::Memory`].
    pub fn weighted(what: &str, indptr: Vec<usize>, indices: Indices<'_>, weights: &[f32]) -> Result<Self> {
        if weights.len() != indices.len() {
            let (expected, got) = (indices.len(), weights.len());
            return Err(Error::Argument(format!("weights: expected one for each of {expected} items, got {got}")));
        }
        if let Some(at) = weights.iter().position(|&weight| !(weight > 0.0 && weight.is_finite())) {
            let got = weights[at];
            return Err(Error::Argument(format!("weights[{at}]: expected a finite number above 0, got {got}")));
        }
        let mut given = reserve("weights", indices.len())?;
        given.extend(indices.values().iter().copied().zip(weights.iter().copied()));
        let bounds = indptr.clone();
        let rows = Csr::from_indices(what, indptr, indices)?;
        let mut summed: Vec<f32> = reserve("weights", rows.len())?;
        for bounds in bounds.windows(2) {
            // Sorted by weight too, so that a sum does not depend on the order of the items.
            let row = &mut given[bounds[0]..bounds[1]];
            row.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
            summed.extend(
                row.chunk_by(|a, b| a.0 == b.0).map(|same| same.iter().map(|&(_, weight)| weight).sum::<f32>()),
            );
        }
        if let Some(at) = summed.iter().position(|weight| weight.is_infinite()) {
            return Err(Error::Argument(format!("weights: those of an item overflow float32, the {at}-th")));
        }
        Ok(Histories { rows, weights: Some(summed) })
    }

    /// The items.
    pub fn rows(&self) -> &Csr {
        &self.rows
    }

    pub(crate) fn row(&self, row: usize) -> History<'_> {
        let weights = self.weights.as_ref().map(|weights| &weights[self.rows.range(row)]);
        History { items: self.rows.row(row), weights }
    }
}

impl History<'_> {
    /// The part with the items below `bound`.
    pub(crate) fn below(self, bound: usize) -> Self {
        let count = self.items.partition_point(|&item| (item as usize) < bound);
        History { items: &self.items[..count], weights: self.weights.map(|weights| &weights[..count]) }
    }

    /// The sum of the weights; without weights the number of items.
    pub(crate) fn total(&self) -> f64 {
        match self.weights {
            None => self.items.len() as f64,
            Some(weights) => weights.iter().copied().map(f64::from).sum(),
        }
    }

    /// Each item with its weight.
    pub(crate) fn weighted(&self) -> impl ExactSizeIterator<Item = (usize, f64)> {
        let weight = |at: usize| self.weights.map_or(1.0, |weights| weights[at].into());
        self.items.iter().enumerate().map(move |(at, &item)| (item as usize, weight(at)))
    }
}

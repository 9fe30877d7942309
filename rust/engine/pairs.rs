//! Scores pairs from rows, for `score_batch` and for rescoring the survivors of a scan.

use super::{Engine, Users};
use crate::error::Result;
use crate::kernel::few_pairs::{FEW_PAIRS, ScoreFewPairs};
use crate::kernel::gather::{PairUsers, ScorePairList};
use crate::kernel::weights::Scratch;
use crate::pool::Watch;

impl Engine {
    /// Computes the logits of the users of rows `first_row`, `first_row + 1`, ... and `items`.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn score_rows(
        &self,
        users: &Users<'_>,
        first_row: usize,
        items: &[u32],
        logits: &mut [f32],
        watch: &Watch<'_>,
    ) -> Result<()> {
        match users.positions(first_row..first_row + items.len())? {
            None => self.score_candidates(users, first_row, items, logits, watch),
            Some(positions) => self.score_list(PairUsers::Each(users.rows(), &positions), items, logits, watch),
        }
    }

    /// Computes the logits of the user of row `row` and each of `items`.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn score_candidates(
        &self,
        users: &Users<'_>,
        row: usize,
        items: &[u32],
        logits: &mut [f32],
        watch: &Watch<'_>,
    ) -> Result<()> {
        self.score_list(PairUsers::One(users.row(row)), items, logits, watch)
    }

    /// Computes the logits of `items` and their users.
    fn score_list(&self, users: PairUsers<'_>, items: &[u32], logits: &mut [f32], watch: &Watch<'_>) -> Result<()> {
        let (network, item_rows) = (&self.network, &self.catalogue.rows);
        Scratch::lend(network, |scratch| {
            if items.len() <= FEW_PAIRS {
                self.isa.run(ScoreFewPairs { network, users, item_rows, items, logits, scratch });
            } else {
                self.isa.run(ScorePairList { network, users, item_rows, items, logits, watch, scratch });
            }
        })
    }
}

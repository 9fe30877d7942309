//! `score_batch`: the scores of pairs.

use crate::engine::{Engine, Scale, Users};
use crate::error::{Error, Result};
use crate::indices::Indices;
use crate::pool::Call;

/// Pairs that one task scores.
const PAIRS_PER_TASK: usize = 2048;

impl Engine {
    /// The score of row `r`'s user and `items[r]`, for each row.
    ///
    /// # Errors
    /// [`Error::Argument`] when the lengths differ, or for items that were checked against another catalogue; [`Error::Memory`];
    /// [`Error::Interrupted`].
    pub fn score_batch(
        &self,
        users: &Users<'_>,
        items: &Indices<'_>,
        scale: Scale,
        call: Call<'_>,
    ) -> Result<Vec<f32>> {
        if users.len() != items.len() {
            let (users, items) = (users.len(), items.len());
            return Err(Error::Argument(format!("users and items: expected one length, got {users} and {items}")));
        }
        let items = self.items_of(items)?;
        let call = self.sized(call, items.len());
        call.in_chunks("scores", items.len(), PAIRS_PER_TASK, 0.0, |n, scores, watch| {
            let first = n * PAIRS_PER_TASK;
            self.score_rows(users, first, &items[first..][..scores.len()], scores, watch);
            self.rescale(scores, scale);
            Ok(())
        })
    }
}

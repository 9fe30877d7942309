//! `score_batch`: the scores of given pairs of user and item.

use crate::engine::{Engine, Scale, Users};
use crate::error::{Error, Result};
use crate::indices::Indices;
use crate::pool::Call;

/// Pairs per task.
const PAIRS_PER_TASK: usize = 2048;

impl Engine {
    /// For each row `r`, the score of its user and `items[r]`.
    ///
    /// # Errors
    /// [`Error::Argument`] if the lengths differ, or for items that were checked against another catalogue;
    /// [`Error::Memory`]; [`Error::Interrupted`].
    pub fn score_batch(
        &self,
        users: &Users<'_>,
        items: &Indices<'_>,
        scale: Scale,
        call: Call<'_>,
    ) -> Result<Vec<f32>> {
        if users.len() != items.len() {
            let (users, items) = (users.len(), items.len());
            return Err(Error::Argument(format!("users and items: expected equal lengths, got {users} and {items}")));
        }
        let items = self.checked_items(items)?;
        let call = self.limit_threads(call, items.len());
        call.in_chunks("scores", items.len(), PAIRS_PER_TASK, 0.0, |n, scores, watch| {
            let first = n * PAIRS_PER_TASK;
            self.score_rows(users, first, &items[first..][..scores.len()], scores, watch)?;
            self.rescale(scores, scale);
            Ok(())
        })
    }
}

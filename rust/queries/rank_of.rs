//! `rank_of`: how many other items score at least as high as a given one.

use crate::engine::{Engine, Scale, Users};
use crate::error::Result;
use crate::filter::Filter;
use crate::indices::Indices;
use crate::pool::Call;
use crate::scan::{Collector, Query};

impl Engine {
    /// For each row, how many other items that the filter leaves score at least as high as `items[row]`: ties count against it.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) when lengths differ, and as for [`Engine::top_k`].
    pub fn rank_of(
        &self,
        users: &Users<'_>,
        items: &Indices<'_>,
        filter: &Filter<'_>,
        call: Call<'_>,
    ) -> Result<Vec<i64>> {
        let query = Query::new(self, users, filter)?;
        let logits = self.score_batch(users, items, Scale::Logit, call)?;
        let plan = query.plan(call, 1);
        let counts = plan.call.in_chunks("rank counts", plan.outputs(), plan.block, 0i64, |task, counts, watch| {
            let (rows, part) = plan.task(task);
            let mut rivals: Vec<Rivals> =
                rows.clone().map(|row| Rivals { item: items.values()[row], logit: logits[row], count: 0 }).collect();
            query.visit(rows, part, &mut rivals, watch)?;
            counts.iter_mut().zip(rivals).for_each(|(count, rivals)| *count = rivals.count);
            Ok(())
        })?;
        Ok((0..users.len()).map(|row| plan.outputs_of(row).map(|at| counts[at]).sum()).collect())
    }
}

/// Counts the other items that score at least `logit`.
struct Rivals {
    item: u32,
    logit: f32,
    count: i64,
}

impl Collector for Rivals {
    fn threshold(&self) -> f32 {
        self.logit
    }

    fn certain(&self) -> f32 {
        self.logit
    }

    fn wanted(&self) -> Option<usize> {
        None
    }

    fn tighten(&mut self) {}

    #[inline]
    fn collect(&mut self, item: u32, _logit: f32) {
        self.count += i64::from(item != self.item);
    }
}

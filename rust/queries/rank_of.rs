//! `rank_of`: how many other items score at least as high as a given one.

use crate::engine::{Engine, Scale, Users};
use crate::error::{Result, reserve};
use crate::filter::Filter;
use crate::indices::Indices;
use crate::pool::Call;
use crate::scan::{Collector, Query};

impl Engine {
    /// For each row, the number of other items that the filter admits and that score at least as high as `items[row]`:
    /// ties count against it.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) if the lengths differ, and as for [`Engine::top_k`].
    pub fn rank_of(
        &self,
        users: &Users<'_>,
        items: &Indices<'_>,
        filter: &Filter<'_>,
        call: Call<'_>,
    ) -> Result<Vec<i64>> {
        let query = Query::new(self, users, filter)?;
        let logits = self.score_batch(users, items, Scale::Logit, call)?;
        query.count_rivals(call, |row| RankCounter::new(items.values()[row], logits[row]))
    }
}

impl Query<'_> {
    /// For each row, the number of items that its `counter` counts.
    pub(super) fn count_rivals(
        &self,
        call: Call<'_>,
        counter: impl Fn(usize) -> RankCounter + Sync,
    ) -> Result<Vec<i64>> {
        let plan = self.plan(call, 1);
        let counts = plan.call.in_chunks("rank counts", plan.outputs(), plan.block, 0i64, |task, counts, watch| {
            let (rows, part) = plan.task(task);
            let mut counters = reserve("rank counters", rows.len())?;
            counters.extend(rows.clone().map(&counter));
            self.visit(rows, part, &mut counters, watch)?;
            counts.iter_mut().zip(counters).for_each(|(count, counter)| *count = counter.count);
            Ok(())
        })?;
        let mut ranks = reserve("ranks", self.users.len())?;
        ranks.extend((0..self.users.len()).map(|row| plan.outputs_of(row).map(|at| counts[at]).sum::<i64>()));
        Ok(ranks)
    }
}

/// Counts the other items that score at least `logit`.
pub(super) struct RankCounter {
    item: u32,
    logit: f32,
    count: i64,
}

impl RankCounter {
    pub(super) fn new(item: u32, logit: f32) -> Self {
        RankCounter { item, logit, count: 0 }
    }
}

impl Collector for RankCounter {
    fn threshold(&self) -> f32 {
        self.logit
    }

    fn certain(&self) -> f32 {
        self.logit
    }

    fn wanted(&self) -> Option<usize> {
        None
    }

    fn prove(&mut self, _logit: f32) {}

    fn tighten(&mut self) {}

    #[inline]
    fn collect(&mut self, item: u32, _logit: f32) {
        self.count += i64::from(item != self.item);
    }
}

//! `top_k`: the best items that a filter admits, in THE order.

use crate::engine::{Engine, Scale, Users};
use crate::error::{Error, Result, reserve};
use crate::filter::Filter;
use crate::memory;
use crate::order::{Key, Selection, SharedThreshold, TopK, reaches};
use crate::pool::Call;
use crate::scan::{Collector, Query};

/// The cost of pushing a key to a selection and writing it out, in multiply-adds.
const WORK_PER_KEY: usize = 64;

impl Engine {
    /// The `k` best items for each row, score descending, then item index ascending.
    ///
    /// # Errors
    /// [`Error::Argument`] if `k` is zero, if the filter's rows do not match the users or its columns the items, and
    /// for `Exclude::Seen` with users that are not in the model; [`Error::Memory`]; [`Error::Interrupted`].
    pub fn top_k(
        &self,
        users: &Users<'_>,
        k: usize,
        filter: &Filter<'_>,
        scale: Scale,
        call: Call<'_>,
    ) -> Result<TopK> {
        if k == 0 {
            return Err(Error::Argument("k: expected at least 1, got 0".into()));
        }
        let query = Query::new(self, users, filter)?;
        let cells = users.len().saturating_mul(k);
        let bytes = (cells as u64).saturating_mul((size_of::<i64>() + size_of::<f32>()) as u64);
        memory::check("top-k result", bytes, None)?;
        let mut ids = call.filled("top-k ids", cells, -1i64)?;
        let mut scores = call.filled("top-k scores", cells, f32::NEG_INFINITY)?;
        let kept = k.min(query.max_items()).max(1);
        let plan = query.plan(call, kept);
        let mut thresholds = reserve("top-k thresholds", users.len())?;
        thresholds.extend((0..users.len()).map(|_| SharedThreshold::new()));
        let mut keys = call.filled("top-k candidates", plan.outputs().saturating_mul(kept), Key::NONE)?;
        plan.call.for_each_chunk(&mut keys, plan.block * kept, |task, keys, watch| {
            let (rows, part) = plan.task(task);
            let max_keys = part.len() * query.width;
            let mut best = reserve("top-k selections", rows.len())?;
            for shared in &thresholds[rows.clone()] {
                best.push(BestOfPart { best: Selection::new(kept, max_keys)?, shared });
            }
            query.visit(rows, part, &mut best, watch)?;
            for (keys, BestOfPart { best, .. }) in keys.chunks_exact_mut(kept).zip(&mut best) {
                let best = best.finish();
                keys.fill(Key::NONE);
                keys[..best.len()].copy_from_slice(best);
            }
            Ok(())
        })?;
        call.one_by_one(users.len(), |row, watch| {
            let mut best = Selection::new(kept, plan.parts * kept)?;
            for at in plan.outputs_of(row) {
                keys[at * kept..][..kept].iter().take_while(|&&key| key != Key::NONE).for_each(|&key| best.push(key));
            }
            let best = best.finish();
            let (ids, scores) = (&mut ids[row * k..][..best.len()], &mut scores[row * k..][..best.len()]);
            for ((id, score), key) in ids.iter_mut().zip(&mut *scores).zip(best) {
                (*id, *score) = (key.item().into(), key.score());
            }
            self.rescale(scores, scale);
            watch.stopped(plan.parts * kept * WORK_PER_KEY);
            Ok(())
        })?;
        Ok(TopK { ids, scores, k })
    }
}

/// The best items of a part of the catalogue: those that may be among the best of all parts.
struct BestOfPart<'a> {
    best: Selection,
    /// The highest threshold of any part: an item below it is not among the best of all.
    shared: &'a SharedThreshold,
}

impl Collector for BestOfPart<'_> {
    fn threshold(&self) -> f32 {
        let (own, shared) = (self.best.threshold(), self.shared.get());
        if reaches(own, shared) { own } else { shared }
    }

    fn certain(&self) -> f32 {
        f32::INFINITY
    }

    fn wanted(&self) -> Option<usize> {
        Some(self.best.k())
    }

    fn prove(&mut self, logit: f32) {
        self.shared.raise(logit);
    }

    fn tighten(&mut self) {
        self.best.tighten();
        self.shared.raise(self.best.threshold());
    }

    #[inline]
    fn collect(&mut self, item: u32, logit: f32) {
        self.best.push(Key::new(logit, item));
    }
}

//! `Index::top_k`: the best items that the search finds among those that a filter admits, in THE order.

use super::build::Index;
use super::calibrate::RECALLS;
use super::probes::Probes;
use super::search::{Best, Until, search};
use crate::engine::catalogue::Tiles;
use crate::engine::{Engine, Scale, Users};
use crate::error::{Error, Result};
use crate::filter::{Filter, Shared};
use crate::memory;
use crate::order::TopK;
use crate::pool::Call;
use crate::scan::Query;

/// How much work an approximate search does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Effort {
    /// As much as was calibrated for this recall, above 0 and at most 0.999.
    Recall(f64),
    /// This many lists for each user, at least 1; more only until `k` items are found.
    Probes(usize),
}

impl Index {
    /// About the `k` best items for each row, score descending, then item index ascending; their scores are exact. A
    /// row has fewer than `k` only if the filter admits no more.
    ///
    /// Where the filter admits so few items that scoring them one by one is cheaper, the result is exact.
    ///
    /// # Errors
    /// As for [`Engine::top_k`]; [`Error::Argument`] for an effort outside its range, and for an engine of another
    /// number of items.
    #[expect(clippy::too_many_arguments, reason = "those of Engine::top_k, and the effort")]
    pub fn top_k(
        &self,
        engine: &Engine,
        users: &Users<'_>,
        k: usize,
        filter: &Filter<'_>,
        effort: Effort,
        scale: Scale,
        call: Call<'_>,
    ) -> Result<TopK> {
        self.check(engine)?;
        if k == 0 {
            return Err(Error::Argument("k: expected at least 1, got 0".into()));
        }
        let query = Query::new(engine, users, filter)?;
        let until = self.until(effort, k, &query)?;
        let cells = users.len().saturating_mul(k);
        let bytes = (cells as u64).saturating_mul((size_of::<i64>() + size_of::<f32>()) as u64);
        memory::check("top-k result", bytes, None)?;
        let mut ids = call.filled("top-k ids", cells, -1i64)?;
        let kept = k.min(query.max_items()).max(1);
        let pairs = (users.len() as f64 * self.expected_items(kept, until)) as usize;
        let call_of_work = engine.limit_threads(call, pairs);
        let block = users.len().div_ceil(8 * call_of_work.threads).clamp(1, ROWS_PER_TASK);
        let none = (-1i64, f32::NEG_INFINITY);
        let mut found = call.filled("top-k candidates", users.len().saturating_mul(kept), none)?;
        call_of_work.for_each_chunk(&mut found, block * kept, |n, found, watch| {
            let mut probes = Probes::new(&self.lists)?;
            for (row, found) in (n * block..).zip(found.chunks_exact_mut(kept)) {
                let mut best = Best::new(kept, query.max_items())?;
                match until {
                    Some(until) => {
                        search(&query, row, &self.lists, until, &mut probes, &mut best, watch)?;
                    }
                    None => query.visit(row..row + 1, 0..query.len, std::slice::from_mut(&mut best), watch)?,
                }
                found.fill(none);
                for (found, key) in found.iter_mut().zip(best.finish()) {
                    *found = (key.item().into(), key.score());
                }
            }
            Ok(())
        })?;
        let mut scores = call.filled("top-k scores", cells, f32::NEG_INFINITY)?;
        call.one_by_one(users.len(), |row, watch| {
            let found = &found[row * kept..][..kept];
            let real = found.iter().take_while(|(id, _)| *id >= 0).count();
            let (ids, scores) = (&mut ids[row * k..][..real], &mut scores[row * k..][..real]);
            for ((id, score), found) in ids.iter_mut().zip(&mut *scores).zip(found) {
                (*id, *score) = *found;
            }
            engine.rescale(scores, scale);
            watch.stopped(kept * WORK_PER_KEY);
            Ok(())
        })?;
        Ok(TopK { ids, scores, k })
    }

    /// When a search ends; `None` if scoring the admitted items one by one is cheaper.
    fn until(&self, effort: Effort, k: usize, query: &Query<'_>) -> Result<Option<Until>> {
        let until = match effort {
            Effort::Recall(recall) => Until::Margin(self.margin(recall, k)?),
            Effort::Probes(0) => return Err(Error::Argument("probes: expected at least 1, got 0".into())),
            Effort::Probes(probes) => Until::Probes(probes),
        };
        let admitted = match (&query.shared, query.filter.candidates) {
            (_, Some(_)) => return Ok(None),
            (Shared::Few(items), None) => items.len(),
            _ => return Ok(Some(until)),
        };
        // As far as the filter is independent of the scores, finding k admitted items is like finding this many.
        let wanted = k.saturating_mul(query.engine.num_items()) / admitted.max(1);
        let (scanned, scored) = costs(query.engine);
        let of_index = self.expected_items(wanted, Some(until)) * scanned;
        Ok((admitted as f64 * scored > of_index).then_some(until))
    }

    /// The margin calibrated for a recall and a `k`.
    fn margin(&self, recall: f64, k: usize) -> Result<f64> {
        let highest = RECALLS[RECALLS.len() - 1];
        if !(recall > 0.0 && recall <= highest) {
            let text = format!(
                "recall: expected more than 0 and at most {highest}, got {recall}; a higher one takes the exact search"
            );
            return Err(Error::Argument(text));
        }
        let enough = |k: usize| self.levels.iter().filter(move |level| level.k == k && level.recall >= recall);
        let ks = self.levels.iter().map(|level| level.k);
        let (below, above) = (ks.clone().filter(|&of| of <= k).max(), ks.filter(|&of| of >= k).min());
        let margins = [below, above].into_iter().flatten().filter_map(|k| enough(k).map(|level| level.margin).next());
        Ok(margins.fold(f64::NEG_INFINITY, f64::max))
    }

    /// The number of items that a search for `k` is expected to score, including those that stand for lists.
    fn expected_items(&self, k: usize, until: Option<Until>) -> f64 {
        let all = self.lists.count() as f64 + self.num_items() as f64;
        let per_list = self.num_items() as f64 / self.lists.count() as f64;
        let visited = match until {
            None => return k as f64,
            Some(Until::Probes(probes)) => probes as f64 * per_list,
            Some(Until::Margin(margin)) => {
                let near = self.levels.iter().filter(|level| level.margin >= margin);
                let of = near.min_by_key(|level| level.k.abs_diff(k));
                // The items visited grow about as k does, beyond what was calibrated.
                of.map_or(all, |level| level.items * (k as f64 / level.k as f64).max(1.0))
            }
        };
        (self.lists.count() as f64 + visited).min(all)
    }
}

/// The costs of scanning an item and of scoring one from its row, in multiply-adds.
fn costs(engine: &Engine) -> (f64, f64) {
    const PER_FEATURE: usize = 24; // read from a row and transposed into lanes
    let scored = engine.multiply_adds() + PER_FEATURE * engine.network.tile_len();
    let scanned = match &*engine.catalogue.tiles {
        Tiles::Float32(_) | Tiles::Quantized(_) => engine.multiply_adds(),
        Tiles::Dots(_) => engine.multiply_adds() / 2,
    };
    (scanned as f64, scored as f64)
}

/// Rows of a task, which share buffers.
const ROWS_PER_TASK: usize = 16;

/// The cost of writing out a key, in multiply-adds.
const WORK_PER_KEY: usize = 64;

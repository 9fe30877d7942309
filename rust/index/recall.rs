//! The recall of an index as its engine is now: the changes of items since the building can make it another one than
//! that which was calibrated, and each search dearer.

use super::build::Index;
use super::calibrate::{IndexLevel, RECALLS};
use super::top_k::Effort;
use crate::engine::{Engine, Scale, Users};
use crate::error::{Error, Result, collected};
use crate::filter::Filter;
use crate::order::TopK;
use crate::pool::Call;

/// What searches find of the exact lists.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeasuredRecall {
    /// The share of the exact lists that is found, in the mean over users.
    pub mean: f64,
    /// The standard error of the mean.
    pub error: f64,
    /// The number of users.
    pub users: usize,
    /// What was calibrated for such searches: of the next higher recall, and of the nearest `k`.
    pub calibrated: IndexLevel,
    /// The items that each search scores beside those in its lists: all that are new or have changed.
    pub unlisted: usize,
}

impl Index {
    /// Measures the recall of the `k` best items, without filters, for `users`.
    ///
    /// # Errors
    /// As for [`Index::top_k`]; [`Error::Argument`] for no users.
    pub fn measure(
        &self,
        engine: &Engine,
        users: &Users<'_>,
        k: usize,
        recall: f64,
        call: Call<'_>,
    ) -> Result<MeasuredRecall> {
        if users.is_empty() {
            return Err(Error::Argument("users: expected at least one, got none".into()));
        }
        let (filter, scale) = (Filter::default(), Scale::Logit);
        let found = self.top_k(engine, users, k, &filter, Effort::Recall(recall), scale, call)?;
        let exact = engine.top_k(users, k, &filter, scale, call)?;
        let (mut sum, mut squares) = (0.0, 0.0);
        for row in 0..users.len() {
            let share = share(&exact, &found, row)?;
            sum += share;
            squares += share * share;
        }
        let count = users.len() as f64;
        let mean = sum / count;
        Ok(MeasuredRecall {
            mean,
            error: ((squares / count - mean * mean).max(0.0) / count).sqrt(),
            users: users.len(),
            calibrated: self.level(k, recall),
            unlisted: engine.catalogue.changes.as_ref().map_or(0, |changes| changes.items()),
        })
    }

    /// The level of the next higher recall and the nearest `k`.
    fn level(&self, k: usize, recall: f64) -> IndexLevel {
        let enough = |level: &&IndexLevel| level.recall >= recall.min(RECALLS[RECALLS.len() - 1]);
        let nearest = self.levels.iter().filter(enough).min_by_key(|level| level.k.abs_diff(k));
        *nearest.expect("every recall is calibrated for some k")
    }
}

/// The share of a row's exact items that were found; 1 if there are none.
fn share(exact: &TopK, found: &TopK, row: usize) -> Result<f64> {
    let of = |top: &TopK| {
        let ids = &top.ids[row * top.k..][..top.k];
        let mut ids = collected("recall", ids.iter().copied())?;
        ids.retain(|&id| id >= 0);
        ids.sort_unstable();
        Ok::<_, Error>(ids)
    };
    let (exact, found) = (of(exact)?, of(found)?);
    let same = exact.iter().filter(|id| found.binary_search(id).is_ok()).count();
    Ok(if exact.is_empty() { 1.0 } else { same as f64 / exact.len() as f64 })
}

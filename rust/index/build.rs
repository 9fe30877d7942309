//! Builds an index.

use std::ops::Range;

use super::calibrate::{IndexLevel, calibrate, calibration_users};
use super::cluster::cluster;
use super::lists::{Lifts, Lists};
use super::metric::Metric;
use super::progress::Progress;
use crate::engine::Engine;
use crate::error::{Error, Result, collected};
use crate::pool::Call;
use crate::random::Permutation;

/// An index of the items of an engine, for approximate search. Immutable: any number of threads may query it.
#[derive(Debug)]
pub struct Index {
    pub(super) lists: Lists,
    /// By `k`, then by recall.
    pub(super) levels: Vec<IndexLevel>,
    pub(super) num_items: usize,
    /// How it was built, with the number of lists that was asked for or chosen.
    pub(super) options: IndexOptions,
}

/// How an index is built.
#[derive(Debug, Clone, Copy, Default)]
pub struct IndexOptions {
    /// The number of lists; `None` chooses it by the number of items. Lists without items are left out.
    pub lists: Option<usize>,
    /// Chooses the samples of items and of users.
    pub seed: u64,
}

/// Lists for each root of the number of items: visiting a list costs about as much as scoring the centroids of as many
/// lists as it has items.
const LISTS_PER_ROOT: f64 = 4.0;

/// The share of the building that clustering takes, roughly.
const CLUSTERING: f64 = 0.7;

impl Index {
    /// Clusters the items of `engine`, and calibrates the search on users that have no part in the clustering, if the
    /// model has enough users. Reports the share that is done to `progress`, whose error ends the building.
    ///
    /// The index depends on the model and the options alone, not on the number of threads or the instruction set.
    ///
    /// # Errors
    /// [`Error::Argument`] for a number of lists that is not from 1 to the number of items; [`Error::Memory`];
    /// [`Error::Interrupted`]; the error of `progress`.
    pub fn build(
        engine: &Engine,
        options: &IndexOptions,
        progress: &mut dyn FnMut(f64) -> Result<()>,
        call: Call<'_>,
    ) -> Result<Index> {
        if engine.catalogue.changes.is_some() {
            let text = "index: expected an engine whose items are as they were at load; changes can follow, and the index stays";
            return Err(Error::Argument(text.into()));
        }
        let items = engine.num_items();
        let lists = options.lists.unwrap_or_else(|| default_lists(items));
        if !(1..=items).contains(&lists) {
            return Err(Error::Argument(format!("lists: expected 1 to {items}, the number of items; got {lists}")));
        }
        let (for_metric, for_calibration) = samples(engine, options.seed)?;
        let metric = Metric::new(engine, &for_metric, options.seed, call)?;
        let mut steps = Progress::new(progress, 0.0..CLUSTERING);
        let list_of = cluster(&metric, engine.isa, items, lists, options.seed, &mut steps, call)?;
        let options = IndexOptions { lists: Some(lists), seed: options.seed };
        let lists = Lists::new(engine, &list_of, lists, Lifts::Among(&for_metric), None, call)?;
        let mut steps = Progress::new(progress, CLUSTERING..1.0);
        let levels = calibrate(engine, &lists, &for_calibration, &mut steps, call)?;
        Ok(Index { lists, levels, num_items: items, options })
    }

    pub(super) fn num_items(&self) -> usize {
        self.num_items
    }

    /// The users of `engine` of whom the lists were made, and those of the calibration. All others are fresh: they had
    /// no part in the index.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn users(&self, engine: &Engine) -> Result<(Vec<u32>, Vec<u32>)> {
        samples(engine, self.options.seed)
    }

    /// The number of lists.
    pub fn lists(&self) -> usize {
        self.lists.count()
    }

    /// What was calibrated: for several `k` and recalls, how far a search goes and what it was measured to find.
    pub fn levels(&self) -> &[IndexLevel] {
        &self.levels
    }

    /// Bytes of memory held.
    pub fn nbytes(&self) -> usize {
        self.lists.nbytes() + size_of_val(&self.levels[..])
    }

    /// Rejects an engine that this is not an index of.
    pub(super) fn check(&self, engine: &Engine) -> Result<()> {
        let (expected, got) = (engine.catalogue.rows.table().count(), self.num_items);
        match got == expected {
            true => Ok(()),
            false => Err(Error::Argument(format!("index: expected one of {expected} items, got one of {got}"))),
        }
    }
}

/// Users of the larger sample.
const METRIC_USERS: usize = 4096;

/// The users of whom the lists are made, and those of the calibration, without a user in common; a single user is in
/// both.
fn samples(engine: &Engine, seed: u64) -> Result<(Vec<u32>, Vec<u32>)> {
    let users = engine.num_users();
    let order = Permutation::new(users, seed);
    let sample = |positions: Range<usize>| collected("sample of users", positions.map(|n| order.at(n) as u32));
    let first = (users / 2).min(METRIC_USERS);
    let rest = (users - first).min(calibration_users(engine));
    Ok((sample(0..first.max(1))?, sample(first..first + rest)?))
}

fn default_lists(items: usize) -> usize {
    ((items as f64).sqrt() * LISTS_PER_ROOT).round().clamp(1.0, (items as f64 / 16.0).max(1.0)) as usize
}

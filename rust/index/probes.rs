//! The lists in the order in which a user's search visits them: by the scores that are expected of their best items,
//! descending: their centroids' scores and their lifts (`lift.rs`).

use super::lists::Lists;
use crate::error::{Result, reserve};
use crate::kernel::LANES;
use crate::kernel::scan::Scan;
use crate::kernel::survivors::Survivors;
use crate::kernel::weights::Scratch;
use crate::order::Key;
use crate::scan::Query;

/// Lists that are put into order at a time, at first; each time four times as many.
const FIRST_SORTED: usize = 64;

/// Buffers for the lists of one user after the other.
pub(super) struct Probes {
    survivors: [Survivors; 1],
    scores: Vec<f32>,
    /// The keys of the lists, those of the first `sorted` in order and before all others.
    keys: Vec<Key>,
    sorted: usize,
    /// The standard deviation of the scores.
    deviation: f64,
}

impl Probes {
    /// For the lists of an index.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(super) fn new(lists: &Lists) -> Result<Self> {
        let survivors = [Survivors::new(lists.count().div_ceil(LANES))?];
        let (scores, keys) = (reserve("lists", lists.count())?, reserve("lists", lists.count())?);
        Ok(Probes { survivors, scores, keys, sorted: 0, deviation: 0.0 })
    }

    /// Scores the lists for row `row`.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(super) fn score(&mut self, query: &Query<'_>, row: usize, lists: &Lists) -> Result<()> {
        let engine = query.engine;
        let users = [engine.network.split_row(query.users.row(row))];
        self.survivors[0].reset(f32::NEG_INFINITY);
        Scratch::lend(&engine.network, |scratch| {
            let scan = Scan {
                network: &engine.network,
                tiles: lists.centroids(),
                ahead: &[],
                users: &users,
                scratch,
                survivors: &mut self.survivors,
            };
            scan.run(engine.isa);
        })?;
        self.scores.clear();
        let logits = self.survivors[0].found().iter().flat_map(|tile| tile.logits); // every tile is recorded
        self.scores.extend(logits.zip(lists.lifts()).map(|(logit, lift)| logit + lift));
        self.keys.clear();
        self.keys.extend(self.scores.iter().zip(0..).map(|(&score, list)| Key::new(score, list)));
        self.sorted = 0;
        self.deviation = deviation(&self.scores);
        Ok(())
    }

    /// The list at position `at` of the order; `None` after the last.
    #[inline]
    pub(super) fn get(&mut self, at: usize) -> Option<Key> {
        if at >= self.sorted {
            self.sort_beyond(at);
        }
        self.keys.get(at).copied()
    }

    fn sort_beyond(&mut self, at: usize) {
        while self.sorted <= at && self.sorted < self.keys.len() {
            let rest = &mut self.keys[self.sorted..];
            let count = rest.len().min((4 * self.sorted).max(FIRST_SORTED));
            if count < rest.len() {
                rest.select_nth_unstable(count);
            }
            rest[..count].sort_unstable();
            self.sorted += count;
        }
    }

    /// The standard deviation of the lists' scores: a user's own unit for differences between logits.
    pub(super) fn deviation(&self) -> f64 {
        self.deviation
    }

    /// The score of a list.
    pub(super) fn score_of(&self, list: u32) -> f32 {
        self.scores[list as usize]
    }
}

/// The standard deviation of scores. Sums are kept for each lane, which is fast and has the same bits everywhere.
fn deviation(scores: &[f32]) -> f64 {
    let (mut sums, mut squares) = ([0.0f64; LANES], [0.0f64; LANES]);
    for scores in scores.chunks(LANES) {
        for (lane, &score) in scores.iter().enumerate() {
            let x = f64::from(score);
            sums[lane] += x;
            squares[lane] += x * x;
        }
    }
    let count = scores.len() as f64;
    let mean = sums.iter().sum::<f64>() / count;
    (squares.iter().sum::<f64>() / count - mean * mean).max(0.0).sqrt()
}

//! Finds how far a search must go for a recall, on users that had no part in the clustering.
//!
//! An item is found if its list is visited, and so, up to the order of visits, if the score of its list (`probes.rs`)
//! is within the margin of the `k`-th best logit. So each of a user's `k` best items needs a margin of its own, which
//! the exact search tells, and the margin for a recall is the quantile of these: the least one with which the mean
//! recall, less its standard error, reaches it.

use super::lists::Lists;
use super::probes::Probes;
use super::progress::Progress;
use super::search::{Best, Until, Visited, search};
use crate::engine::Engine;
use crate::error::{Result, collected, reserve};
use crate::filter::Filter;
use crate::order::Key;
use crate::pool::Call;
use crate::scan::Query;

/// A calibrated recall of the `k` best items.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IndexLevel {
    /// The number of items asked for.
    pub k: usize,
    /// The recall that was asked for: the share of the exact `k` best items that is found.
    pub recall: f64,
    /// How far below the `k`-th best logit a list's score may be, in standard deviations of a user's list scores;
    /// negative if it must be above.
    pub margin: f64,
    /// The recall measured on the users of the calibration.
    pub measured: f64,
    /// The lists that a search visits, and the items in them, in the mean.
    pub lists: f64,
    /// See `lists`.
    pub items: f64,
}

/// The recalls and the `k` that are calibrated; of the latter those that are few beside the number of items.
pub(super) const RECALLS: [f64; 4] = [0.9, 0.95, 0.99, 0.999];
pub(super) const KS: [usize; 4] = [1, 10, 100, 1000];
const MIN_ITEMS_PER_WANTED: usize = 16;

/// Users of a calibration: as many as this many multiply-adds of exact search allow, within these limits.
const WORK: usize = 1 << 40;
const MIN_USERS: usize = 128;
const MAX_USERS: usize = 1024;

/// Users between two reports of progress.
const USERS_PER_STEP: usize = 64;

/// The most users that a calibration takes.
pub(super) fn calibration_users(engine: &Engine) -> usize {
    let affordable = WORK / engine.num_items().saturating_mul(engine.multiply_adds());
    affordable.clamp(MIN_USERS, MAX_USERS)
}

/// Calibrates the search on `users`.
///
/// # Errors
/// [`Error::Memory`](crate::Error::Memory); [`Error::Interrupted`](crate::Error::Interrupted).
pub(super) fn calibrate(
    engine: &Engine,
    lists: &Lists,
    users: &[u32],
    progress: &mut Progress<'_>,
    call: Call<'_>,
) -> Result<Vec<IndexLevel>> {
    let items = engine.num_items();
    let ks: Vec<usize> = KS.into_iter().filter(|k| *k == 1 || k * MIN_ITEMS_PER_WANTED <= items).collect();
    let kept = ks[ks.len() - 1];
    let list_of = lists.list_of(items)?;
    let filter = Filter::default();
    let all_users = engine.users(users)?;
    let query = Query::new(engine, &all_users, &filter)?;

    // For each user the exact best items, and the margin by which each item's list misses a logit of 0.
    let mut exact: Vec<Needed> = reserve("calibration", users.len() * kept)?;
    let blank = Needed { key: Key::NONE, list_score: 0.0, deviation: 0.0 };
    for first in (0..users.len()).step_by(USERS_PER_STEP) {
        let step = USERS_PER_STEP.min(users.len() - first);
        call.extend_in_chunks(&mut exact, step * kept, kept, blank, |n, needed, watch| {
            let mut probes = Probes::new(lists)?;
            let mut best = Best::new(kept, items)?;
            search(&query, first + n, lists, Until::Probes(lists.count()), &mut probes, &mut best, watch)?;
            for (needed, &key) in needed.iter_mut().zip(best.finish()) {
                let list_score = probes.score_of(list_of[key.item() as usize]);
                *needed = Needed { key, list_score, deviation: probes.deviation() };
            }
            Ok(())
        })?;
        progress.at(0.5 * (first + step) as f64 / users.len() as f64)?;
    }

    let mut levels = reserve("calibration", ks.len() * RECALLS.len())?;
    for &k in &ks {
        for recall in RECALLS {
            let margin = margin(&exact, kept, k, recall)?;
            let found = call.in_chunks("calibration", users.len(), 1, (0, Visited::default()), |n, found, watch| {
                let mut probes = Probes::new(lists)?;
                let mut best = Best::new(k, items)?;
                let visited = search(&query, n, lists, Until::Margin(margin), &mut probes, &mut best, watch)?;
                let expected = &exact[n * kept..][..k];
                let same = best.finish().iter().filter(|key| expected.iter().any(|needed| needed.key == **key)).count();
                found[0] = (same, visited);
                Ok(())
            })?;
            let mean = |sum: usize| sum as f64 / users.len() as f64;
            levels.push(IndexLevel {
                k,
                recall,
                margin,
                measured: mean(found.iter().map(|(same, _)| same).sum()) / k as f64,
                lists: mean(found.iter().map(|(_, visited)| visited.lists).sum()),
                items: mean(found.iter().map(|(_, visited)| visited.items).sum()),
            });
            progress.at(0.5 + 0.5 * levels.len() as f64 / levels.capacity() as f64)?;
        }
    }
    Ok(levels)
}

/// One of a user's best items, and what finding it takes.
#[derive(Debug, Clone, Copy)]
struct Needed {
    key: Key,
    /// The score of the item's list, and the standard deviation of the user's list scores.
    list_score: f32,
    deviation: f64,
}

/// The least margin with which the mean recall of the `k` best items, less its standard error, reaches `recall`.
fn margin(exact: &[Needed], kept: usize, k: usize, recall: f64) -> Result<f64> {
    let users = exact.len() / kept;
    let mut margins = reserve("calibration", users * k)?;
    for best in exact.chunks_exact(kept) {
        let kth = f64::from(best[k - 1].key.score());
        let margin = |needed: &Needed| match needed.deviation > 0.0 {
            true => (kth - f64::from(needed.list_score)) / needed.deviation,
            false => f64::NEG_INFINITY, // all lists are visited
        };
        margins.extend(best[..k].iter().map(margin));
    }
    let reaches = |margin: f64| {
        let (mut sum, mut squares) = (0.0, 0.0);
        for of_user in margins.chunks_exact(k) {
            let found = of_user.iter().filter(|&&needed| needed <= margin).count() as f64 / k as f64;
            sum += found;
            squares += found * found;
        }
        let mean = sum / users as f64;
        let error = ((squares / users as f64 - mean * mean).max(0.0) / users as f64).sqrt();
        mean - error >= recall
    };
    let mut sorted = collected("calibration", margins.iter().copied())?;
    sorted.sort_unstable_by(f64::total_cmp);
    let at = sorted.partition_point(|&margin| !reaches(margin));
    Ok(sorted[at.min(sorted.len() - 1)].max(f64::MIN))
}

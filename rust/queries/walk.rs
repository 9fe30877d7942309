//! Lists that a filter of single items cannot describe: at most so many items of a group, and the page after an item.
//!
//! Both are defined by walking down the whole ranking of the items that the filter admits. The walk asks [`top_k`]
//! for longer and longer heads of the ranking, until every list is complete.
//!
//! [`top_k`]: Engine::top_k

use std::collections::HashMap;

use super::rank_of::RankCounter;
use crate::engine::{Engine, Scale, Users};
use crate::error::{Error, Result, filled, reserve};
use crate::filter::Filter;
use crate::indices::Indices;
use crate::order::{Key, TopK, lowest_that};
use crate::pool::Call;
use crate::scan::Query;

/// How much longer the head of the ranking is in each round.
const DEEPER: usize = 4;

/// A group for each item, such as its brand.
#[derive(Debug, Clone)]
pub struct Groups(Vec<u32>);

impl Groups {
    /// The group of an item that has none, of which a list may hold any number.
    pub const NONE: u32 = u32::MAX;

    /// The group of each item.
    pub fn new(groups: Vec<u32>) -> Self {
        Groups(groups)
    }

    /// The number of items.
    pub fn items(&self) -> usize {
        self.0.len()
    }

    /// The group of each item; [`Groups::NONE`] for an item that has none.
    pub fn numbers(&self) -> &[u32] {
        &self.0
    }

    /// The groups for a catalogue that has grown to `items`. New items have none, and neither have those in `removed`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a catalogue that is smaller, or for other items; [`Error::Memory`].
    pub fn for_catalogue(&self, items: usize, removed: &Indices<'_>) -> Result<Self> {
        if items < self.0.len() {
            return Err(Error::Argument(format!("items: expected at least {}, got {items}", self.0.len())));
        }
        let mut groups = reserve("groups", items)?;
        groups.extend_from_slice(&self.0);
        groups.resize(items, Self::NONE);
        removed.below(items, "removed")?.iter().for_each(|&item| groups[item as usize] = Self::NONE);
        Ok(Groups(groups))
    }
}

/// A list holds at most `most` items of each of these groups.
#[derive(Debug, Clone, Copy)]
pub struct GroupLimit<'a> {
    /// The groups.
    pub groups: &'a Groups,
    /// At least 1.
    pub most: usize,
}

/// The last item of a page; the next page begins after it.
#[derive(Debug, Clone, Copy)]
pub struct PageEnd {
    /// Its score, on the scale of the call.
    pub score: f32,
    /// `None` if it is no longer in the catalogue.
    pub item: Option<u32>,
}

/// What a list takes from the ranking, from the best item down.
#[derive(Debug, Default, Clone, Copy)]
pub struct Walk<'a> {
    /// An item is passed over if it is the `most + 1`-st of its group in any of these.
    pub limits: &'a [GroupLimit<'a>],
    /// For each row, where its list begins; items before it still count for the limits, so that pages are the parts of
    /// one long list.
    pub after: Option<&'a [PageEnd]>,
}

impl Engine {
    /// The first `k` items for each row that `walk` takes from the ranking of those that `filter` admits.
    ///
    /// After a [`PageEnd`] come the items that follow it in THE order, if its score is the current one; otherwise those
    /// that score less.
    ///
    /// # Errors
    /// As for [`Engine::top_k`]; [`Error::Argument`] for groups of another catalogue, a limit of 0, another number of
    /// page ends than rows, and NaN.
    pub fn top_k_of_walk(
        &self,
        users: &Users<'_>,
        k: usize,
        filter: &Filter<'_>,
        walk: Walk<'_>,
        scale: Scale,
        call: Call<'_>,
    ) -> Result<TopK> {
        self.check(walk, users.len())?;
        let mut ends = reserve("page ends", users.len())?;
        let mut depth = k;
        if let Some(after) = walk.after {
            for (row, end) in after.iter().enumerate() {
                ends.push(self.last_key(users, row, *end, scale)?);
            }
            let before = self.count_to(users, filter, &ends, call)?;
            depth = k.saturating_add(before.into_iter().max().unwrap_or(0));
        }
        let cells = users.len().saturating_mul(k);
        let mut ids = filled("top-k ids", cells, -1i64)?;
        let mut scores = filled("top-k scores", cells, f32::NEG_INFINITY)?;
        let mut open = reserve("unfinished rows", users.len())?;
        open.extend(0..users.len());
        while !open.is_empty() {
            depth = depth.min(self.num_items().max(1));
            let head = self.top_k(users, depth, filter, Scale::Logit, call)?;
            open.retain(|&row| {
                let end = ends.get(row).copied();
                let of = |values: usize| values * depth..(values + 1) * depth;
                let ranking = head.ids[of(row)].iter().copied().zip(head.scores[of(row)].iter().copied());
                let (ids, scores) = (&mut ids[row * k..][..k], &mut scores[row * k..][..k]);
                let whole = depth == self.num_items();
                !take(walk.limits, end, ranking, whole, ids, scores)
            });
            depth = depth.saturating_mul(DEEPER);
        }
        for (ids, scores) in ids.chunks(k.max(1)).zip(scores.chunks_mut(k.max(1))) {
            let real = ids.iter().take_while(|&&id| id >= 0).count();
            self.rescale(&mut scores[..real], scale);
        }
        Ok(TopK { ids, scores, k })
    }

    fn check(&self, walk: Walk<'_>, rows: usize) -> Result<()> {
        for limit in walk.limits {
            let (expected, got) = (self.num_items(), limit.groups.items());
            if got != expected {
                return Err(Error::Argument(format!("groups: expected one for each of {expected} items, got {got}")));
            }
            if limit.most == 0 {
                return Err(Error::Argument("max_per_group: expected at least 1, got 0".into()));
            }
        }
        let Some(after) = walk.after else { return Ok(()) };
        if after.len() != rows {
            let got = after.len();
            return Err(Error::Argument(format!("after: expected one for each of {rows} users, got {got}")));
        }
        match after.iter().position(|end| end.score.is_nan()) {
            Some(row) => Err(Error::Argument(format!("after[{row}]: expected a score, got NaN"))),
            None => Ok(()),
        }
    }

    /// The last key before the page of row `row`; `None` if the page begins at the top.
    fn last_key(&self, users: &Users<'_>, row: usize, end: PageEnd, scale: Scale) -> Result<Option<Key>> {
        if let Some(item) = end.item
            && self.has_item(self.item_check().one(row, item.into())?)
        {
            let mut logit = [0.0];
            Call::ALONE.one_by_one(1, |_, watch| self.score_candidates(users, row, &[item], &mut logit, watch))?;
            let mut score = logit;
            self.rescale(&mut score, scale);
            if score[0] == end.score {
                return Ok(Some(Key::new(logit[0], item)));
            }
        }
        let lowest = lowest_that(|logit| {
            let mut score = [logit];
            self.rescale(&mut score, scale);
            score[0] >= end.score
        });
        Ok(lowest.map(|logit| Key::new(logit, u32::MAX)))
    }

    /// For each row, at least as many as the admitted items up to its page's end.
    fn count_to(
        &self,
        users: &Users<'_>,
        filter: &Filter<'_>,
        ends: &[Option<Key>],
        call: Call<'_>,
    ) -> Result<Vec<usize>> {
        let query = Query::new(self, users, filter)?;
        let logit = |row: usize| ends[row].map_or(f32::INFINITY, Key::score);
        let counts = query.count_rivals(call, |row| RankCounter::new(u32::MAX, logit(row)))?;
        Ok(counts.into_iter().map(|count| count as usize).collect())
    }
}

/// Fills a row's list from the head of a ranking, the `whole` one or not; returns whether the list is final.
fn take(
    limits: &[GroupLimit<'_>],
    end: Option<Option<Key>>,
    ranking: impl Iterator<Item = (i64, f32)>,
    whole: bool,
    ids: &mut [i64],
    scores: &mut [f32],
) -> bool {
    let mut taken: Vec<HashMap<u32, usize>> = vec![HashMap::new(); limits.len()];
    let mut found = 0;
    for (id, logit) in ranking {
        let Ok(item) = u32::try_from(id) else { return true };
        let group = |limit: &GroupLimit<'_>| limit.groups.0[item as usize];
        let full = limits.iter().zip(&taken).any(|(limit, taken)| taken.get(&group(limit)) == Some(&limit.most));
        if full {
            continue;
        }
        for (limit, taken) in limits.iter().zip(&mut taken) {
            if group(limit) != Groups::NONE {
                *taken.entry(group(limit)).or_insert(0) += 1;
            }
        }
        if let Some(Some(end)) = end
            && Key::new(logit, item) <= end
        {
            continue;
        }
        (ids[found], scores[found]) = (id, logit);
        found += 1;
        if found == ids.len() {
            return true;
        }
    }
    whole
}

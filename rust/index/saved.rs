//! What `index.safetensors` holds of an index, and the index from that and the model. The tiles of its lists and their
//! centroids are not saved: they are made of the model's at load, which takes about as long as to read them would.

use super::build::{Index, IndexOptions};
use super::calibrate::{IndexLevel, KS, RECALLS};
use super::lists::{Lifts, Lists};
use crate::engine::Engine;
use crate::error::{Error, Result, collected, try_collected};
use crate::format::SavedIndex;
use crate::pool::Call;

impl Index {
    /// What a file holds of it.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn saved(&self) -> Result<SavedIndex> {
        let levels = self.levels.iter();
        let levels =
            levels.map(|level| [level.k as f64, level.recall, level.margin, level.measured, level.lists, level.items]);
        Ok(SavedIndex {
            list_of: self.lists.list_of(self.num_items)?,
            lifts: collected("lifts", self.lists.lifts().iter().copied())?,
            levels: collected("levels", levels)?,
            lists: self.options.lists.unwrap_or(self.lists.count()),
            seed: self.options.seed,
        })
    }

    /// The index that was saved of `engine`, whose items are as they were at load. It answers as the saved one did, bit
    /// for bit.
    ///
    /// # Errors
    /// [`Error::Format`] for levels that are not those of [`Index::build`], or another number of items;
    /// [`Error::Memory`], also if the index and the engine take more than `max_bytes` or, without a limit, the index
    /// more than are free; [`Error::Interrupted`].
    pub fn restore(engine: &Engine, saved: &SavedIndex, max_bytes: Option<u64>, call: Call<'_>) -> Result<Index> {
        let (items, got) = (engine.num_items(), saved.list_of.len());
        if got != items {
            return Err(Error::Format(format!("list_of: {got} values, expected {items}, one for each item")));
        }
        let levels = levels(&saved.levels, items)?;
        let lists = saved.lifts.len();
        let held: usize = engine.nbytes().iter().map(|(_, bytes)| bytes).sum();
        let max_bytes = max_bytes.map(|max| max.saturating_sub(held as u64));
        let lists = Lists::new(engine, &saved.list_of, lists, Lifts::Saved(&saved.lifts), max_bytes, call)?;
        let options = IndexOptions { lists: Some(saved.lists), seed: saved.seed };
        Ok(Index { lists, levels, num_items: items, options })
    }
}

/// The levels in these rows. Every recall is there for every `k`, so that each promise has a margin of its own.
fn levels(rows: &[[f64; 6]], items: usize) -> Result<Vec<IndexLevel>> {
    let (of_each_k, rest) = rows.as_chunks::<{ RECALLS.len() }>();
    let expected = KS.iter().take(of_each_k.len()).flat_map(|&k| RECALLS.map(|recall| (k as f64, recall)));
    let complete = !of_each_k.is_empty() && of_each_k.len() <= KS.len() && rest.is_empty();
    if !(complete && expected.eq(rows.iter().map(|row| (row[0], row[1])))) {
        return Err(Error::Format(format!("levels: expected the recalls {RECALLS:?} for each k of {KS:?} up to one")));
    }
    let level = |row: &[f64; 6]| {
        let [k, recall, margin, measured, lists, visited] = *row;
        let within = |value: f64, most: f64| (0.0..=most).contains(&value);
        // Lists are visited in whole tiles, some of whose lanes have no item.
        match margin.is_finite() && within(measured, 1.0) && within(lists, items as f64) && within(visited, f64::MAX) {
            true => Ok(IndexLevel { k: k as usize, recall, margin, measured, lists, items: visited }),
            false => Err(Error::Format(format!("levels: got {row:?}, which no index of {items} items has"))),
        }
    };
    try_collected("levels", rows.iter().map(level))
}

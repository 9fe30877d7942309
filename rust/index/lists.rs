//! The items in lists, one for each cluster, and the centroids that stand for them.

use std::ops::Range;

use super::cluster::Members;
use super::lift::estimate;
use crate::engine::Engine;
use crate::engine::catalogue::ListedTiles;
use crate::engine::rearranged::NO_ITEM;
use crate::error::{Error, Result, collected, filled, reserve};
use crate::kernel::{Aligned, LANES, Lanes};
use crate::memory;
use crate::pool::Call;

/// Lists of items, in whole tiles.
#[derive(Debug)]
pub(super) struct Lists {
    pub(super) listed: ListedTiles,
    /// Where each list begins, in tiles, and where the last one ends.
    starts: Vec<u32>,
    /// The means of the lists' items, in float32 tiles.
    centroids: Aligned,
    /// How far the best item of each list stands above its centroid, in logits.
    lifts: Vec<f32>,
}

/// Where the lifts of lists come from.
pub(super) enum Lifts<'a> {
    /// They are estimated from some of these users.
    Among(&'a [u32]),
    /// They are known, one for each list that has items.
    Saved(&'a [f32]),
}

impl Lists {
    /// Lists of the items of `engine`, from the list of each item, below `lists`. Lists without items are left out.
    ///
    /// # Errors
    /// [`Error::Memory`], also if they take more than `max_bytes` or, without a limit, more than are free;
    /// [`Error::Interrupted`]; [`Error::Argument`] for more tiles than 2^28.
    pub(super) fn new(
        engine: &Engine,
        list_of: &[u32],
        lists: usize,
        lifts: Lifts<'_>,
        max_bytes: Option<u64>,
        call: Call<'_>,
    ) -> Result<Self> {
        let order = engine.catalogue.tiles.order(engine.num_items())?;
        let in_order = collected("lists", order.iter().map(|&item| list_of[item as usize]))?;
        let members = Members::new(&in_order, lists)?;
        let filled = || (0..lists).map(|list| members.of(list)).filter(|members| !members.is_empty());
        let tiles: usize = filled().map(|members| members.len().div_ceil(LANES)).sum();
        if tiles > MOST_TILES {
            return Err(Error::Argument(format!("lists: expected at most {MOST_TILES} tiles of items, got {tiles}")));
        }
        // A list ends in a whole tile, so many short lists take a multiple of the catalogue's tiles.
        let catalogue = engine.catalogue.tiles.nbytes() as u64 / engine.catalogue.tiles_at_load() as u64;
        let bytes = (catalogue + (LANES * size_of::<u32>()) as u64).saturating_mul(tiles as u64);
        memory::check("the index", bytes, max_bytes)?;
        let mut items = reserve("lists", tiles * LANES)?;
        let mut starts = reserve("lists", lists + 1)?;
        starts.push(0);
        for members in filled() {
            items.extend(members.iter().map(|&position| order[position as usize]));
            items.resize(items.len().next_multiple_of(LANES), NO_ITEM);
            starts.push((items.len() / LANES) as u32);
        }
        let listed = engine.catalogue.tiles.listed(&engine.network, items, call)?;
        let by_item = Members::new(list_of, lists)?;
        let members = (0..lists).map(|list| by_item.of(list)).filter(|members| !members.is_empty());
        let mut ascending = reserve("lists", starts.len() - 1)?;
        ascending.extend(members);
        let centroids = centroids(engine, &ascending, call)?;
        let lifts = match lifts {
            Lifts::Saved(lifts) => collected("lifts", lifts.iter().copied())?,
            Lifts::Among(users) => estimate(engine, &ascending, &centroids, users, call)?,
        };
        Ok(Lists { listed, starts, centroids, lifts })
    }

    /// The number of lists.
    pub(super) fn count(&self) -> usize {
        self.starts.len() - 1
    }

    /// The tiles of a list.
    pub(super) fn tiles(&self, list: u32) -> Range<usize> {
        self.starts[list as usize] as usize..self.starts[list as usize + 1] as usize
    }

    /// The items of a list, padded to whole tiles.
    fn items(&self, list: u32) -> &[u32] {
        let tiles = self.tiles(list);
        &self.listed.items[tiles.start * LANES..tiles.end * LANES]
    }

    /// How far the best item of each list stands above its centroid, in logits.
    pub(super) fn lifts(&self) -> &[f32] {
        &self.lifts
    }

    /// The centroids, in float32 tiles.
    pub(super) fn centroids(&self) -> &[Lanes] {
        &self.centroids
    }

    /// The list of each item.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(super) fn list_of(&self, items: usize) -> Result<Vec<u32>> {
        let mut list_of = filled("lists", items, 0)?;
        for list in 0..self.count() as u32 {
            for &item in self.items(list) {
                if item != NO_ITEM {
                    list_of[item as usize] = list;
                }
            }
        }
        Ok(list_of)
    }

    pub(super) fn nbytes(&self) -> usize {
        self.listed.nbytes() + size_of_val(&self.starts[..]) + self.centroids.nbytes() + size_of_val(&self.lifts[..])
    }
}

/// Tiles of 2^32 items.
const MOST_TILES: usize = 1 << 28;

/// The means of the lists' items, ascending in each, in float32 tiles. The network scores them as if they were items;
/// no score overflows, because a mean is between the items.
fn centroids(engine: &Engine, lists: &[&[u32]], call: Call<'_>) -> Result<Aligned> {
    let (network, rows) = (&engine.network, engine.catalogue.rows.table());
    let tile_len = network.tile_len();
    let mut tiles = Aligned::zeros("centroids", lists.len().div_ceil(LANES) * tile_len)?;
    call.for_each_chunk(&mut tiles, tile_len, |n, tile, watch| {
        let mut sums = filled("centroids", tile_len, 0.0f64)?;
        for (lane, items) in lists[n * LANES..].iter().take(LANES).enumerate() {
            sums.fill(0.0);
            for &item in *items {
                let (first, gmf) = network.split_row(rows.row(item as usize));
                sums.iter_mut().zip(first.iter().chain(gmf)).for_each(|(sum, &x)| *sum += f64::from(x));
            }
            tile.iter_mut().zip(&sums).for_each(|(to, sum)| to[lane] = (sum / items.len() as f64) as f32);
            watch.stopped(items.len() * tile_len);
        }
        Ok(())
    })?;
    Ok(tiles)
}

//! How far the best item of a list stands above the list's centroid: the lift that a centroid's score needs to rank its
//! list by what it holds.
//!
//! Where items of a list are far apart or many, the best of them is far better than their mean, by an amount that
//! differs between lists: `E[max over the list's items of the logit, less the logit of the centroid]`, in the mean over
//! users.

use crate::engine::Engine;
use crate::engine::layout::items_to_lanes;
use crate::error::{Result, collected, filled, reserve};
use crate::kernel::scan::Scan;
use crate::kernel::survivors::Survivors;
use crate::kernel::weights::Scratch;
use crate::kernel::{LANES, Lanes};
use crate::pool::Call;

/// Users of an estimate: as many as this many multiply-adds allow, within these limits. Few are enough.
const WORK: usize = 1 << 37;
const MIN_USERS: usize = 32;
const MAX_USERS: usize = 256;

/// Tiles that are scored together.
const TILES: usize = 16;

/// Estimates the lift of each list, from its items and its centroid, in the mean over some of `users`.
///
/// # Errors
/// [`Error::Memory`](crate::Error::Memory); [`Error::Interrupted`](crate::Error::Interrupted).
pub(super) fn estimate(
    engine: &Engine,
    lists: &[&[u32]],
    centroids: &[Lanes],
    users: &[u32],
    call: Call<'_>,
) -> Result<Vec<f32>> {
    let affordable = WORK / engine.num_items().saturating_mul(engine.multiply_adds());
    let users = &users[..users.len().min(affordable.clamp(MIN_USERS, MAX_USERS))];
    let users = users.iter().map(|&user| engine.network.split_row(engine.user_rows.row(user as usize)));
    let users = collected("users", users)?;
    let (tile_len, count) = (engine.network.tile_len(), users.len());
    call.in_chunks("lifts", lists.len(), 1, 0.0f32, |list, lift, watch| {
        let mut scores = Scores::new(engine, &users)?;
        let mut best = filled("lifts", count, f32::NEG_INFINITY)?;
        let mut features = filled("lifts", TILES * tile_len, [0.0; LANES])?;
        for items in lists[list].chunks(TILES * LANES) {
            let tiles = &mut features[..items.len().div_ceil(LANES) * tile_len];
            for (tile, items) in tiles.chunks_exact_mut(tile_len).zip(items.chunks(LANES)) {
                // In place of padding, the first item again.
                let items: [u32; LANES] = std::array::from_fn(|n| *items.get(n).unwrap_or(&items[0]));
                items_to_lanes(&engine.network, engine.catalogue.rows.table(), &items, tile);
            }
            scores.of(tiles, |user, logits| best[user] = logits.iter().fold(best[user], |best, &x| best.max(x)))?;
            watch.stopped(items.len() * count * engine.multiply_adds());
        }
        let mut above = 0.0f64;
        let (tile, lane) = (list / LANES * tile_len, list % LANES);
        scores.of(&centroids[tile..][..tile_len], |user, logits| {
            above += f64::from(best[user]) - f64::from(logits[lane]);
        })?;
        lift[0] = (above / count as f64) as f32;
        Ok(())
    })
}

/// The logits of all users for a few tiles of items.
struct Scores<'a> {
    engine: &'a Engine,
    users: &'a [(&'a [f32], &'a [f32])],
    survivors: Vec<Survivors>,
}

impl<'a> Scores<'a> {
    fn new(engine: &'a Engine, users: &'a [(&'a [f32], &'a [f32])]) -> Result<Self> {
        let mut survivors = reserve("survivors", users.len())?;
        for _ in users {
            survivors.push(Survivors::new(TILES)?);
        }
        Ok(Scores { engine, users, survivors })
    }

    /// Calls `each` with every user and the user's logits of every tile, tile by tile for each user.
    fn of(&mut self, tiles: &[Lanes], mut each: impl FnMut(usize, &Lanes)) -> Result<()> {
        let (network, users) = (&self.engine.network, self.users);
        self.survivors.iter_mut().for_each(|survivors| survivors.reset(f32::NEG_INFINITY)); // every tile is recorded
        Scratch::lend(network, |scratch| {
            Scan { network, tiles, ahead: &[], users, scratch, survivors: &mut self.survivors }.run(self.engine.isa);
        })?;
        for (user, survivors) in self.survivors.iter().enumerate() {
            survivors.found().iter().for_each(|tile| each(user, &tile.logits));
        }
        Ok(())
    }
}

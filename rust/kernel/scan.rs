//! The float32 scan: the logits of some users and all items of a panel of tiles.
//!
//! A tile is sixteen items, feature by feature: `H0` first-layer features and then `G` GMF features.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `layers`")]

use super::layers::{FirstLayer, hidden, prefetch, prefetch_all};
use super::survivors::Survivors;
use super::weights::{Network, Scratch};
use super::{Kernel, Lanes, Simd};

/// Computes the logits of some users and the items of a panel of tiles, and keeps those that reach each user's threshold.
pub(crate) struct Scan<'a> {
    pub(crate) network: &'a Network,
    pub(crate) tiles: &'a [Lanes],
    /// The tiles that will be read next, to be prefetched meanwhile.
    pub(crate) ahead: &'a [Lanes],
    /// The users: first-layer features and GMF features.
    pub(crate) users: &'a [(&'a [f32], &'a [f32])],
    pub(crate) scratch: &'a mut Scratch,
    /// One for each user.
    pub(crate) survivors: &'a mut [Survivors],
}

/// Tiles whose chains are interleaved: a single chain would wait for each multiply-add to finish.
const TILES_INTERLEAVED: usize = 4;

/// Users that share the loads of a tile, where there are few multiply-adds for each load and the registers hold all chains.
pub(crate) const USERS_PER_LOAD: usize = 4;

/// From so many users on, each prefetches a share of the next panel.
const MANY_USERS: usize = 8;

impl Kernel for Scan<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (users, tile_len) = (self.users.len(), self.network.tile_len());
        let (share, mut user) = if users >= MANY_USERS {
            (tile_len.div_ceil(users), 0)
        } else if self.ahead.is_empty() {
            (0, 0)
        } else {
            (0, self.some_users::<S, true>(s, 0, 0))
        };
        while user < users {
            user = self.some_users::<S, false>(s, user, share);
        }
    }
}

impl Scan<'_> {
    /// Scans for user `user` and, where they share the loads of tiles, the next ones; returns the first user after them. With `AHEAD` they
    /// prefetch the whole next panel, line by line, else `share` lines of a tile at once.
    #[inline(always)]
    fn some_users<S: Simd, const AHEAD: bool>(&mut self, s: S, user: usize, share: usize) -> usize {
        let together = USERS_PER_LOAD * TILES_INTERLEAVED <= S::BLOCK && self.network.layers.is_empty();
        if together && user + USERS_PER_LOAD <= self.users.len() {
            self.all_tiles::<S, AHEAD, USERS_PER_LOAD>(s, user, share);
            user + USERS_PER_LOAD
        } else {
            self.all_tiles::<S, AHEAD, 1>(s, user, share);
            user + 1
        }
    }

    /// Scans all tiles for users `user..user + U`.
    #[inline(always)]
    fn all_tiles<S: Simd, const AHEAD: bool, const U: usize>(&mut self, s: S, user: usize, share: usize) {
        let tiles = self.tiles.len() / self.network.tile_len();
        let whole = tiles - tiles % TILES_INTERLEAVED;
        for tile in (0..whole).step_by(TILES_INTERLEAVED) {
            self.some_tiles::<S, AHEAD, U, TILES_INTERLEAVED>(s, user, share, tile);
        }
        for tile in whole..tiles {
            self.some_tiles::<S, AHEAD, U, 1>(s, user, share, tile);
        }
    }

    /// Scans tiles `tile..tile + T` for these users. `U` is 1 where layers follow the first.
    #[inline(always)]
    fn some_tiles<S: Simd, const AHEAD: bool, const U: usize, const T: usize>(
        &mut self,
        s: S,
        user: usize,
        share: usize,
        tile: usize,
    ) {
        let Scan { network, scratch, .. } = self;
        let (h0, tile_len) = (network.h0, network.tile_len());
        for t in 0..T {
            for line in user * share..tile_len.min((user + U) * share) {
                prefetch(s, self.ahead, (tile + t) * tile_len + line);
            }
        }
        let (mut b, mut g) = ([&[][..]; U], [&[][..]; U]);
        for u in 0..U {
            (b[u], g[u]) = self.users[user + u];
        }
        let (mut items, mut ahead) = ([self.tiles; T], [&[][..]; T]);
        for t in 0..T {
            let at = (tile + t) * tile_len;
            items[t] = &self.tiles[at..][..tile_len];
            if AHEAD {
                ahead[t] = self.ahead.get(at..at + tile_len).unwrap_or_default();
            }
        }

        let mut logits = [[s.splat(network.output_bias); T]; U];
        for j in 0..network.g {
            let mut q = [s.splat(0.0); T];
            for t in 0..T {
                q[t] = s.load(&items[t][h0 + j]);
            }
            for u in 0..U {
                let g = s.splat(g[u][j]);
                for t in 0..T {
                    logits[u][t] = s.fma(g, q[t], logits[u][t]);
                }
            }
        }
        if network.layers.is_empty() {
            for t in 0..T {
                prefetch_all(s, ahead[t].get(h0..).unwrap_or_default());
            }
            for k in 0..h0 {
                let w = s.splat(network.output_weight[k]);
                let mut a = [w; T];
                for t in 0..T {
                    prefetch(s, ahead[t], k);
                    a[t] = s.load(&items[t][k]);
                }
                for u in 0..U {
                    let b = s.splat(b[u][k]);
                    for t in 0..T {
                        logits[u][t] = s.fma(w, s.relu(s.add(a[t], b)), logits[u][t]);
                    }
                }
            }
        } else if U == 1 {
            for t in 0..T {
                prefetch_all(s, ahead[t].get(h0..).unwrap_or_default());
                let first_layer = FirstLayer::<AHEAD> { items: &items[t][..h0], user: b[0], ahead: ahead[t] };
                logits[0][t] = hidden(s, network, first_layer, logits[0][t], scratch);
            }
        }
        for u in 0..U {
            let survivors = &mut self.survivors[user + u];
            for t in 0..T {
                survivors.record(s, tile + t, s.add(logits[u][t], s.splat(0.0)));
            }
        }
    }
}

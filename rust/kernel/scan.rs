//! The float32 scan: computes the logits of a group of users and all items of a panel of tiles.
//!
//! A tile holds sixteen items, feature by feature: `H0` first-layer features, then `G` GMF features. Models with and
//! without a second hidden layer have separate kernels, so that the compiler allocates registers for each.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `layers`")]

use super::layers::{FirstLayer, hidden, prefetch, prefetch_all};
use super::survivors::Survivors;
use super::weights::{Network, Scratch};
use super::{Isa, Kernel, LANES, Lanes, Simd};

/// Computes the logits of a group of users and the items of a panel of tiles, and records those that reach each user's
/// threshold.
pub(crate) struct Scan<'a> {
    pub(crate) network: &'a Network,
    pub(crate) tiles: &'a [Lanes],
    /// The tiles that are read next, to prefetch meanwhile.
    pub(crate) ahead: &'a [Lanes],
    /// For each user, the first-layer features and the GMF features.
    pub(crate) users: &'a [(&'a [f32], &'a [f32])],
    pub(crate) scratch: &'a mut Scratch,
    /// One per user.
    pub(crate) survivors: &'a mut [Survivors],
}

/// Tiles whose chains are interleaved, to hide the latency of multiply-adds.
pub(crate) const TILES_INTERLEAVED: usize = 4;

/// Users that share the loads of a tile, if there are few multiply-adds per load and the registers hold all chains.
pub(crate) const USERS_PER_LOAD: usize = 4;

/// From this number of users on, each prefetches a share of the next panel.
const MIN_USERS_TO_SHARE: usize = 8;

impl<'a> Scan<'a> {
    /// Scans with the instruction set `isa`.
    pub(crate) fn run(self, isa: Isa) {
        if self.network.layers.is_empty() {
            isa.run(ShallowScan(self));
        } else {
            isa.run(DeepScan(self));
        }
    }

    /// Whether the first user prefetches the whole next panel; if not, how many lines of each of its tiles every user
    /// prefetches.
    #[inline(always)]
    fn prefetching(&self) -> (bool, usize) {
        if self.users.len() >= MIN_USERS_TO_SHARE {
            (false, self.network.tile_len().div_ceil(self.users.len()))
        } else {
            (!self.ahead.is_empty(), 0)
        }
    }

    #[inline(always)]
    fn tile_count(&self) -> usize {
        self.tiles.len() / self.network.tile_len()
    }

    /// Tile `tile`, and with `AHEAD` the tile at the same position of the next panel, if it exists.
    #[inline(always)]
    fn tile<const AHEAD: bool>(&self, tile: usize) -> (&'a [Lanes], &'a [Lanes]) {
        let tile_len = self.network.tile_len();
        let at = tile * tile_len;
        let ahead = if AHEAD { self.ahead.get(at..at + tile_len).unwrap_or_default() } else { &[] };
        (&self.tiles[at..][..tile_len], ahead)
    }

    /// Prefetches lines `from..to`, as far as they exist, of the tile at position `tile` of the next panel.
    #[inline(always)]
    fn prefetch_lines<S: Simd>(&self, s: S, tile: usize, from: usize, to: usize) {
        let tile_len = self.network.tile_len();
        for line in from..tile_len.min(to) {
            prefetch(s, self.ahead, tile * tile_len + line);
        }
    }

    #[inline(always)]
    fn record<S: Simd>(&mut self, s: S, user: usize, tile: usize, logits: S::V) {
        self.survivors[user].record(s, tile, s.add(logits, s.splat(0.0)));
    }
}

/// The scan of a model without a second hidden layer.
struct ShallowScan<'a>(Scan<'a>);

impl Kernel for ShallowScan<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        if !Self::four_by_four::<S>() && self.0.network.h0 == 0 && self.0.users.len() >= USERS_PER_LOAD {
            return self.scan_by_tile(s);
        }
        let (ahead, share) = self.0.prefetching();
        let mut user = if ahead { self.scan_users::<S, true>(s, 0, 0) } else { 0 };
        while user < self.0.users.len() {
            user = self.scan_users::<S, false>(s, user, share);
        }
    }
}

impl ShallowScan<'_> {
    /// Scans for user `user` and, if users share the loads of tiles, the next ones; returns the first user after them.
    /// With `AHEAD`, prefetches the whole next panel, line by line; otherwise `share` lines of a tile at once.
    #[inline(always)]
    fn scan_users<S: Simd, const AHEAD: bool>(&mut self, s: S, user: usize, share: usize) -> usize {
        if Self::four_by_four::<S>() && user + USERS_PER_LOAD <= self.0.users.len() {
            self.scan_panel::<S, AHEAD, USERS_PER_LOAD>(s, user, share);
            user + USERS_PER_LOAD
        } else {
            self.scan_panel::<S, AHEAD, 1>(s, user, share);
            user + 1
        }
    }

    /// Whether the registers hold the chains of [`USERS_PER_LOAD`] users and [`TILES_INTERLEAVED`] tiles.
    const fn four_by_four<S: Simd>() -> bool {
        USERS_PER_LOAD * TILES_INTERLEAVED <= S::BLOCK
    }

    /// Computes dot products of one tile after the other, which stays in the first-level cache, and four or five users
    /// at a time, whose chains fit into few registers.
    #[inline(always)]
    fn scan_by_tile<S: Simd>(&mut self, s: S) {
        let users = self.0.users.len();
        let share = self.0.network.tile_len().div_ceil(users);
        for tile in 0..self.0.tile_count() {
            let mut user = 0;
            while user < users {
                user += match users - user {
                    5 | 9.. => {
                        self.scan_tiles::<S, false, 5, 1>(s, user, share, tile);
                        5
                    }
                    4.. => {
                        self.scan_tiles::<S, false, 4, 1>(s, user, share, tile);
                        4
                    }
                    _ => {
                        self.scan_tiles::<S, false, 1, 1>(s, user, share, tile);
                        1
                    }
                };
            }
        }
    }

    /// Scans all tiles for users `user..user + U`.
    #[inline(always)]
    fn scan_panel<S: Simd, const AHEAD: bool, const U: usize>(&mut self, s: S, user: usize, share: usize) {
        let tiles = self.0.tile_count();
        let whole = tiles - tiles % TILES_INTERLEAVED;
        for tile in (0..whole).step_by(TILES_INTERLEAVED) {
            self.scan_tiles::<S, AHEAD, U, TILES_INTERLEAVED>(s, user, share, tile);
        }
        for tile in whole..tiles {
            self.scan_tiles::<S, AHEAD, U, 1>(s, user, share, tile);
        }
    }

    /// Scans tiles `tile..tile + T` for users `user..user + U`.
    #[inline(always)]
    fn scan_tiles<S: Simd, const AHEAD: bool, const U: usize, const T: usize>(
        &mut self,
        s: S,
        user: usize,
        share: usize,
        tile: usize,
    ) {
        let scan = &mut self.0;
        let Network { h0, g: gmf_width, output_bias, ref output_weight, .. } = *scan.network;
        // Slices of known lengths: bounds checks in the loops cost registers.
        let weight = &output_weight[..h0];
        let (mut a, mut q, mut ahead) = ([&[][..]; T], [&[][..]; T], [&[][..]; T]);
        for t in 0..T {
            scan.prefetch_lines(s, tile + t, user * share, (user + U) * share);
            let items;
            (items, ahead[t]) = scan.tile::<AHEAD>(tile + t);
            (a[t], q[t]) = (&items[..h0], &items[h0..][..gmf_width]);
        }
        let (mut b, mut g) = ([&[][..]; U], [&[][..]; U]);
        for u in 0..U {
            (b[u], g[u]) = (&scan.users[user + u].0[..h0], &scan.users[user + u].1[..gmf_width]);
        }
        let mut logits = [[s.splat(output_bias); T]; U];
        for j in 0..gmf_width {
            let mut item = [s.splat(0.0); T];
            for t in 0..T {
                item[t] = s.load(&q[t][j]);
            }
            for u in 0..U {
                let g = s.splat(g[u][j]);
                for t in 0..T {
                    logits[u][t] = s.fma(g, item[t], logits[u][t]);
                }
            }
        }
        for t in 0..T {
            prefetch_all(s, ahead[t].get(h0..).unwrap_or_default());
        }
        // Most features, in arrays of a fixed length: with a bounds check in the loop, the compiler would copy each
        // chain in each iteration.
        let whole = h0 - h0 % FEATURES;
        for from in (0..whole).step_by(FEATURES) {
            let weight = array(weight, from);
            let (mut a_part, mut b_part) = ([array(a[0], from); T], [array(b[0], from); U]);
            for t in 0..T {
                a_part[t] = array(a[t], from);
            }
            for u in 0..U {
                b_part[u] = array(b[u], from);
            }
            for k in 0..FEATURES {
                if AHEAD {
                    for t in 0..T {
                        prefetch(s, ahead[t], from + k);
                    }
                }
                add_feature(s, weight[k], b_part.map(|b| b[k]), a_part.map(|a| &a[k]), &mut logits);
            }
        }
        for k in whole..h0 {
            for t in 0..T {
                prefetch(s, ahead[t], k);
            }
            add_feature(s, weight[k], b.map(|b| b[k]), a.map(|a| &a[k]), &mut logits);
        }
        // Copy the sums to memory for a loop that is not unrolled: otherwise the compiler keeps the chains themselves
        // in memory.
        let mut sums = [[[0.0; LANES]; T]; U];
        for u in 0..U {
            for t in 0..T {
                s.store(logits[u][t], &mut sums[u][t]);
            }
        }
        for u in 0..U {
            for t in 0..T {
                scan.record(s, user + u, tile + t, s.load(&sums[u][t]));
            }
        }
    }
}

/// Features per iteration of the loop without bounds checks.
const FEATURES: usize = 8;

/// Elements `from..from + FEATURES`.
#[inline(always)]
fn array<T>(slice: &[T], from: usize) -> &[T; FEATURES] {
    slice[from..].first_chunk().expect("whole arrays")
}

/// Adds the weighted activation of a first-layer feature, of users (`b`) and tiles (`a`), to the logits.
#[inline(always)]
fn add_feature<S: Simd, const U: usize, const T: usize>(
    s: S,
    weight: f32,
    b: [f32; U],
    a: [&Lanes; T],
    logits: &mut [[S::V; T]; U],
) {
    let w = s.splat(weight);
    let mut item = [w; T];
    for t in 0..T {
        item[t] = s.load(a[t]);
    }
    for u in 0..U {
        let b = s.splat(b[u]);
        for t in 0..T {
            logits[u][t] = s.fma(w, s.relu(s.add(item[t], b)), logits[u][t]);
        }
    }
}

/// The scan of a model with a second hidden layer.
struct DeepScan<'a>(Scan<'a>);

impl Kernel for DeepScan<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (ahead, share) = self.0.prefetching();
        if ahead {
            self.scan_panel::<S, true>(s, 0, 0);
        }
        for user in usize::from(ahead)..self.0.users.len() {
            self.scan_panel::<S, false>(s, user, share);
        }
    }
}

impl DeepScan<'_> {
    /// Scans all tiles for user `user`. With `AHEAD`, prefetches the whole next panel, line by line; otherwise `share`
    /// lines of a tile at once.
    #[inline(always)]
    fn scan_panel<S: Simd, const AHEAD: bool>(&mut self, s: S, user: usize, share: usize) {
        const T: usize = TILES_INTERLEAVED;
        let scan = &mut self.0;
        let (network, (b, g)) = (scan.network, scan.users[user]);
        let tiles = scan.tile_count();
        for first in (0..tiles).step_by(T) {
            let count = T.min(tiles - first);
            let (mut items, mut ahead) = ([scan.tiles; T], [&[][..]; T]);
            for t in 0..T {
                // If tiles are missing at the end, the first is computed again, which saves another compiled copy of
                // all layers.
                let tile = if t < count { first + t } else { first };
                (items[t], ahead[t]) = scan.tile::<AHEAD>(tile);
            }
            for t in 0..count {
                scan.prefetch_lines(s, first + t, user * share, (user + 1) * share);
            }
            let mut logits = [s.splat(network.output_bias); T];
            for j in 0..network.g {
                let g = s.splat(g[j]);
                for t in 0..T {
                    logits[t] = s.fma(g, s.load(&items[t][network.h0 + j]), logits[t]);
                }
            }
            let mut sums = [[0.0; LANES]; T];
            for t in 0..T {
                s.store(logits[t], &mut sums[t]);
            }
            for t in 0..count {
                prefetch_all(s, ahead[t].get(network.h0..).unwrap_or_default());
                let first_layer = FirstLayer::<AHEAD> { items: &items[t][..network.h0], user: b, ahead: ahead[t] };
                let logits = hidden(s, network, first_layer, s.load(&sums[t]), scan.scratch);
                scan.record(s, user, first + t, logits);
            }
        }
    }
}

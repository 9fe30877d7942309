//! `top_k` and `rank_of`: the whole catalogue, or what a filter leaves of it, in THE order.
//!
//! A scan passes over the tiles of items once for a block of users: a panel of tiles stays in the first-level cache while the users
//! take their turns. Each tile gives sixteen logits and a bit for each that reaches the user's threshold; only those bits cost more.

mod estimates;

use std::ops::Range;

use crate::engine::{Engine, Scale, Users, with_scratch};
use crate::error::{Error, Result, reserve};
use crate::filter::{Csr, Cursor, Exclude, Filter, Shared};
use crate::kernel::hits::Hits;
use crate::kernel::network::{Network, Scan, Scratch};
use crate::kernel::{LANES, Lanes, StandardFloats};
use crate::order::{Key, Selection};
use crate::pool::{Call, Watch};

/// Users that share a pass over the catalogue.
const USERS_PER_BLOCK: usize = 64;

/// A panel of tiles takes about three quarters of a first-level cache.
const PANEL_BYTES: usize = 24 << 10;

/// The most tiles in a panel.
const MOST_TILES: usize = 64;

/// Tiles (or listed items) in the shortest part of the catalogue that is worth a task.
const SHORTEST_PART: usize = 64;

/// A part of the catalogue that is scanned in integers has some so many times the items that are wanted: those that it finds are
/// scored once more.
const SPARSE: usize = 8;

/// Where fewer than one item in so many is left, scoring them one by one is cheaper than a scan.
const FEW: usize = 4;

/// What it takes to show a key to a selection and to write it out, in multiply-adds.
const STEPS_TO_MERGE: usize = 64;

/// The best items of some users, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct TopK {
    /// `[rows, k]`: item indices in THE order; -1 where fewer than `k` were left.
    pub ids: Vec<i64>,
    /// `[rows, k]`: their scores; negative infinity where the id is -1.
    pub scores: Vec<f32>,
    /// `k` as asked for.
    pub k: usize,
}

impl Engine {
    /// The `k` best items for each row, score descending, then item index ascending.
    ///
    /// # Errors
    /// [`Error::Argument`] for `k` of zero, filters whose rows differ from the users' and `Exclude::Seen` with users that are not
    /// in the model; [`Error::Memory`]; [`Error::Interrupted`].
    pub fn top_k(
        &self,
        users: &Users<'_>,
        k: usize,
        filter: &Filter<'_>,
        scale: Scale,
        call: Call<'_>,
    ) -> Result<TopK> {
        if k == 0 {
            return Err(Error::Argument("k: expected at least 1, got 0".into()));
        }
        let query = Query::new(self, users, filter)?;
        let cells = users.len().saturating_mul(k);
        let mut ids = call.filled("top-k ids", cells, -1i64)?;
        let mut scores = call.filled("top-k scores", cells, f32::NEG_INFINITY)?;
        let kept = k.min(query.most()).max(1);
        let plan = query.plan(call, kept);
        let mut keys = call.filled("top-k candidates", plan.outputs().saturating_mul(kept), Key::NONE)?;
        plan.call.for_each_chunk(&mut keys, plan.block * kept, |task, keys, watch| {
            let (rows, part) = plan.task(task);
            let most = part.len() * query.width;
            let mut best: Vec<Selection> = rows.clone().map(|_| Selection::new(kept, most)).collect::<Result<_>>()?;
            query.visit(rows, part, &mut best, watch)?;
            for (keys, best) in keys.chunks_exact_mut(kept).zip(&mut best) {
                let best = best.finish();
                keys.fill(Key::NONE);
                keys[..best.len()].copy_from_slice(best);
            }
            Ok(())
        })?;
        call.one_by_one(users.len(), |row, watch| {
            let mut best = Selection::new(kept, plan.parts * kept)?;
            for at in plan.outputs_of(row) {
                keys[at * kept..][..kept].iter().take_while(|&&key| key != Key::NONE).for_each(|&key| best.show(key));
            }
            let best = best.finish();
            let (ids, scores) = (&mut ids[row * k..][..best.len()], &mut scores[row * k..][..best.len()]);
            for ((id, score), key) in ids.iter_mut().zip(&mut *scores).zip(best) {
                (*id, *score) = (key.item().into(), key.score());
            }
            self.rescale(scores, scale);
            watch.stopped(plan.parts * kept * STEPS_TO_MERGE);
            Ok(())
        })?;
        Ok(TopK { ids, scores, k })
    }

    /// For each row, how many other items that the filter leaves score at least as high as `items[row]`: ties count against it.
    ///
    /// # Errors
    /// [`Error::Argument`] when lengths differ, and as for [`Engine::top_k`]; [`Error::OutOfRange`]; [`Error::Memory`];
    /// [`Error::Interrupted`].
    pub fn rank_of(&self, users: &Users<'_>, items: &[u32], filter: &Filter<'_>, call: Call<'_>) -> Result<Vec<i64>> {
        let query = Query::new(self, users, filter)?;
        let logits = self.score_batch(users, items, Scale::Logit, call)?;
        let plan = query.plan(call, 1);
        let counts = plan.call.in_chunks("rank counts", plan.outputs(), plan.block, 0i64, |task, counts, watch| {
            let (rows, part) = plan.task(task);
            let mut rivals: Vec<Rivals> =
                rows.clone().map(|row| Rivals { item: items[row], logit: logits[row], count: 0 }).collect();
            query.visit(rows, part, &mut rivals, watch)?;
            counts.iter_mut().zip(rivals).for_each(|(count, rivals)| *count = rivals.count);
            Ok(())
        })?;
        Ok((0..users.len()).map(|row| plan.outputs_of(row).map(|at| counts[at]).sum()).collect())
    }
}

/// What is done with the items that reach a threshold.
trait Collect {
    /// What a logit must reach to count.
    fn threshold(&self) -> f32;
    /// What a logit must reach to count for certain, whatever it is.
    fn certain(&self) -> f32;
    /// How many of the best items are wanted, where it is only the best.
    fn wanted(&self) -> Option<usize>;
    /// Makes the threshold as high as what has been taken allows.
    fn tighten(&mut self);
    /// An item that reaches the threshold.
    fn take(&mut self, item: u32, logit: f32);
}

impl Collect for Selection {
    fn threshold(&self) -> f32 {
        self.threshold()
    }

    fn certain(&self) -> f32 {
        f32::INFINITY
    }

    fn wanted(&self) -> Option<usize> {
        Some(self.k())
    }

    fn tighten(&mut self) {
        self.tighten();
    }

    #[inline]
    fn take(&mut self, item: u32, logit: f32) {
        self.show(Key::new(logit, item));
    }
}

/// Counts the other items that score at least `logit`.
struct Rivals {
    item: u32,
    logit: f32,
    count: i64,
}

impl Collect for Rivals {
    fn threshold(&self) -> f32 {
        self.logit
    }

    fn certain(&self) -> f32 {
        self.logit
    }

    fn wanted(&self) -> Option<usize> {
        None
    }

    fn tighten(&mut self) {}

    #[inline]
    fn take(&mut self, item: u32, _logit: f32) {
        self.count += i64::from(item != self.item);
    }
}

/// A call's users and filters, checked against each other.
struct Query<'a> {
    engine: &'a Engine,
    users: &'a Users<'a>,
    filter: &'a Filter<'a>,
    shared: Shared,
    /// What the catalogue is cut into: tiles, listed items, or each row's candidates as a whole.
    len: usize,
    /// The most items in one of these.
    width: usize,
}

/// How a call is cut into tasks: blocks of rows, and where there are few rows, parts of the catalogue.
struct Plan<'a> {
    call: Call<'a>,
    rows: usize,
    /// Rows in a block.
    block: usize,
    /// Parts of the catalogue.
    parts: usize,
    /// Tiles (or listed items) in a part.
    part_len: usize,
    /// Tiles (or listed items) in all.
    len: usize,
}

impl Plan<'_> {
    /// The rows of a task and its part of the catalogue. Blocks vary slowest, so a block's outputs lie together.
    fn task(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let (block, part) = (task / self.parts, task % self.parts);
        let (row, at) = (block * self.block, part * self.part_len);
        (row..self.rows.min(row + self.block), at..self.len.min(at + self.part_len))
    }

    /// How many outputs all tasks have: the last block counts as a whole one.
    fn outputs(&self) -> usize {
        self.rows.next_multiple_of(self.block) * self.parts
    }

    /// Where the outputs of a row lie, one for each part.
    fn outputs_of(&self, row: usize) -> impl Iterator<Item = usize> {
        let (block, within) = (row / self.block, row % self.block);
        (0..self.parts).map(move |part| (block * self.parts + part) * self.block + within)
    }
}

/// How many tiles of a length are a panel. Those of a huge network are few: between two panels a call may be stopped.
fn panel_tiles(tile_len: usize, network: &Network) -> usize {
    const MOST_WORK: usize = 1 << 27;
    let by_work = MOST_WORK / (LANES * network.multiply_adds());
    match (PANEL_BYTES / (tile_len * size_of::<Lanes>())).min(by_work) {
        few @ 0..4 => {
            if by_work < 4 {
                few.max(1)
            } else {
                4
            }
        }
        many => many.min(MOST_TILES) / 4 * 4,
    }
}

/// How many rows pass over a panel of so many tiles before a call may be stopped: some milliseconds without any SIMD.
fn rows_at_once(panel: usize, network: &Network) -> usize {
    const MOST_WORK: usize = 1 << 23;
    (MOST_WORK / (panel * LANES * network.multiply_adds())).clamp(1, USERS_PER_BLOCK)
}

/// The lanes whose bits are set, ascending.
fn lanes(mut bits: u16) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}

impl<'a> Query<'a> {
    fn new(engine: &'a Engine, users: &'a Users<'a>, filter: &'a Filter<'a>) -> Result<Self> {
        let rows = users.len();
        let one_row_each = |what: &str, got: usize| {
            let text = || format!("{what}: expected one row for each of {rows} users, got {got}");
            if got == rows { Ok(()) } else { Err(Error::Argument(text())) }
        };
        match &filter.exclude {
            Some(Exclude::Rows(csr)) => one_row_each("exclude", csr.rows())?,
            Some(Exclude::Seen(_)) if rows > 0 && users.index(0).is_none() => {
                let text = "exclude: \"seen\" needs users of the model, got user vectors; pass the rows to exclude";
                return Err(Error::Argument(text.into()));
            }
            _ => (),
        }
        if let Some(csr) = filter.candidates {
            one_row_each("allow", csr.rows())?;
        }
        let shared = filter.shared(engine.num_items(), FEW)?;
        let (len, width) = match (&shared, filter.candidates) {
            (_, Some(csr)) => (1, (0..rows).map(|row| csr.row(row).len()).max().unwrap_or(0)),
            (Shared::Few(items), None) => (items.len(), 1),
            _ => (engine.num_items().div_ceil(LANES), LANES),
        };
        Ok(Query { engine, users, filter, shared, len, width })
    }

    /// The most items that a row can get.
    fn most(&self) -> usize {
        self.engine.num_items().min(self.len * self.width)
    }

    fn excluded(&self, row: usize) -> &'a [u32] {
        match self.filter.exclude {
            None => &[],
            Some(Exclude::Rows(csr)) => csr.row(row),
            Some(Exclude::Seen(csr)) => self.users.index(row).map_or(&[], |user| csr.row(user as usize)),
        }
    }

    fn plan<'c>(&self, call: Call<'c>, outputs: usize) -> Plan<'c> {
        let (rows, len) = (self.users.len(), self.len);
        let pairs = self.filter.candidates.map_or(rows.saturating_mul(self.most()), Csr::len);
        let call = self.engine.sized(call, pairs);
        // Several tasks for each thread even out what else the machine does; but every part of the catalogue costs each row a
        // selection of its own, so there are parts only where there are few blocks, and none is short.
        let block = rows.div_ceil(call.threads).clamp(1, USERS_PER_BLOCK);
        let blocks = rows.div_ceil(block).max(1);
        let enough =
            if call.threads == 1 || blocks >= 2 * call.threads { 1 } else { (8 * call.threads).div_ceil(blocks) };
        let mut most = len.div_ceil(SHORTEST_PART).min(len * self.width / outputs);
        if self.engine.integers.is_some() {
            most = most.min((len * self.width / (SPARSE * outputs)).max(call.threads)); // integers pay where few items are wanted
        }
        let part_len = len.div_ceil(enough.min(most).max(1)).max(1);
        Plan { call, rows, block, parts: len.div_ceil(part_len).max(1), part_len, len }
    }

    /// Shows each row's collector the items of a part of the catalogue that its filters leave, ascending.
    ///
    /// # Errors
    /// [`Error::Memory`].
    fn visit<C: Collect>(
        &self,
        rows: Range<usize>,
        part: Range<usize>,
        into: &mut [C],
        watch: &Watch<'_>,
    ) -> Result<()> {
        match (&self.shared, self.filter.candidates) {
            (shared, Some(csr)) => {
                for (row, into) in rows.zip(into) {
                    let allowed = |item: &u32| match shared {
                        Shared::All => true,
                        Shared::Most(set) => set.contains(*item),
                        Shared::Few(items) => items.binary_search(item).is_ok(),
                    };
                    let mut items = reserve("candidates", csr.row(row).len())?;
                    items.extend(csr.row(row).iter().copied().filter(allowed));
                    self.visit_listed(row, &items, into, watch);
                }
            }
            (Shared::Few(items), None) => {
                for (row, into) in rows.zip(into) {
                    self.visit_listed(row, &items[part.clone()], into, watch);
                }
            }
            _ if self.engine.integers.is_some() => self.scan_in_integers(rows, part, into, watch)?,
            _ => with_scratch(&self.engine.network, |scratch| self.scan(rows, part, into, watch, scratch))?,
        }
        Ok(())
    }

    /// Shows a row's collector those of `items`, ascending, that are not excluded.
    fn visit_listed(&self, row: usize, items: &[u32], into: &mut impl Collect, watch: &Watch<'_>) {
        const AT_ONCE: usize = 1024;
        let mut excluded = Cursor::new(self.excluded(row), items.first().copied().unwrap_or(0));
        let mut left: Vec<u32> = Vec::with_capacity(items.len().min(AT_ONCE));
        let mut logits = [0.0; AT_ONCE];
        for items in items.chunks(AT_ONCE) {
            left.clear();
            left.extend(items.iter().copied().filter(|&item| !excluded.contains(item)));
            let logits = &mut logits[..left.len()];
            self.engine.score_candidates(self.users, row, &left, logits, watch);
            let _settings = StandardFloats::enter(); // else subnormal logits may compare as equal
            for (&item, &mut logit) in left.iter().zip(logits) {
                if logit >= into.threshold() {
                    into.take(item, logit);
                }
            }
        }
    }

    /// Shows each row's collector the items of these tiles that its filters leave.
    ///
    /// # Errors
    /// [`Error::Memory`].
    fn scan<C: Collect>(
        &self,
        rows: Range<usize>,
        tiles: Range<usize>,
        into: &mut [C],
        watch: &Watch<'_>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let Query { engine, users, .. } = self;
        let network = &engine.network;
        let tile_len = network.tile_len();
        let panel = panel_tiles(tile_len, network);
        let first_item = (tiles.start * LANES) as u32;
        let mut cursors: Vec<Cursor<'_>> =
            rows.clone().map(|row| Cursor::new(self.excluded(row), first_item)).collect();
        let user_rows: Vec<(&[f32], &[f32])> = rows.map(|row| network.split_row(users.row(row))).collect();
        let most = rows_at_once(panel, network).min(into.len());
        let mut hits = reserve("hits", most)?;
        for _ in 0..most {
            hits.push(Hits::new(panel.min(tiles.len()))?);
        }
        for first in tiles.clone().step_by(panel) {
            let here = first..tiles.end.min(first + panel);
            let lines = &engine.item_tiles[here.start * tile_len..here.end * tile_len];
            let ahead = &engine.item_tiles[here.end * tile_len..];
            let blocks = user_rows.chunks(most).zip(into.chunks_mut(most)).zip(cursors.chunks_mut(most));
            for (n, ((users, into), cursors)) in blocks.enumerate() {
                let work = lines.len() + users.len() * here.len() * network.multiply_adds();
                if watch.stopped(LANES * work) {
                    return Ok(());
                }
                hits.iter_mut().zip(&*into).for_each(|(hits, into)| hits.seek(into.threshold()));
                engine.isa.run(Scan {
                    network,
                    tiles: lines,
                    ahead: if n == 0 { ahead } else { &[] },
                    users,
                    scratch,
                    hits: &mut hits,
                });
                for (hits, (into, cursor)) in hits.iter().zip(into.iter_mut().zip(cursors)) {
                    for hit in hits.found() {
                        let tile = here.start + hit.tile;
                        let excluded = cursor.sixteen((tile * LANES) as u32);
                        for lane in lanes(hit.lanes & self.real_and_shared(tile) & !excluded) {
                            into.take((tile * LANES + lane) as u32, hit.logits[lane]);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The lanes of a tile that are items at all, and that the shared filter leaves.
    fn real_and_shared(&self, tile: usize) -> u16 {
        let real = self.engine.num_items() - tile * LANES;
        let real = if real >= LANES { u16::MAX } else { (1 << real) - 1 };
        match &self.shared {
            Shared::Most(set) => real & set.sixteen(tile),
            _ => real,
        }
    }
}

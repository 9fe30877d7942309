//! The catalogue of a model without an MLP, whose logits are dot products, in four bits: the items by falling norm, so
//! that a scan meets the best ones first and can stop early. And the choice between it and float32.

use std::ops::Range;

use super::layout::{Layout, TILES_PER_TASK};
use super::rearranged::{NO_ITEM, rearranged};
use super::verdict::Verdict;
use crate::error::{Result, collected, filled, reserve};
use crate::kernel::gather::{PairUsers, ScorePairList};
use crate::kernel::quantized::int4::{
    CodeBits, EstimateDots, EstimateDotsOfMany, Int4, Int4User, Interval, ItemCode, LowerSums, UserGroup, two_bf16,
};
use crate::kernel::row_table::{ItemRows, RowTable};
use crate::kernel::survivors::Survivors;
use crate::kernel::weights::Scratch;
use crate::kernel::{Aligned, IntegerIsa, LANES, Lanes, StandardFloats};
use crate::pool::{Call, Watch};

/// The items in four bits, in the order of falling norm.
#[derive(Debug)]
pub(crate) struct DotCatalogue {
    pub(crate) isa: IntegerIsa,
    pub(crate) int4: Int4,
    /// The item at each position.
    items: Vec<PlacedItem>,
    /// The largest norm in each tile.
    norms: Vec<f32>,
    tiles: Aligned,
    /// The lower halves of the codes, one row for each position.
    rows: Aligned,
    /// The errors of longer codes, one line for each tile.
    errors: Aligned,
}

/// An item, and the numbers of its codes once more, in one place for items that are met one by one.
#[derive(Debug, Clone, Copy)]
struct PlacedItem {
    item: u32,
    /// Its scale and its coarse error.
    coarse: f32,
    /// Its medium and its fine error.
    longer: f32,
}

impl DotCatalogue {
    /// Lays out the items in `rows`. `None` if they have too many features.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory); [`Error::Interrupted`](crate::Error::Interrupted).
    pub(super) fn new(layout: &Layout<'_>, isa: IntegerIsa, rows: &RowTable) -> Result<Option<Self>> {
        let (network, call, count) = (layout.network, layout.call, rows.count());
        let features = |item: usize| network.split_row(rows.row(item)).1;
        let per_task = TILES_PER_TASK * LANES;
        let codes = call.in_chunks("item codes", count, per_task, ItemCode::default(), |n, codes, watch| {
            for (item, code) in (n * per_task..).zip(codes) {
                if watch.stopped(WORK_PER_CODE * network.g) {
                    break;
                }
                *code = ItemCode::new(features(item))?;
            }
            Ok(())
        })?;
        let largest = codes.iter().copied().fold(ItemCode::default(), ItemCode::max);
        let Some(int4) = Int4::new(network.g, network.output_bias, largest) else { return Ok(None) };

        let mut order: Vec<u32> = reserve("items by norm", count)?;
        order.extend(0..count as u32);
        order.sort_unstable_by(|&a, &b| codes[b as usize].norm.total_cmp(&codes[a as usize].norm).then(a.cmp(&b)));
        let code = |position: usize| (codes[order[position] as usize], features(order[position] as usize));

        let mut tiles = Aligned::zeros("item tiles", count.div_ceil(LANES).saturating_mul(int4.tile_len()))?;
        call.for_each_chunk(&mut tiles, TILES_PER_TASK * int4.tile_len(), |n, tiles, watch| {
            for (tile, lines) in (n * TILES_PER_TASK..).zip(tiles.chunks_exact_mut(int4.tile_len())) {
                for position in tile * LANES..count.min((tile + 1) * LANES) {
                    if watch.stopped(WORK_PER_CODE * network.g) {
                        return Ok(());
                    }
                    let (code, features) = code(position);
                    code.place_in_tile(features, position % LANES, lines)?;
                }
            }
            Ok(())
        })?;
        let mut lower = Aligned::zeros("item tiles", count.saturating_mul(int4.row_len()))?;
        call.for_each_chunk(&mut lower, per_task * int4.row_len(), |n, rows, watch| {
            for (position, row) in (n * per_task..).zip(rows.chunks_exact_mut(int4.row_len())) {
                if watch.stopped(WORK_PER_CODE * network.g) {
                    return Ok(());
                }
                let (code, features) = code(position);
                code.place_in_row(features, row)?;
            }
            Ok(())
        })?;
        let mut norms = reserve("norms", count.div_ceil(LANES))?;
        norms.extend((0..count).step_by(LANES).map(|position| code(position).0.norm));
        let mut errors = Aligned::zeros("item tiles", count.div_ceil(LANES))?;
        errors.as_flattened_mut().iter_mut().zip(0..count).for_each(|(to, at)| *to = code(at).0.errors());
        let mut items = reserve("items by norm", count)?;
        let placed = |&item: &u32| {
            let code = codes[item as usize];
            PlacedItem { item, coarse: code.header(), longer: code.errors() }
        };
        items.extend(order.iter().map(placed));
        Ok(Some(DotCatalogue { isa, int4, items, norms, tiles, rows: lower, errors }))
    }

    /// The same items in another order: `items` has an item or [`NO_ITEM`] for each position of whole tiles, those of a
    /// list in the present order, so that norms fall within it.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory); [`Error::Interrupted`](crate::Error::Interrupted).
    pub(super) fn listed(&self, items: &[u32], call: Call<'_>) -> Result<Self> {
        let mut position_of = filled("positions", self.items.len(), 0)?;
        (0..).zip(&self.items).for_each(|(position, placed)| position_of[placed.item as usize] = position);
        let position = |&item: &u32| if item == NO_ITEM { NO_ITEM } else { position_of[item as usize] };
        let positions = collected("positions", items.iter().map(position))?;

        let row_len = self.int4.row_len();
        let mut rows = Aligned::zeros("item tiles", positions.len().saturating_mul(row_len))?;
        let per_task = TILES_PER_TASK * LANES;
        call.for_each_chunk(&mut rows, per_task * row_len, |n, rows, watch| {
            for (row, &position) in rows.chunks_exact_mut(row_len).zip(&positions[n * per_task..]) {
                if watch.stopped(row_len * LANES) {
                    return Ok(());
                }
                if position != NO_ITEM {
                    row.copy_from_slice(&self.rows[position as usize * row_len..][..row_len]);
                }
            }
            Ok(())
        })?;
        let placed = |&position: &u32| match position {
            NO_ITEM => PlacedItem { item: NO_ITEM, coarse: 0.0, longer: 0.0 },
            _ => self.items[position as usize],
        };
        // The first item of a tile, which is never padding, has the largest norm of the list from there on.
        let norm = |tile: &[u32]| self.norms[tile[0] as usize / LANES];
        Ok(DotCatalogue {
            isa: self.isa,
            int4: self.int4,
            items: collected("items", positions.iter().map(placed))?,
            norms: collected("norms", positions.chunks_exact(LANES).map(norm))?,
            tiles: rearranged(&self.tiles, self.int4.tile_len(), 0..0, &positions, call)?,
            rows,
            errors: rearranged(&self.errors, 1, 0..0, &positions, call)?,
        })
    }

    pub(crate) fn nbytes(&self) -> usize {
        self.tiles.nbytes()
            + self.rows.nbytes()
            + self.errors.nbytes()
            + size_of_val(&self.items[..])
            + size_of_val(&self.norms[..])
    }

    /// The item at a position; `None` if it is only padding of the last tile.
    #[inline]
    pub(crate) fn item(&self, position: u32) -> Option<u32> {
        self.items.get(position as usize).map(|placed| placed.item).filter(|&item| item != NO_ITEM)
    }

    /// The items at these positions.
    pub(crate) fn items_at(&self, positions: Range<usize>) -> impl Iterator<Item = u32> {
        self.items[positions].iter().map(|placed| placed.item)
    }

    /// The largest norm in a tile and all later ones.
    #[inline]
    pub(crate) fn norm(&self, tile: usize) -> f32 {
        self.norms[tile]
    }

    /// Estimates the upper ends of `tiles` in four bits, and records those that reach the threshold.
    pub(crate) fn estimate(&self, user: &Int4User, tiles: Range<usize>, survivors: &mut Survivors) {
        let (count, tiles) = (tiles.len(), &self.tiles[tiles.start * self.int4.tile_len()..]);
        self.isa.run(EstimateDots { user, tiles, count, survivors });
    }

    /// The integer sums of the lower halves of the items at `positions`, sixteen in each line.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn lower_sums(&self, user: &Int4User, positions: &[u32], sums: &mut Vec<Lanes>) -> Result<()> {
        let lines = positions.len().div_ceil(LANES);
        if sums.len() < lines {
            *sums = filled("sums of lower halves", lines, [0.0; LANES])?;
        }
        self.isa.run(LowerSums { user, rows: &self.rows, positions, sums: &mut sums[..lines] });
        Ok(())
    }

    /// As [`DotCatalogue::estimate`], in seven bits for many users; `survivors` has one entry for each.
    pub(crate) fn estimate_many(
        &self,
        groups: &[UserGroup],
        tiles: Range<usize>,
        expanded: &mut [Lanes],
        survivors: &mut [Survivors],
    ) {
        let (tile_len, row_len) = (self.int4.tile_len(), LANES * self.int4.row_len());
        self.isa.run(EstimateDotsOfMany {
            groups,
            tiles: &self.tiles[tiles.start * tile_len..tiles.end * tile_len],
            rows: &self.rows[tiles.start * row_len..],
            errors: &self.errors[tiles],
            expanded,
            survivors,
        });
    }

    /// What an estimate in these bits with this upper end proves for the item at a position.
    #[inline]
    pub(crate) fn interval(&self, user: &Int4User, bits: CodeBits, position: u32, upper: f32) -> Interval {
        let placed = &self.items[position as usize];
        let [scale, coarse_error] = two_bf16(placed.coarse);
        let error = match bits {
            CodeBits::Four => coarse_error,
            CodeBits::Seven => two_bf16(placed.longer)[0],
        };
        user.interval([scale, error], upper)
    }

    /// What a coarse estimate with this upper end and the integer sum of the lower halves prove together.
    #[inline]
    pub(crate) fn refined(&self, user: &Int4User, position: u32, upper: f32, sum: f32) -> Interval {
        let placed = &self.items[position as usize];
        user.refined(two_bf16(placed.coarse), upper, sum, two_bf16(placed.longer)[1])
    }
}

/// The cost of quantizing a feature, in multiply-adds.
const WORK_PER_CODE: usize = 64;

/// The minimum items: a smaller catalogue is scanned fast anyway.
const MIN_ITEMS: usize = 1024;

/// The costs of a scan, in multiply-adds: of a float32 feature, which four bytes have to be read for, and of a feature
/// in four bits; of refining an item, for each feature and in addition; and of rescoring one.
const FLOAT32_FEATURE: usize = 4;
const INT4_FEATURE: usize = 1;
const REFINED_FEATURE: usize = 2;
const REFINED: usize = 500;
const RESCORED_FEATURE: usize = 24;
const RESCORED: usize = 2000;

/// Users in a sample.
const SAMPLE_USERS: usize = 16;

/// The `k` of the sample's top-k queries.
const SAMPLE_K: usize = 10;

/// Whether a scan in four bits may pay.
pub(super) fn dots_may_pay(items: usize) -> bool {
    items >= MIN_ITEMS
}

/// A sample of the model's users, for each of whom the top [`SAMPLE_K`] items are found.
pub(super) struct DotSample<'a> {
    pub(super) layout: &'a Layout<'a>,
    pub(super) catalogue: &'a DotCatalogue,
    pub(super) item_rows: &'a ItemRows,
    pub(super) user_rows: &'a RowTable,
}

impl DotSample<'_> {
    /// Whether a scan in four bits costs less than one in float32, for a sample of users, evenly spaced, and why.
    ///
    /// # Errors
    /// [`crate::Error::Memory`]; [`crate::Error::Interrupted`].
    pub(super) fn verdict(&self) -> Result<Verdict> {
        let (users, items, width) = (self.user_rows.count(), self.item_rows.count(), self.layout.network.g);
        let sample = SAMPLE_USERS.min(users);
        let survivors = self.layout.call.in_chunks("sample of users", sample, 1, (0, 0), |n, survivors, watch| {
            survivors[0] = self.survivors(n * (users / sample), watch)?;
            Ok(())
        })?;
        let (coarse, fine) = survivors.iter().fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        let cost = sample * items * width * INT4_FEATURE
            + coarse * (REFINED + width * REFINED_FEATURE)
            + fine * (RESCORED + width * RESCORED_FEATURE);
        let float32 = sample * items * width * FLOAT32_FEATURE;
        let percent = |count: usize| 100.0 * count as f64 / (sample * items) as f64;
        let why = format!(
            "{:.2} % of the items are refined and {:.2} % rescored for a top-{SAMPLE_K} of a sample of {sample} users",
            percent(coarse),
            percent(fine)
        );
        Ok(Verdict { pays: cost <= float32, why })
    }

    /// The numbers of items of a user that have to be refined and rescored, given the final threshold.
    fn survivors(&self, user: usize, watch: &Watch<'_>) -> Result<(usize, usize)> {
        let (network, catalogue, items) = (self.layout.network, self.catalogue, self.item_rows.count());
        let row = self.user_rows.row(user);
        let Some(user) = catalogue.int4.user(network.split_row(row).1, CodeBits::Four)? else {
            return Ok((items, items));
        };
        let mut survivors = Survivors::new(items.div_ceil(LANES))?;
        survivors.reset(f32::MIN);
        catalogue.estimate(&user, 0..items.div_ceil(LANES), &mut survivors);
        if watch.stopped(items * network.g) {
            return Ok((items, items));
        }
        let _settings = StandardFloats::enter();
        let mut upper: Vec<(f32, u32)> = reserve("estimates of a sample", items)?;
        let all = survivors.found().iter().flat_map(|tile| tile.logits.into_iter().zip((tile.tile * LANES) as u32..));
        upper.extend(all.filter(|&(_, position)| (position as usize) < items));
        let middle = |&(upper, position): &(f32, u32)| {
            let interval = catalogue.interval(&user, CodeBits::Four, position, upper);
            interval.lower + interval.upper
        };
        let last = SAMPLE_K.min(items) - 1;
        upper.select_nth_unstable_by(last, |a, b| middle(b).total_cmp(&middle(a)));
        let best: Vec<u32> = upper[..=last].iter().map(|&(_, at)| catalogue.items[at as usize].item).collect();
        let mut logits = vec![0.0; best.len()];
        let mut scratch = Scratch::default();
        scratch.fit(network)?;
        self.layout.isa.run(ScorePairList {
            network,
            users: PairUsers::One(row),
            item_rows: self.item_rows,
            items: &best,
            logits: &mut logits,
            watch,
            scratch: &mut scratch,
        });
        let needed = user.upper_for(logits.into_iter().fold(f32::INFINITY, f32::min));
        upper.retain(|&(upper, _)| f64::from(upper) >= needed);
        let positions = collected("estimates of a sample", upper.iter().map(|&(_, position)| position))?;
        let mut sums = Vec::new();
        catalogue.lower_sums(&user, &positions, &mut sums)?;
        let refined = upper.iter().zip(sums.as_flattened());
        let fine =
            refined.filter(|&(&(upper, at), &sum)| catalogue.refined(&user, at, upper, sum).upper >= needed).count();
        Ok((upper.len(), fine))
    }
}

//! Chooses the scan precision of a catalogue by counting multiply-adds and scanning for a sample of the model's users,
//! never by timing, so that every run makes the same choice.
//!
//! Costs are in float32 multiply-adds per item. A multiply-add of the second layer costs less in integers, by how much
//! depends on the instruction set ([`IntegerIsa::costs`]). In return, survivors are rescored from rows.

use super::catalogue::QuantizedCatalogue;
use super::layout::Layout;
use super::verdict::Verdict;
use crate::error::{Result, filled, reserve};
use crate::kernel::gather::{PairUsers, ScorePairList};
use crate::kernel::quantized::estimate::Estimate;
use crate::kernel::quantized::tiles::IntegerWidth;
use crate::kernel::row_table::{ItemRows, RowTable};
use crate::kernel::survivors::Survivors;
use crate::kernel::weights::{Network, Scratch};
use crate::kernel::{IntegerCosts, IntegerIsa, LANES, StandardFloats};
use crate::pool::Watch;

/// The precision of the scan. Results are the same, bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanPrecision {
    /// The fastest precision for the model. Quantized scans pay if the catalogue and the second hidden layer are large
    /// and the error bound is tight.
    Auto,
    /// Float32.
    Float32,
    /// Int16 with a proven error bound; survivors are rescored in float32. Falls back to float32 for models without a
    /// second hidden layer and on instruction sets where integers are not faster.
    Int16,
    /// Int8 with a proven error bound; falls back to int16 for users for whom the bound does not hold or leaves too
    /// many survivors, and to float32 as [`ScanPrecision::Int16`] does.
    Int8,
    /// Dot products in four bits with a proven error bound; items that stay open are refined by four more bits and then
    /// rescored in float32. Falls back to float32 for models with an MLP and on instruction sets where integers are not
    /// faster.
    Int4,
}

impl ScanPrecision {
    /// `auto`, `float32`, `int16`, `int8` or `int4`.
    pub fn name(self) -> &'static str {
        match self {
            ScanPrecision::Auto => "auto",
            ScanPrecision::Float32 => "float32",
            ScanPrecision::Int16 => "int16",
            ScanPrecision::Int8 => "int8",
            ScanPrecision::Int4 => "int4",
        }
    }
}

/// The minimum items for a quantized scan: a smaller catalogue is scanned fast anyway, and a larger share of it scores
/// close to the k-th best item.
const MIN_ITEMS: usize = 1024;

/// The cost of reading one feature from a row and transposing it into lanes.
const WORK_PER_FEATURE: usize = 24;

/// The cost of storing, comparing and sorting a survivor, including those that survive only because the best items are
/// not known yet.
const WORK_PER_SURVIVOR: usize = 2000;

/// The maximum multiply-adds of a sample; [`MIN_USERS`] users are sampled even if they exceed it.
const SAMPLE_WORK: usize = 1 << 30;

/// The minimum and maximum number of users in a sample.
const MIN_USERS: usize = 4;
const MAX_USERS: usize = 64;

/// The `k` of the sample's top-k queries.
const SAMPLE_K: usize = 10;

/// Tiles between two interrupt checks.
const PANEL_TILES: usize = 256;

/// Whether a quantized scan may pay off: it halves the cost of the second layer but has an overhead, so that layer must
/// be large and at least half of the work.
pub(super) fn quantized_may_pay(network: &Network, items: usize) -> bool {
    const LARGE: usize = 256;
    let second = second_layer(network);
    items >= MIN_ITEMS && second >= LARGE && 2 * second >= network.multiply_adds()
}

/// Whether a scan in this width that rescored `survivors` of `items` was cheaper than a scan in the next wider one
/// (int16 or float32) without any rescoring.
pub(crate) fn pays(network: &Network, isa: IntegerIsa, width: IntegerWidth, survivors: usize, items: usize) -> bool {
    let IntegerCosts { int16, int8 } = isa.costs();
    let saved = match width {
        IntegerWidth::Int8 => int16 - int8,
        IntegerWidth::Int16 => 1.0 - int16,
    };
    let row = network.multiply_adds() + WORK_PER_FEATURE * network.tile_len() + WORK_PER_SURVIVOR;
    survivors as f64 * row as f64 <= saved * second_layer(network) as f64 * items as f64
}

fn second_layer(network: &Network) -> usize {
    network.layers.first().map_or(0, |layer| layer.inputs * layer.bias().len())
}

/// A sample of the model's users, for each of whom the top [`SAMPLE_K`] items of a quantized catalogue are found.
pub(super) struct Sample<'a> {
    pub(super) layout: &'a Layout<'a>,
    pub(super) catalogue: &'a QuantizedCatalogue,
    pub(super) item_rows: &'a ItemRows,
    pub(super) user_rows: &'a RowTable,
}

impl Sample<'_> {
    /// Whether the narrowest integers of the catalogue pay off for a sample of users, evenly spaced, and why.
    ///
    /// # Errors
    /// [`crate::Error::Memory`]; [`crate::Error::Interrupted`].
    pub(super) fn verdict(&self) -> Result<Verdict> {
        let (network, users, items) = (self.layout.network, self.user_rows.count(), self.item_rows.count());
        let affordable = SAMPLE_WORK / items.saturating_mul(network.multiply_adds());
        let sample = affordable.clamp(MIN_USERS, MAX_USERS).min(users);
        let step = users / sample;
        let survivors = self.layout.call.in_chunks("sample of users", sample, 1, 0, |n, survivors, watch| {
            survivors[0] = self.survivors(n * step, watch)?;
            Ok(())
        })?;
        let (width, survivors) = (self.catalogue.quantization.narrowest(), survivors.iter().sum());
        let percent = 100.0 * survivors as f64 / (sample * items) as f64;
        let why =
            format!("{percent:.2} % of the items are rescored for a top-{SAMPLE_K} of a sample of {sample} users");
        Ok(Verdict { pays: pays(network, self.catalogue.isa, width, survivors, sample * items), why })
    }

    /// The number of survivors of a user, given the final threshold.
    fn survivors(&self, user: usize, watch: &Watch<'_>) -> Result<usize> {
        let (network, items) = (self.layout.network, self.item_rows.count());
        let QuantizedCatalogue { isa, quantization, .. } = self.catalogue;
        let tiles = self.catalogue.tiles();
        let (b, gmf) = network.split_row(self.user_rows.row(user));
        let Some(quantized) = quantization.user(quantization.narrowest(), b, gmf)? else { return Ok(items) };
        let mut scratch = Scratch::default();
        scratch.fit(network)?;
        let mut upper = filled("estimates of a sample", items.div_ceil(LANES), [0.0; LANES])?;
        let mut survivors = Survivors::new(PANEL_TILES)?;
        for (n, upper) in upper.chunks_mut(PANEL_TILES).enumerate() {
            if watch.stopped(PANEL_TILES * LANES * network.multiply_adds()) {
                return Ok(items);
            }
            survivors.reset(f32::NEG_INFINITY);
            isa.run(Estimate {
                network,
                tiles: tiles.slice(n * PANEL_TILES..n * PANEL_TILES + upper.len()),
                ahead: None,
                user: &quantized,
                scratch: &mut scratch,
                survivors: &mut survivors,
            });
            upper.iter_mut().zip(survivors.found()).for_each(|(upper, survivor)| *upper = survivor.logits);
        }
        let _settings = StandardFloats::enter();
        let upper = &upper.as_flattened()[..items];
        let mut best = reserve("estimates of a sample", items)?;
        best.extend(upper.iter().enumerate().map(|(item, upper)| (upper - tiles.spread(item), item)));
        let last = SAMPLE_K.min(items) - 1;
        best.select_nth_unstable_by(last, |a, b| b.0.total_cmp(&a.0));
        let best: Vec<u32> = best[..=last].iter().map(|&(_, item)| item as u32).collect();
        let mut logits = vec![0.0; best.len()];
        self.layout.isa.run(ScorePairList {
            network,
            users: PairUsers::One(self.user_rows.row(user)),
            item_rows: self.item_rows,
            items: &best,
            logits: &mut logits,
            watch,
            scratch: &mut scratch,
        });
        let kth_logit = f64::from(logits.into_iter().fold(f32::INFINITY, f32::min));
        Ok(upper.iter().filter(|&&upper| f64::from(upper) + quantized.error >= kth_logit).count())
    }
}

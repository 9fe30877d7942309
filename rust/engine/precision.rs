//! In which precision a catalogue is scanned: decided by counting multiply-adds and by a sample of the model's users, never by timing, so
//! that it is the same on every run.
//!
//! Costs are in float32 multiply-adds for one item. An integer multiply-add of the second layer costs a half in int16 and a quarter in int8;
//! and survivors are rescored from rows.

use super::catalogue::QuantizedCatalogue;
use super::layout::Layout;
use crate::error::{Result, filled, reserve};
use crate::kernel::gather::{OneUser, PairGroup, ScorePairs, SixteenRows};
use crate::kernel::quantized::estimate::Estimate;
use crate::kernel::quantized::tiles::IntegerWidth;
use crate::kernel::row_table::RowTable;
use crate::kernel::survivors::Survivors;
use crate::kernel::weights::{Network, Scratch};
use crate::kernel::{LANES, StandardFloats};
use crate::pool::Watch;

/// How the catalogue is scanned. The answers are the same, bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanPrecision {
    /// In the integers that pay for the model, if any: a catalogue and a second hidden layer large enough, estimates good enough.
    Auto,
    /// In float32.
    Float32,
    /// In int16 with a proven bound of the error, and in float32 what the bound leaves open. For models without a hidden layer after
    /// the first and for instruction sets where integers are not faster, in float32.
    Int16,
    /// In int8 with a proven bound, and in int16 for users to whom that does not apply or for whom it leaves too much open. For models
    /// and instruction sets as with [`ScanPrecision::Int16`], in float32.
    Int8,
}

/// The fewest items for which a quantized scan pays: fewer are soon scanned, and a larger share of them lies near the k-th best.
const MANY_ITEMS: usize = 1024;

/// The cost of reading one feature from a row and transposing it into lanes.
const ROW_FEATURE: usize = 24;

/// The cost of keeping, comparing and sorting a survivor, and of those that survive while the best items are not known yet.
const SURVIVOR: usize = 2000;

/// The multiply-adds that a sample may cost; [`FEWEST`] users are sampled even where they cost more.
const SAMPLE_WORK: usize = 1 << 30;

/// Users in a sample, at least and at most.
const FEWEST: usize = 4;
const MOST: usize = 64;

/// How many items each user of the sample looks for.
const BEST: usize = 10;

/// Tiles between two checks whether to stop.
const TILES: usize = 256;

/// Whether a quantized scan may pay: it halves the second layer's cost and adds some of its own, so that layer has to be large, and most of
/// the work.
pub(super) fn quantized_may_pay(network: &Network, items: usize) -> bool {
    const LARGE: usize = 256;
    let second = second_layer(network);
    items >= MANY_ITEMS && second >= LARGE && 2 * second >= network.multiply_adds()
}

/// Whether a scan in this width that rescored `survivors` of `items` was cheaper than one in the next wider numbers (int16, or float32) that
/// rescored none.
pub(crate) fn pays(network: &Network, width: IntegerWidth, survivors: usize, items: usize) -> bool {
    let saved = match width {
        IntegerWidth::Int8 => second_layer(network) / 4,
        IntegerWidth::Int16 => second_layer(network) / 2,
    };
    let row = network.multiply_adds() + ROW_FEATURE * network.tile_len() + SURVIVOR;
    survivors.saturating_mul(row) <= saved * items
}

fn second_layer(network: &Network) -> usize {
    network.layers.first().map_or(0, |layer| layer.inputs * layer.bias().len())
}

/// A sample of a model's users, each of whom looks for their [`BEST`] items in a quantized catalogue.
pub(super) struct Sample<'a> {
    pub(super) layout: &'a Layout<'a>,
    pub(super) catalogue: &'a QuantizedCatalogue,
    pub(super) item_rows: &'a RowTable,
    pub(super) user_rows: &'a RowTable,
}

impl Sample<'_> {
    /// Whether the catalogue's narrowest integers pay for users spread over the whole model.
    ///
    /// # Errors
    /// [`crate::Error::Memory`]; [`crate::Error::Interrupted`].
    pub(super) fn pays(&self) -> Result<bool> {
        let (network, users, items) = (self.layout.network, self.user_rows.count(), self.item_rows.count());
        let affordable = SAMPLE_WORK / items.saturating_mul(network.multiply_adds());
        let sample = affordable.clamp(FEWEST, MOST).min(users);
        let step = users / sample;
        let survivors = self.layout.call.in_chunks("sample of users", sample, 1, 0, |n, survivors, watch| {
            survivors[0] = self.survivors(n * step, watch)?;
            Ok(())
        })?;
        Ok(pays(network, self.catalogue.quantization.narrowest(), survivors.iter().sum(), sample * items))
    }

    /// How many items have to be rescored for a user whose best items are known.
    fn survivors(&self, user: usize, watch: &Watch<'_>) -> Result<usize> {
        let (network, items) = (self.layout.network, self.item_rows.count());
        let QuantizedCatalogue { isa, quantization, .. } = self.catalogue;
        let tiles = self.catalogue.tiles();
        let (b, gmf) = network.split_row(self.user_rows.row(user));
        let Some(quantized) = quantization.user(quantization.narrowest(), b, gmf) else { return Ok(items) };
        let mut scratch = Scratch::default();
        scratch.fit(network);
        let mut most = filled("estimates of a sample", items.div_ceil(LANES), [0.0; LANES])?;
        let mut survivors = Survivors::new(TILES)?;
        for (n, most) in most.chunks_mut(TILES).enumerate() {
            if watch.stopped(TILES * LANES * network.multiply_adds()) {
                return Ok(items);
            }
            survivors.reset(f32::NEG_INFINITY);
            isa.run(Estimate {
                network,
                tiles: tiles.slice(n * TILES..n * TILES + most.len()),
                ahead: None,
                user: &quantized,
                scratch: &mut scratch,
                survivors: &mut survivors,
            });
            most.iter_mut().zip(survivors.found()).for_each(|(most, survivor)| *most = survivor.logits);
        }
        let _settings = StandardFloats::enter();
        let most = &most.as_flattened()[..items];
        let mut best = reserve("estimates of a sample", items)?;
        best.extend(most.iter().enumerate().map(|(item, most)| (most - tiles.spread(item), item)));
        let last = BEST.min(items) - 1;
        best.select_nth_unstable_by(last, |a, b| b.0.total_cmp(&a.0));
        let mut group =
            PairGroup { users: OneUser::new(self.user_rows.row(user)), items: SixteenRows::new(self.item_rows) };
        let best: Vec<u32> = best[..=last].iter().map(|&(_, item)| item as u32).collect();
        group.items.locate(&best, 0);
        let logits = self.layout.isa.run(ScorePairs { network, group: &group, ahead: None, scratch: &mut scratch });
        let worst = f64::from(logits.into_iter().fold(f32::INFINITY, f32::min));
        Ok(most.iter().filter(|&&most| f64::from(most) + quantized.error >= worst).count())
    }
}

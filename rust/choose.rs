//! Which pass over the catalogue pays for a model: by counting multiply-adds and a sample of its users, never by timing, so that it
//! is the same on every run.
//!
//! The costs are in float32 multiply-adds for one item. Of the second layer an integer multiply-add costs a half in int16 and a
//! quarter in int8; and what the estimates leave open is scored again from rows.

use crate::error::{Result, filled, reserve};
use crate::kernel::bounds::Integers;
use crate::kernel::hits::Hits;
use crate::kernel::integer::{Estimate, Tiles, Width};
use crate::kernel::network::{Network, Scratch};
use crate::kernel::rows::{Group, Pairs, Rows, Same, Sixteen};
use crate::kernel::{IntegerIsa, Isa, LANES, StandardFloats};
use crate::pool::{Call, Watch};

/// Items from which on a scan in integers pays: fewer are soon scanned, and a larger share of them lies near the k-th best.
const MANY_ITEMS: usize = 1024;

/// Reading one feature from a row and turning it into lanes.
const ROW_FEATURE: usize = 24;

/// Keeping an item that is left open, comparing and sorting it; and what is left open while the best are not known yet.
const OPEN_ITEM: usize = 2000;

/// The multiply-adds of a sample, where that is not less than [`FEWEST`] users.
const SAMPLE: usize = 1 << 30;

/// Users in a sample, at least and at most.
const FEWEST: usize = 4;
const MOST: usize = 64;

/// The best so many items are what is looked for in the sample.
const BEST: usize = 10;

/// Tiles between two looks at whether to give up.
const TILES: usize = 256;

/// Whether a scan in integers may pay: it halves the second layer's cost and raises that of its surroundings, so that layer has to be
/// large, and most of the work.
pub(crate) fn integers_may_pay(network: &Network, items: usize) -> bool {
    const LARGE: usize = 256;
    let second = second_layer(network);
    items >= MANY_ITEMS && second >= LARGE && 2 * second >= network.multiply_adds()
}

/// Whether a scan of this width that left `open` of `items` to float32 was cheaper than one of the next that left none: than one in
/// int16, or in float32.
pub(crate) fn pays(network: &Network, width: Width, open: usize, items: usize) -> bool {
    let saved = match width {
        Width::Int8 => second_layer(network) / 4,
        Width::Int16 => second_layer(network) / 2,
    };
    let row = network.multiply_adds() + ROW_FEATURE * network.tile_len() + OPEN_ITEM;
    open.saturating_mul(row) <= saved * items
}

fn second_layer(network: &Network) -> usize {
    network.layers.first().map_or(0, |layer| layer.inputs * layer.bias().len())
}

/// A laid out model.
pub(crate) struct Candidate<'a> {
    pub(crate) isa: Isa,
    pub(crate) network: &'a Network,
    pub(crate) integers: &'a (IntegerIsa, Integers),
    pub(crate) items: usize,
    pub(crate) tiles: Tiles<'a>,
    pub(crate) item_rows: &'a Rows,
    pub(crate) user_rows: &'a Rows,
    pub(crate) call: Call<'a>,
}

impl Candidate<'_> {
    /// Whether integers of the smallest width that is laid out pay for the model's users on the whole: some of them, spread over all,
    /// look for their [`BEST`] items.
    ///
    /// # Errors
    /// [`crate::Error::Memory`]; [`crate::Error::Interrupted`].
    pub(crate) fn pays(&self) -> Result<bool> {
        let users = self.user_rows.count();
        let sample = (SAMPLE / self.items.saturating_mul(self.network.multiply_adds())).clamp(FEWEST, MOST).min(users);
        let step = users / sample;
        let open = self.call.in_chunks("sample of users", sample, 1, 0, |n, open, watch| {
            open[0] = self.open(n * step, watch)?;
            Ok(())
        })?;
        Ok(pays(self.network, self.integers.1.width(), open.iter().sum(), sample * self.items))
    }

    /// How many items the integers leave open when the user's best ones are known.
    fn open(&self, user: usize, watch: &Watch<'_>) -> Result<usize> {
        let Candidate { network, items, .. } = *self;
        let (isa, integers) = self.integers;
        let width = integers.width();
        let (b, gmf) = network.split_row(self.user_rows.row(user));
        let Some(in_integers) = integers.user(width, b, gmf) else { return Ok(items) };
        let mut scratch = Scratch::default();
        scratch.fit(network);
        let mut most = filled("estimates of a sample", items.div_ceil(LANES), [0.0; LANES])?;
        let mut hits = Hits::new(TILES)?;
        for (n, most) in most.chunks_mut(TILES).enumerate() {
            if watch.stopped(TILES * LANES * network.multiply_adds()) {
                return Ok(items);
            }
            hits.seek(f32::NEG_INFINITY);
            isa.run(Estimate {
                network,
                layer: integers.layer(width),
                tiles: self.tiles.slice(n * TILES..n * TILES + most.len()),
                ahead: None,
                user: &in_integers,
                scratch: &mut scratch,
                hits: &mut hits,
            });
            most.iter_mut().zip(hits.found()).for_each(|(most, hit)| *most = hit.logits);
        }
        let _settings = StandardFloats::enter();
        let most = &most.as_flattened()[..items];
        let mut best = reserve("estimates of a sample", items)?;
        best.extend(most.iter().enumerate().map(|(item, most)| (most - self.tiles.spread(item), item)));
        let last = BEST.min(items) - 1;
        best.select_nth_unstable_by(last, |a, b| b.0.total_cmp(&a.0));
        let mut group = Group { users: Same::new(self.user_rows.row(user)), items: Sixteen::new(self.item_rows) };
        let best: Vec<u32> = best[..=last].iter().map(|&(_, item)| item as u32).collect();
        group.items.locate(&best, 0);
        let logits = self.isa.run(Pairs { network, group: &group, ahead: None, scratch: &mut scratch });
        let worst = f64::from(logits.into_iter().fold(f32::INFINITY, f32::min));
        Ok(most.iter().filter(|&&most| f64::from(most) + in_integers.error >= worst).count())
    }
}

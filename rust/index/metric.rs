//! The metric in which items are clustered: two items are near each other if their logits are, for the model's users.
//!
//! Let `z` `[D]` be what a logit needs of an item, the item's half of the first layer and its GMF embedding, `D = H0 +
//! G`, and `g` the gradient of a logit by `z`. To first order, moving an item by `dz` changes its logit by `g . dz`, in
//! the mean over users and items by the square root of `dz' E[g g'] dz`: that of the Euclidean distance of `L' z`, for
//! `L L' = E[g g']`.

use crate::engine::Engine;
use crate::engine::covariance::{padded, root};
use crate::engine::layout::{items_to_lanes, lanes_to_rows};
use crate::error::{Result, collected, filled};
use crate::kernel::layers::Project;
use crate::kernel::row_table::RowTable;
use crate::kernel::tangent::{TangentScratch, Tangents, Tower};
use crate::kernel::weights::Packed;
use crate::kernel::{LANES, StandardFloats};
use crate::pool::Call;
use crate::random::Permutation;

/// Gradients from which the metric is estimated.
const GRADIENTS: usize = 8192;

/// Coordinates beyond this are cut off, so that their squares cannot overflow.
const LARGEST: f32 = 1e9;

/// The map of an item to coordinates whose Euclidean distance is the metric.
pub(super) struct Metric<'a> {
    engine: &'a Engine,
    /// `L'`, times a factor that makes the coordinates of order 1.
    map: Packed,
}

impl<'a> Metric<'a> {
    /// Estimates the metric from some of `users`.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory); [`Error::Interrupted`](crate::Error::Interrupted).
    pub(super) fn new(engine: &'a Engine, users: &[u32], seed: u64, call: Call<'_>) -> Result<Self> {
        let width = engine.network.tile_len();
        let gradients = gradients(engine, users, seed, call)?;
        let count = gradients.len() / padded(width);
        let _settings = StandardFloats::enter();
        let root = root(engine.isa, &gradients, width, count, call)?;
        let no_bias = filled("metric", width, 0.0)?;
        let packed = |factor: f64| {
            Packed::new(width, &no_bias, engine.isa.block(), |o, k| (root[k * width + o] * factor) as f32)
        };
        let metric = Metric { engine, map: packed(1.0)? };
        let mut sample = filled("coordinates", LANES * metric.row_len(), 0.0)?;
        let items = collected("items", (0..LANES).map(|n| (n * engine.num_items() / LANES) as u32))?;
        metric.coordinates(&items, &mut sample)?;
        let largest = sample.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        Ok(Metric { engine, map: packed(1.0 / f64::from(largest.max(f32::MIN_POSITIVE)))? })
    }

    /// The number of coordinates.
    pub(super) fn width(&self) -> usize {
        self.map.outputs
    }

    /// The length of a row of coordinates, the last of which is 1.
    pub(super) fn row_len(&self) -> usize {
        self.width() + 1
    }

    /// Computes the coordinates of `items`, `[items, row_len]`.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(super) fn coordinates(&self, items: &[u32], to: &mut [f32]) -> Result<()> {
        let (width, engine) = (self.width(), self.engine);
        let mut features = filled("features", width, [0.0; LANES])?;
        let mut projected = filled("coordinates", width, [0.0; LANES])?;
        let mut rows = RowTable::zeros("coordinates", LANES, width.div_ceil(LANES))?;
        for (items, to) in items.chunks(LANES).zip(to.chunks_mut(LANES * self.row_len())) {
            items_to_lanes(&engine.network, engine.catalogue.rows.table(), items, &mut features);
            engine.isa.run(Project { layer: &self.map, input: &features, output: &mut projected });
            let row_len = width.div_ceil(LANES);
            lanes_to_rows(&projected, rows.lines_mut(), row_len, 0);
            for (n, to) in to.chunks_exact_mut(self.row_len()).enumerate() {
                let row = &rows.row(n).as_flattened()[..width];
                to.iter_mut().zip(row).for_each(|(to, x)| *to = x.clamp(-LARGEST, LARGEST));
                to[width] = 1.0;
            }
        }
        Ok(())
    }
}

/// Gradients of logits by the features of items, `[GRADIENTS or fewer, padded width]`: of one user and sixteen items,
/// or, without an MLP, where they do not depend on the item, of one.
fn gradients(engine: &Engine, users: &[u32], seed: u64, call: Call<'_>) -> Result<Vec<f64>> {
    let network = &engine.network;
    let (h0, g, width) = (network.h0, network.g, network.tile_len());
    let items_per_user = if h0 == 0 { 1 } else { LANES };
    let count = users.len().min(GRADIENTS / items_per_user);
    let mut only_first = filled("gradients", (g + h0) * h0, 0.0f32)?;
    (0..h0).for_each(|k| only_first[(g + k) * h0 + k] = 1.0);
    let tower = Tower::new(network, only_first, h0)?;
    let order = Permutation::new(engine.num_items(), seed);
    let per_user = items_per_user * padded(width);
    call.in_chunks("gradients", count * per_user, per_user, 0.0, |n, gradients, watch| {
        let user = users[n * users.len() / count];
        let (first, gmf) = network.split_row(engine.user_rows.row(user as usize));
        let mut by_first = filled("gradients", h0, [0.0; LANES])?;
        if h0 > 0 {
            let item = |lane: usize| order.at((n * LANES + lane) % engine.num_items()) as u32;
            let items: [u32; LANES] = std::array::from_fn(item);
            let mut features = filled("features", width, [0.0; LANES])?;
            items_to_lanes(network, engine.catalogue.rows.table(), &items, &mut features);
            let mut scratch = TangentScratch::new(&tower)?;
            engine.isa.run(Tangents {
                tower: &tower,
                first,
                gmf,
                item_first: &features[..h0],
                item_gmf: &features[h0..],
                scratch: &mut scratch,
                logits: &mut [0.0; LANES],
                gradients: &mut by_first,
            });
        }
        for (lane, gradient) in gradients.chunks_exact_mut(padded(width)).enumerate() {
            gradient.iter_mut().zip(&by_first).for_each(|(to, x)| *to = x[lane].into());
            gradient[h0..].iter_mut().zip(gmf).for_each(|(to, &x)| *to = x.into());
        }
        watch.stopped(LANES * tower.multiply_adds());
        Ok(())
    })
}

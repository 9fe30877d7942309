//! The memory layout of items and users: rows, and tiles for scans of the catalogue (`kernel/README.md`).

use crate::error::{Result, collected, filled, reserve};
use crate::format::Table;
use crate::kernel::layers::Project;
use crate::kernel::quantized::Quantization;
use crate::kernel::quantized::error_bound::ValueRanges;
use crate::kernel::row_table::RowTable;
use crate::kernel::weights::{Network, Packed};
use crate::kernel::{Aligned, Isa, LANES, Lanes, StandardFloats};
use crate::pool::Call;

/// Tiles per task at load.
pub(super) const TILES_PER_TASK: usize = 256;

/// The maximum number of users and of items on which the scales of the quantized layer are tuned.
const TUNING_USERS: usize = 64;
const TUNING_ITEMS: usize = 4096;

/// Lays out rows and tiles.
pub(crate) struct Layout<'a> {
    pub(crate) isa: Isa,
    pub(crate) network: &'a Network,
    pub(crate) call: Call<'a>,
}

/// Projects embeddings to rows.
#[derive(Debug)]
pub(crate) struct Projection {
    /// The user half of the first layer, with its bias.
    pub(crate) first_layer: Option<Packed>,
    /// The item half of the first layer.
    pub(crate) item_layer: Option<Packed>,
    /// The output layer's weights of the GMF block.
    pub(crate) output_gmf: Vec<f32>,
}

impl Layout<'_> {
    /// Lays out the items' rows. Frees the embedding tables chunk by chunk.
    pub(crate) fn item_rows(
        &self,
        items: usize,
        gmf: Option<Table>,
        mlp: Option<(Table, &Packed)>,
    ) -> Result<RowTable> {
        let Network { h0, g, .. } = *self.network;
        let mut out = RowTable::zeros("item rows", items, self.network.row_len())?;
        if let Some(table) = gmf {
            self.fill_rows(out.lines_mut(), table, g, |q, to| to.copy_from_slice(q), self.network.gmf_at())?;
        }
        if let Some((table, layer)) = mlp {
            let project = |q: &[Lanes], to: &mut [Lanes]| self.isa.run(Project { layer, input: q, output: to });
            self.fill_rows(out.lines_mut(), table, h0, project, 0)?;
        }
        Ok(out)
    }

    /// Computes `features` features with `compute(embeddings of sixteen items, features)` and writes them to the items'
    /// rows, from line `at` of a row on.
    fn fill_rows(
        &self,
        mut rows: &mut [Lanes],
        table: Table,
        features: usize,
        compute: impl Fn(&[Lanes], &mut [Lanes]) + Sync,
        at: usize,
    ) -> Result<()> {
        let (width, row_len) = (table.width(), self.network.row_len());
        for chunk in table.into_chunks() {
            let (part, rest) = rows.split_at_mut(chunk.len() / width * row_len);
            self.call.for_each_chunk(part, TILES_PER_TASK * LANES * row_len, |n, rows, watch| {
                let mut lanes = filled("embeddings", width, [0.0; LANES])?;
                let mut computed = filled("features", features, [0.0; LANES])?;
                let embeddings = &chunk[n * TILES_PER_TASK * LANES * width..];
                for (rows, embeddings) in rows.chunks_mut(LANES * row_len).zip(embeddings.chunks(LANES * width)) {
                    if watch.stopped((width + LANES) * LANES * features) {
                        return Ok(());
                    }
                    rows_to_lanes(embeddings.chunks_exact(width), &mut lanes);
                    compute(&lanes, &mut computed);
                    lanes_to_rows(&computed, rows, row_len, at);
                }
                Ok(())
            })?;
            rows = rest;
        }
        Ok(())
    }

    /// Lays out float32 tiles.
    pub(super) fn float32_tiles(&self, rows: &RowTable) -> Result<Aligned> {
        let h0 = self.network.h0;
        self.tiles("item tiles", rows, self.network.tile_len(), |features, gmf, tile| {
            tile[..h0].copy_from_slice(features);
            tile[h0..].copy_from_slice(gmf);
        })
    }

    /// Lays out quantized tiles without the int16 words.
    pub(super) fn quantized_tiles(&self, rows: &RowTable, quantization: &Quantization) -> Result<Aligned> {
        let lines = quantization.layout();
        self.tiles("item tiles", rows, lines.len(), |features, gmf, tile| {
            quantization.round_gmf(gmf, &mut tile[lines.gmf()]);
            if let Some(int8) = &quantization.int8 {
                let (words, rest) = tile.split_at_mut(lines.int8);
                self.isa.run(int8.quantize(features, words, &mut rest[lines.gmf]));
            }
        })
    }

    /// Lays out the int16 words of the tiles.
    pub(super) fn int16_tiles(&self, rows: &RowTable, quantization: &Quantization) -> Result<Aligned> {
        self.tiles("int16 tiles", rows, quantization.layout().int16, |features, _, tile| {
            self.isa.run(quantization.int16.quantize(features, tile));
        })
    }

    /// Lays out tiles of `tile_len` lines; `compute(first-layer features, GMF features, tile)` fills each.
    fn tiles(
        &self,
        what: &str,
        rows: &RowTable,
        tile_len: usize,
        compute: impl Fn(&[Lanes], &[Lanes], &mut [Lanes]) + Sync,
    ) -> Result<Aligned> {
        let Network { h0, g, .. } = *self.network;
        let row_len = self.network.row_len();
        let mut out = Aligned::zeros(what, rows.count().div_ceil(LANES).saturating_mul(tile_len))?;
        self.call.for_each_chunk(&mut out, TILES_PER_TASK * tile_len, |n, tiles, watch| {
            let mut features = filled("features", h0, [0.0; LANES])?;
            let mut gmf = filled("GMF features", g, [0.0; LANES])?;
            let rows = rows.lines()[n * TILES_PER_TASK * LANES * row_len..].chunks(LANES * row_len);
            for (tile, rows) in tiles.chunks_exact_mut(tile_len).zip(rows) {
                if watch.stopped(LANES * (h0 + g)) {
                    return Ok(());
                }
                let sixteen = rows.chunks_exact(row_len).map(|row| self.network.split_row(row));
                rows_to_lanes(sixteen.clone().map(|(first, _)| first), &mut features);
                rows_to_lanes(sixteen.map(|(_, gmf)| gmf), &mut gmf);
                compute(&features, &gmf, tile);
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// Quantizes the second layer, in blocks of at most `block` outputs, with scales for these items and users: in
    /// int16, and with `int8` also in int8, with activations up to that byte. `None` if no error bound holds or there
    /// is no second layer.
    pub(super) fn quantization(
        &self,
        block: usize,
        int8: Option<u8>,
        item_rows: &RowTable,
        user_rows: &RowTable,
    ) -> Result<Option<Quantization>> {
        if self.network.layers.is_empty() {
            return Ok(None);
        }
        let (items, users) = (self.extremes(item_rows)?, self.extremes(user_rows)?);
        let highest =
            |extremes: &[[f32; 2]]| collected("extremes", extremes[..self.network.h0].iter().map(|&[_, high]| high));
        let gmf = &items[self.network.gmf_at() * LANES..][..self.network.g];
        let mut sample_items = reserve("sample of items", TUNING_ITEMS.min(item_rows.count()))?;
        sample_items.extend(self.sample_rows(item_rows, TUNING_ITEMS).map(|(first, _)| first));
        let ranges = ValueRanges {
            items: highest(&items)?,
            users: highest(&users)?,
            gmf: collected("extremes", gmf.iter().map(|&[low, high]| high.max(-low)))?,
            sample_items,
            sample_users: self.sample_rows(user_rows, TUNING_USERS).collect(),
        };
        Quantization::new(self.network, &ranges, block, int8)
    }

    /// A sample of at most `max_rows` rows, evenly spaced.
    fn sample_rows<'r>(&self, rows: &'r RowTable, max_rows: usize) -> impl Iterator<Item = (&'r [f32], &'r [f32])> {
        let step = rows.count().div_ceil(max_rows);
        (0..rows.count()).step_by(step).map(|row| self.network.split_row(rows.row(row)))
    }

    /// The minimum and maximum of each column of the rows.
    fn extremes(&self, rows: &RowTable) -> Result<Vec<[f32; 2]>> {
        const NONE: [f32; 2] = [f32::INFINITY, f32::NEG_INFINITY];
        let (rows, row_len) = (rows.lines(), self.network.row_len());
        let (width, part) = (row_len * LANES, row_len * LANES * TILES_PER_TASK);
        let len = rows.len().div_ceil(part) * width;
        let parts = self.call.in_chunks("extremes", len, width, NONE, |n, extremes, watch| {
            for row in rows[n * part..].chunks_exact(row_len).take(LANES * TILES_PER_TASK) {
                if watch.stopped(width) {
                    return Ok(());
                }
                widen(extremes, row.as_flattened().iter().map(|&x| [x, x]));
            }
            Ok(())
        })?;
        let mut all = filled("extremes", width, NONE)?;
        for extremes in parts.chunks_exact(width) {
            widen(&mut all, extremes.iter().copied());
        }
        Ok(all)
    }

    /// Projects users to rows.
    pub(crate) fn user_rows<'a, Row: Fn(usize) -> &'a [f32] + Sync>(
        &self,
        what: &str,
        projection: &Projection,
        users: usize,
        gmf: Option<Row>,
        mlp: Option<impl Fn(usize) -> &'a [f32] + Sync>,
    ) -> Result<RowTable> {
        let (h0, tile_len, row_len) = (self.network.h0, self.network.tile_len(), self.network.row_len());
        let mut out = RowTable::zeros(what, users, row_len)?;
        self.call.for_each_chunk(out.lines_mut(), TILES_PER_TASK * LANES * row_len, |n, rows, watch| {
            let mut tile = filled("features", tile_len, [0.0; LANES])?;
            let inputs = projection.first_layer.as_ref().map_or(0, |layer| layer.inputs);
            let mut p = filled("embeddings", inputs, [0.0; LANES])?;
            for (group, rows) in rows.chunks_mut(LANES * row_len).enumerate() {
                if watch.stopped(LANES * tile_len * (1 + p.len())) {
                    return Ok(());
                }
                let first = (n * TILES_PER_TASK + group) * LANES;
                let sixteen = first..users.min(first + LANES);
                if let Some(gmf) = &gmf {
                    rows_to_lanes(sixteen.clone().map(gmf), &mut tile[h0..]);
                    let _settings = StandardFloats::enter();
                    for (p, weight) in tile[h0..].iter_mut().zip(&projection.output_gmf) {
                        *p = p.map(|p| weight * p);
                    }
                }
                if let (Some(mlp), Some(layer)) = (&mlp, &projection.first_layer) {
                    rows_to_lanes(sixteen.map(mlp), &mut p);
                    self.isa.run(Project { layer, input: &p, output: &mut tile[..h0] });
                }
                lanes_to_rows(&tile[..h0], rows, row_len, 0);
                lanes_to_rows(&tile[h0..], rows, row_len, self.network.gmf_at());
            }
            Ok(())
        })?;
        Ok(out)
    }
}

fn widen(extremes: &mut [[f32; 2]], by: impl Iterator<Item = [f32; 2]>) {
    let _settings = StandardFloats::enter(); // otherwise subnormal values may count as zero
    for (extremes, [low, high]) in extremes.iter_mut().zip(by) {
        *extremes = [extremes[0].min(low), extremes[1].max(high)];
    }
}

/// Transposes the projected features of up to sixteen items, in any order, to a float32 tile.
pub(crate) fn items_to_lanes(network: &Network, rows: &RowTable, items: &[u32], tile: &mut [Lanes]) {
    let items = items.iter().map(|&item| network.split_row(rows.row(item as usize)));
    let (first, gmf) = tile.split_at_mut(network.h0);
    rows_to_lanes(items.clone().map(|(item, _)| item), first);
    rows_to_lanes(items.map(|(_, item)| item), gmf);
}

/// Transposes up to sixteen rows to lanes; lanes without a row become zero.
fn rows_to_lanes<'a>(mut rows: impl Iterator<Item = &'a [f32]>, to: &mut [Lanes]) {
    for lane in 0..LANES {
        match rows.next() {
            Some(row) => to.iter_mut().zip(row).for_each(|(to, &x)| to[lane] = x),
            None => to.iter_mut().for_each(|to| to[lane] = 0.0),
        }
    }
}

/// Transposes lanes to up to sixteen rows, writing each from line `at` on.
pub(crate) fn lanes_to_rows(features: &[Lanes], rows: &mut [Lanes], row_len: usize, at: usize) {
    for (lane, row) in rows.chunks_exact_mut(row_len).enumerate() {
        row[at..].as_flattened_mut().iter_mut().zip(features).for_each(|(to, feature)| *to = feature[lane]);
    }
}

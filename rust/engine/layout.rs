//! How items and users lie in memory: rows, and tiles for scans of the catalogue (`kernel/README.md`).

use crate::error::Result;
use crate::format::Table;
use crate::kernel::layers::Project;
use crate::kernel::quantized::Quantization;
use crate::kernel::quantized::error_bound::ValueRanges;
use crate::kernel::row_table::RowTable;
use crate::kernel::weights::{Network, Packed};
use crate::kernel::{Aligned, Isa, LANES, Lanes, StandardFloats};
use crate::pool::Call;

/// Tiles that one task of loading handles.
const TILES_PER_TASK: usize = 256;

/// The most users and items that the scales of quantized layers are tuned on.
const SOME_USERS: usize = 64;
const SOME_ITEMS: usize = 4096;

/// Makes tiles and rows.
pub(crate) struct Layout<'a> {
    pub(crate) isa: Isa,
    pub(crate) network: &'a Network,
    pub(crate) call: Call<'a>,
}

/// How a user's embeddings become a row.
#[derive(Debug)]
pub(crate) struct Projection {
    /// The user half of the first layer, with its bias.
    pub(crate) first_layer: Option<Packed>,
    /// The output layer's weights on the GMF part.
    pub(crate) output_gmf: Vec<f32>,
}

impl Layout<'_> {
    /// One item after the other. The tables' memory is given back piece by piece.
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

    /// Writes the `features` features that `make(embeddings of sixteen items, features)` makes into the items' rows, from line `at` of
    /// a row on.
    fn fill_rows(
        &self,
        mut rows: &mut [Lanes],
        table: Table,
        features: usize,
        make: impl Fn(&[Lanes], &mut [Lanes]) + Sync,
        at: usize,
    ) -> Result<()> {
        let (width, row_len) = (table.width(), self.network.row_len());
        for chunk in table.into_chunks() {
            let (part, rest) = rows.split_at_mut(chunk.len() / width * row_len);
            self.call.for_each_chunk(part, TILES_PER_TASK * LANES * row_len, |n, rows, watch| {
                let (mut lanes, mut made) = (vec![[0.0; LANES]; width], vec![[0.0; LANES]; features]);
                let embeddings = &chunk[n * TILES_PER_TASK * LANES * width..];
                for (rows, embeddings) in rows.chunks_mut(LANES * row_len).zip(embeddings.chunks(LANES * width)) {
                    if watch.stopped((width + LANES) * LANES * features) {
                        return Ok(());
                    }
                    into_lanes(embeddings.chunks_exact(width), &mut lanes);
                    make(&lanes, &mut made);
                    into_rows(&made, rows, row_len, at);
                }
                Ok(())
            })?;
            rows = rest;
        }
        Ok(())
    }

    /// Sixteen items side by side in float32.
    pub(super) fn float32_tiles(&self, rows: &RowTable) -> Result<Aligned> {
        let h0 = self.network.h0;
        self.tiles("item tiles", rows, self.network.tile_len(), |features, gmf, tile| {
            tile[..h0].copy_from_slice(features);
            tile[h0..].copy_from_slice(gmf);
        })
    }

    /// Sixteen items side by side, quantized; without the int16 words.
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

    /// The int16 words of sixteen items side by side.
    pub(super) fn int16_tiles(&self, rows: &RowTable, quantization: &Quantization) -> Result<Aligned> {
        self.tiles("int16 tiles", rows, quantization.layout().int16, |features, _, tile| {
            self.isa.run(quantization.int16.quantize(features, tile));
        })
    }

    /// Tiles of `tile_len` lines, each as `make(first-layer features, GMF features, tile)` leaves it.
    fn tiles(
        &self,
        what: &str,
        rows: &RowTable,
        tile_len: usize,
        make: impl Fn(&[Lanes], &[Lanes], &mut [Lanes]) + Sync,
    ) -> Result<Aligned> {
        let Network { h0, g, .. } = *self.network;
        let row_len = self.network.row_len();
        let mut out = Aligned::zeros(what, rows.count().div_ceil(LANES).saturating_mul(tile_len))?;
        self.call.for_each_chunk(&mut out, TILES_PER_TASK * tile_len, |n, tiles, watch| {
            let (mut features, mut gmf) = (vec![[0.0; LANES]; h0], vec![[0.0; LANES]; g]);
            let rows = rows.lines()[n * TILES_PER_TASK * LANES * row_len..].chunks(LANES * row_len);
            for (tile, rows) in tiles.chunks_exact_mut(tile_len).zip(rows) {
                if watch.stopped(LANES * (h0 + g)) {
                    return Ok(());
                }
                let sixteen = rows.chunks_exact(row_len).map(|row| self.network.split_row(row));
                into_lanes(sixteen.clone().map(|(first, _)| first), &mut features);
                into_lanes(sixteen.map(|(_, gmf)| gmf), &mut gmf);
                make(&features, &gmf, tile);
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// Chooses how to quantize the second layer, in blocks of at most `block` outputs, for these items and users: in int16, and with `int8`
    /// in int8 too. `None` where no bound holds, and in a network without a second layer.
    pub(super) fn quantization(
        &self,
        block: usize,
        int8: bool,
        item_rows: &RowTable,
        user_rows: &RowTable,
    ) -> Result<Option<Quantization>> {
        if self.network.layers.is_empty() {
            return Ok(None);
        }
        let (items, users) = (self.extremes(item_rows)?, self.extremes(user_rows)?);
        let highest = |extremes: &[[f32; 2]]| extremes[..self.network.h0].iter().map(|&[_, high]| high).collect();
        let gmf = &items[self.network.gmf_at() * LANES..][..self.network.g];
        let ranges = ValueRanges {
            items: highest(&items),
            users: highest(&users),
            gmf: gmf.iter().map(|&[low, high]| high.max(-low)).collect(),
            some_items: self.some_rows(item_rows, SOME_ITEMS).map(|(first, _)| first).collect(),
            some_users: self.some_rows(user_rows, SOME_USERS).collect(),
        };
        Ok(Quantization::new(self.network, &ranges, block, int8))
    }

    /// At most `most` of the rows, spread over all of them.
    fn some_rows<'r>(&self, rows: &'r RowTable, most: usize) -> impl Iterator<Item = (&'r [f32], &'r [f32])> {
        let step = rows.count().div_ceil(most);
        (0..rows.count()).step_by(step).map(|row| self.network.split_row(rows.row(row)))
    }

    /// The lowest and highest value at each position of the rows.
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
        let mut all = vec![NONE; width];
        for extremes in parts.chunks_exact(width) {
            widen(&mut all, extremes.iter().copied());
        }
        Ok(all)
    }

    /// One user after the other.
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
            let mut tile = vec![[0.0; LANES]; tile_len];
            let mut p = vec![[0.0; LANES]; projection.first_layer.as_ref().map_or(0, |layer| layer.inputs)];
            for (group, rows) in rows.chunks_mut(LANES * row_len).enumerate() {
                if watch.stopped(LANES * tile_len * (1 + p.len())) {
                    return Ok(());
                }
                let first = (n * TILES_PER_TASK + group) * LANES;
                let sixteen = first..users.min(first + LANES);
                if let Some(gmf) = &gmf {
                    into_lanes(sixteen.clone().map(gmf), &mut tile[h0..]);
                    let _settings = StandardFloats::enter();
                    for (p, weight) in tile[h0..].iter_mut().zip(&projection.output_gmf) {
                        *p = p.map(|p| weight * p);
                    }
                }
                if let (Some(mlp), Some(layer)) = (&mlp, &projection.first_layer) {
                    into_lanes(sixteen.map(mlp), &mut p);
                    self.isa.run(Project { layer, input: &p, output: &mut tile[..h0] });
                }
                into_rows(&tile[..h0], rows, row_len, 0);
                into_rows(&tile[h0..], rows, row_len, self.network.gmf_at());
            }
            Ok(())
        })?;
        Ok(out)
    }
}

fn widen(extremes: &mut [[f32; 2]], by: impl Iterator<Item = [f32; 2]>) {
    let _settings = StandardFloats::enter(); // else subnormal values may count as zero
    for (extremes, [low, high]) in extremes.iter_mut().zip(by) {
        *extremes = [extremes[0].min(low), extremes[1].max(high)];
    }
}

/// Writes up to sixteen rows as the lanes of their features; lanes without a row become zero.
fn into_lanes<'a>(mut rows: impl Iterator<Item = &'a [f32]>, to: &mut [Lanes]) {
    for lane in 0..LANES {
        match rows.next() {
            Some(row) => to.iter_mut().zip(row).for_each(|(to, &x)| to[lane] = x),
            None => to.iter_mut().for_each(|to| to[lane] = 0.0),
        }
    }
}

/// Writes lanes as up to sixteen rows, each from line `at` on.
fn into_rows(features: &[Lanes], rows: &mut [Lanes], row_len: usize, at: usize) {
    for (lane, row) in rows.chunks_exact_mut(row_len).enumerate() {
        row[at..].as_flattened_mut().iter_mut().zip(features).for_each(|(to, feature)| *to = feature[lane]);
    }
}

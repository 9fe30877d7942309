//! Builds an engine from a model: packs the weights, projects both embedding tables, and lays out the catalogue in the
//! fastest scan precision.

use std::sync::Arc;

use super::catalogue::{Catalogue, QuantizedCatalogue, Tiles};
use super::dots::{DotCatalogue, DotSample, dots_may_pay};
use super::layout::{Layout, Projection};
use super::precision::{Sample, ScanPrecision, quantized_may_pay};
use super::verdict::Verdict;
use super::{Engine, NewUsers};
use crate::csr::Csr;
use crate::error::{Error, Result, collected, filled, try_collected};
use crate::format::{Layer, Model, Table};
use crate::kernel::row_table::{ItemRows, RowTable};
use crate::kernel::weights::{Network, OutputLanes, Packed};
use crate::kernel::{IntegerIsa, Isa};
use crate::pool::{self, Call};

impl Engine {
    /// Lays out `model` for `isa` and `precision`, with the stored interactions `seen`, one row per user.
    ///
    /// # Errors
    /// [`Error::Memory`]; [`Error::Interrupted`]; [`Error::Argument`] if the shape of `seen` is not users x items of
    /// the model.
    pub fn new(model: Model, seen: Option<Csr>, isa: Isa, precision: ScanPrecision, call: Call<'_>) -> Result<Self> {
        pool::survive_forks();
        let (num_users, num_items) = (model.num_users(), model.num_items());
        check_seen(seen.as_ref(), num_users, num_items)?;
        let parts = model.into_parts();
        let (user_gmf, item_gmf) = parts.gmf.map(|gmf| (gmf.users, gmf.items)).unzip();
        let (user_mlp, item_mlp, layers) = match parts.mlp {
            Some(mlp) => (Some(mlp.users), Some(mlp.items), mlp.layers),
            None => (None, None, Vec::new()),
        };
        let gmf_width = user_gmf.as_ref().map_or(0, Table::width);
        let mlp_width = user_mlp.as_ref().map_or(0, Table::width);
        let Packing { network, projection } =
            Packing::new(isa, &layers, gmf_width, mlp_width, &parts.output_weight, parts.output_bias)?;

        let layout = Layout { isa, network: &network, call };
        let item_rows = layout.item_rows(num_items, item_gmf, item_mlp.zip(projection.item_layer.as_ref()))?;
        let item_rows = ItemRows::new(item_rows);
        let gmf_row = user_gmf.as_ref().map(|table| |user| table.row(user));
        let mlp_row = user_mlp.as_ref().map(|table| |user| table.row(user));
        let user_rows = layout.user_rows("user rows", &projection, num_users, gmf_row, mlp_row)?;
        let (narrow, scan_reason) = if network.h0 == 0 {
            quantize_dots(&layout, precision, &item_rows, &user_rows)?
        } else {
            quantize(&layout, precision, &item_rows, &user_rows)?
        };
        let tiles = match narrow {
            Some(tiles) => tiles,
            None => Tiles::Float32(layout.float32_tiles(item_rows.table())?),
        };
        Ok(Engine {
            isa,
            kind: parts.kind,
            num_users,
            catalogue: Catalogue { rows: item_rows, tiles: Arc::new(tiles), changes: None },
            scan_reason: scan_reason.into(),
            user_rows: Arc::new(user_rows),
            projection: Arc::new(projection),
            user_gmf: user_gmf.map(Arc::new),
            user_mlp: user_mlp.map(Arc::new),
            seen: seen.map(Arc::new),
            new_users: NewUsers::Unknown,
            overflow_bound: parts.overflow_bound,
            metadata: Arc::new(parts.metadata),
            network: Arc::new(network),
        })
    }
}

fn check_seen(seen: Option<&Csr>, num_users: usize, num_items: usize) -> Result<()> {
    let Some(seen) = seen else { return Ok(()) };
    if seen.rows() != num_users {
        let got = seen.rows();
        return Err(Error::Argument(format!("seen: expected one row for each of {num_users} users, got {got}")));
    }
    if seen.columns() != num_items {
        let got = seen.columns();
        return Err(Error::Argument(format!("seen: expected rows of {num_items} items, got rows of {got}")));
    }
    Ok(())
}

/// A model's weights, packed for an instruction set.
struct Packing {
    /// The layers computed for each pair.
    network: Network,
    /// Applied to all users and items at load.
    projection: Projection,
}

impl Packing {
    fn new(
        isa: Isa,
        layers: &[Layer],
        gmf_width: usize,
        user_width: usize,
        output_weight: &[f32],
        output_bias: f32,
    ) -> Result<Self> {
        let pack = |layer: &Layer, bias: &[f32], from: usize, inputs: usize| {
            Packed::new(inputs, bias, isa.block(), |o, k| layer.weight[o * layer.inputs + from + k])
        };
        let (output_gmf, output_hidden) = output_weight.split_at(gmf_width);
        let first = layers.first();
        let item_half = |layer: &Layer| {
            let no_bias = filled("packed weights", layer.outputs, 0.0)?;
            pack(layer, &no_bias, user_width, layer.inputs - user_width)
        };
        let later = layers.iter().skip(1).map(|layer| pack(layer, &layer.bias, 0, layer.inputs));
        let later = try_collected("layers", later)?;
        Ok(Packing {
            network: Network {
                h0: first.map_or(0, |layer| layer.outputs),
                g: gmf_width,
                by_output: try_collected("layers", later.iter().map(OutputLanes::new))?,
                layers: later,
                output_weight: collected("packed weights", output_hidden.iter().copied())?,
                output_bias,
            },
            projection: Projection {
                first_layer: first.map(|layer| pack(layer, &layer.bias, 0, user_width)).transpose()?,
                item_layer: first.map(item_half).transpose()?,
                output_gmf: collected("packed weights", output_gmf.iter().copied())?,
            },
        })
    }
}

/// Quantizes the catalogue of a model without an MLP to four bits. `None` means a float32 scan, as in [`quantize`]; in
/// both cases with the reason.
fn quantize_dots(
    layout: &Layout<'_>,
    precision: ScanPrecision,
    item_rows: &ItemRows,
    user_rows: &RowTable,
) -> Result<(Option<Tiles>, String)> {
    let float32 = |why: &str| Ok((None, why.to_string()));
    let Some(isa) = IntegerIsa::of(layout.isa).first().copied() else { return float32(NO_INTEGERS) };
    match precision {
        ScanPrecision::Int4 => (),
        ScanPrecision::Auto if dots_may_pay(item_rows.count()) => (),
        ScanPrecision::Auto => return float32(SMALL),
        _ => return float32(REQUESTED),
    }
    let Some(dots) = DotCatalogue::new(layout, isa, item_rows.table())? else { return float32(NO_BOUND) };
    let forced = precision == ScanPrecision::Int4;
    let verdict = if forced {
        Verdict { pays: true, why: REQUESTED.into() }
    } else {
        (DotSample { layout, catalogue: &dots, item_rows, user_rows }).verdict()?
    };
    Ok((verdict.pays.then(|| Tiles::Dots(Box::new(dots))), verdict.why))
}

/// Why a scan has its precision, if no sample of users decides.
const NO_INTEGERS: &str = "the instruction set has no fast integers";
const SMALL: &str = "the catalogue or the second layer is too small for narrower numbers to pay";
const NO_BOUND: &str = "no error bound holds for narrower numbers";
const REQUESTED: &str = "as requested";

/// Quantizes the catalogue. `None` means a float32 scan: because of `precision`, because there is no error bound or no
/// fast integer instruction, or, with [`ScanPrecision::Auto`], because quantization does not pay for a sample of the
/// users. The reason is given in words.
fn quantize(
    layout: &Layout<'_>,
    precision: ScanPrecision,
    item_rows: &ItemRows,
    user_rows: &RowTable,
) -> Result<(Option<Tiles>, String)> {
    let float32 = |why: &str| Ok((None, why.to_string()));
    let Some(isa) = IntegerIsa::of(layout.isa).first().copied() else { return float32(NO_INTEGERS) };
    let int8 = match precision {
        ScanPrecision::Auto if quantized_may_pay(layout.network, item_rows.count()) => isa.prefers_int8(),
        ScanPrecision::Auto => return float32(SMALL),
        ScanPrecision::Float32 | ScanPrecision::Int4 => return float32(REQUESTED),
        ScanPrecision::Int16 => false,
        ScanPrecision::Int8 => true,
    };
    let byte = int8.then(|| isa.max_byte());
    let Some(quantization) = layout.quantization(isa.block(), byte, item_rows.table(), user_rows)? else {
        return float32(NO_BOUND);
    };
    let mut candidate = Some(QuantizedCatalogue::new(layout, isa, quantization, item_rows.table())?);
    let mut why = REQUESTED.to_string();
    while let Some(catalogue) = candidate {
        let verdict = if precision == ScanPrecision::Auto {
            (Sample { layout, catalogue: &catalogue, item_rows, user_rows }).verdict()?
        } else {
            Verdict { pays: true, why }
        };
        if verdict.pays {
            return Ok((Some(Tiles::Quantized(Box::new(catalogue))), verdict.why));
        }
        why = verdict.why;
        candidate = catalogue.without_int8(layout, item_rows.table())?;
    }
    Ok((None, why))
}

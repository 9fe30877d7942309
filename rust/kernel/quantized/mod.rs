//! Quantized estimates: logits computed with the second layer in int8 or int16, with a proven error bound.
//!
//! A scan computes the estimates (`estimate.rs`) from quantized tiles (`tiles.rs`) and rescores the survivors, the
//! items that the bound cannot rule out, in float32. `int8.rs` and `int16.rs` choose the scales and compute the bounds,
//! `error_bound.rs` their common part, `gradient_bound.rs` the largest gradient; `half_precision.rs` rounds GMF
//! features. `int4.rs` is for dot products, which have no second layer; `rotation.rs` prepares their vectors.
//! `BOUNDS.md`, `INT8.md` and `DOTS.md` have the proofs.

pub(crate) mod error_bound;
pub(crate) mod estimate;
mod gradient_bound;
mod half_precision;
pub(crate) mod int16;
pub(crate) mod int4;
pub(crate) mod int8;
mod rotation;
pub(crate) mod tiles;

use error_bound::ValueRanges;
use estimate::QuantizedUser;
use half_precision::HalfPrecision;
use int8::Int8;
use int16::Int16;
use tiles::{IntegerWidth, TileLayout};

use super::Lanes;
use super::weights::Network;
use crate::error::Result;

/// The second layer in int16, and optionally also in int8, with the error bounds of the estimates.
#[derive(Debug)]
pub(crate) struct Quantization {
    pub(crate) int16: Int16,
    pub(crate) int8: Option<Int8>,
}

impl Quantization {
    /// Quantizes the second layer in int16, and with `int8` also in int8, with activations up to that byte, in blocks
    /// of at most `block` outputs, for items and users within `ranges`. `None` if no bound holds for int16.
    pub(crate) fn new(
        network: &Network,
        ranges: &ValueRanges<'_>,
        block: usize,
        int8: Option<u8>,
    ) -> Result<Option<Self>> {
        let Some(int16) = Int16::new(network, ranges, block)? else { return Ok(None) };
        let int8 = int8.map_or(Ok(None), |max_byte| Int8::new(network, ranges, block, max_byte))?;
        Ok(Some(Quantization { int16, int8 }))
    }

    /// The narrowest width available.
    pub(crate) fn narrowest(&self) -> IntegerWidth {
        if self.int8.is_some() { IntegerWidth::Int8 } else { IntegerWidth::Int16 }
    }

    pub(crate) fn layout(&self) -> TileLayout {
        let int8 = self.int8.as_ref().map_or(0, |int8| int8.layer.words);
        let gmf = HalfPrecision::lines(self.int16.error_paths.gmf.len());
        TileLayout { int8, gmf, int16: self.int16.layer.words }
    }

    /// Rounds a tile's GMF features to half precision; `features` has one line per feature.
    pub(crate) fn round_gmf(&self, features: &[Lanes], to: &mut [Lanes]) {
        self.int16.error_paths.half_precision.round(features, to);
    }

    /// Quantizes the user with first-layer features `b` and GMF features `g` in this width. `None` if the width is not
    /// available or its bound does not hold for the user.
    pub(crate) fn user(&self, width: IntegerWidth, b: &[f32], g: &[f32]) -> Result<Option<QuantizedUser<'_>>> {
        match width {
            IntegerWidth::Int8 => self.int8.as_ref().map_or(Ok(None), |int8| int8.user(b, g)),
            IntegerWidth::Int16 => self.int16.user(b, g),
        }
    }

    pub(crate) fn nbytes(&self) -> usize {
        self.int16.nbytes() + self.int8.as_ref().map_or(0, Int8::nbytes)
    }
}

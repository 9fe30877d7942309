//! The arithmetic: generic over a vector of sixteen lanes, compiled for each instruction set. `README.md` has the
//! formulas.
//!
//! [`simd`] is the narrow waist: below it, one file per instruction set; above it, code that is generic over them.

#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, unused_imports, unused_variables, reason = "the integer scan is for x86-64 so far")
)]

mod aligned;
pub(crate) mod factors;
pub(crate) mod few_pairs;
pub(crate) mod gather;
pub(crate) mod layers;
pub(crate) mod products;
pub(crate) mod quantized;
mod roofline;
pub(crate) mod row_table;
pub(crate) mod scan;
pub(crate) mod sigmoid;
mod simd;
pub(crate) mod survivors;
pub(crate) mod tangent;
pub(crate) mod weights;

pub(crate) use aligned::Aligned;
pub use roofline::Roofline;
pub(crate) use simd::{IntegerCosts, IntegerIsa, IntegerKernel, IntegerSimd, Kernel, Simd};
pub use simd::{Isa, StandardFloats};

/// Items (or pairs) computed side by side, independent of the width of the machine's registers.
pub(crate) const LANES: usize = 16;

/// One value for each lane.
pub(crate) type Lanes = [f32; LANES];

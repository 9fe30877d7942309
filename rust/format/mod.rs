//! The one reader of the model file format, and the one place that opens files.
//!
//! [`open`] reads a model directory or a single `model.safetensors`; [`Model::assemble`] is the one constructor behind it, also
//! for arrays in memory. What comes out cannot be wrong: shapes agree, every number is finite, and no score can overflow.
//! `README.md` beside this file is the specification.

mod blocks;
mod config;
mod container;
mod directory;
mod dtype;
mod json;
mod model;
mod overflow;
mod publish;
mod schema;
mod sidecar;
mod stream;
mod weights;

pub use blocks::{Gmf, Kind, Layer, Mlp, Table};
pub use directory::{Opened, open};
pub use model::{Fill, Model, Parts};
pub use overflow::OverflowBound;
pub use publish::publish;
pub use schema::{Sizes, TensorInfo};
pub use weights::read_model;

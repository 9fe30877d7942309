//! The one reader of the model file format, and the one place that opens files.
//!
//! [`open`] reads a model directory or a single `model.safetensors`; [`Model::assemble`] is the one constructor behind it, also
//! for arrays in memory. What comes out cannot be wrong: shapes agree, every number is finite, and no score can overflow.
//! `README.md` beside this file is the specification.

mod config;
mod container;
mod directory;
mod json;
mod model;
mod publish;
mod range;
mod sidecar;
mod single;
mod stream;

pub use directory::{Opened, open};
pub use model::{Fill, Gmf, Kind, Layer, Mlp, Model, Parts, Table, TensorInfo};
pub use publish::publish;
pub use range::Range;
pub use single::read_model;

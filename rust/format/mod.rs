//! The only reader of the model file format, and the only module that opens files.
//!
//! [`open`] reads a model directory or a single `model.safetensors`; [`Model::assemble`] is the only constructor of a
//! [`Model`], also from arrays in memory. A model is valid by construction: shapes agree, every number is finite, and
//! no score can overflow. The specification is `README.md` in this folder.

mod blocks;
mod config;
mod container;
mod digest;
mod directory;
mod dtype;
mod features;
mod history;
mod index;
mod interrupts;
mod json;
mod metadata;
mod model;
mod overflow;
mod publish;
mod schema;
mod sidecar;
mod stream;
mod system;
mod weights;

pub use blocks::{Gmf, Kind, Layer, Mlp, Table};
pub use directory::{Admit, Opened, open, open_admitted};
pub use features::{FeatureColumn, FeatureKind, FeatureMap, Features, Map, read_features};
pub use history::{FoldIn, NamedTensor};
pub(crate) use history::{Linear, Ridge};
pub use index::{OpenedIndex, SavedIndex};
pub use metadata::Metadata;
pub use model::{Fill, Model, Parts};
pub use overflow::{LargestElements, OverflowBound};
pub use publish::publish;
pub use schema::{Sizes, TensorInfo};
pub use weights::read_model;

//! NeuralCF: neural collaborative filtering (GMF, MLP, NeuMF; He et al., WWW 2017), scored exactly and fast on CPUs.

pub mod csr;
mod engine;
pub mod error;
pub mod filter;
pub mod format;
pub mod histories;
pub mod ids;
mod index;
mod indices;
pub mod item_sets;
mod kernel;
pub mod memory;
mod order;
mod pool;
mod queries;
mod random;
pub mod sampler;
mod scan;

pub use engine::{Engine, ItemVectors, ProjectedUsers, Scale, ScanPrecision, UserVectors, Users};
pub use error::{Error, Result};
pub use index::{Effort, Index, IndexLevel, IndexOptions, MeasuredRecall};
pub use indices::{IndexCheck, Indices};
pub use kernel::{Isa, Roofline, StandardFloats};
pub use order::TopK;
pub use pool::{Call, MAX_THREADS, Watch, choose_threads};
pub use queries::{GroupLimit, Groups, PageEnd, Terms, Walk};

/// The guide to the crate; its code blocks are tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/rust.md")]
struct Guide;

//! NeuralCF: neural collaborative filtering (GMF, MLP, NeuMF; He et al., WWW 2017), scored exactly and fast on CPUs.

mod choose;
mod engine;
mod error;
pub mod filter;
pub mod format;
pub mod ids;
mod kernel;
mod layout;
mod order;
mod pairs;
mod pool;
#[cfg(feature = "python")]
mod python;
mod rank;

pub use engine::{Engine, Pass, ProjectedUsers, Scale, UserVectors, Users, index};
pub use error::{Error, Result};
pub use kernel::{Isa, Probe};
pub use pool::{Call, MAX_THREADS, choose_threads};
pub use rank::TopK;

/// The guide to the crate; its programs are tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/rust.md")]
struct Guide;

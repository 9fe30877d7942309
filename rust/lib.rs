//! NeuralCF: neural collaborative filtering (GMF, MLP, NeuMF; He et al., WWW 2017), scored exactly and fast on CPUs.
#![warn(missing_docs)]

mod error;
pub mod filter;
pub mod format;
pub mod ids;

pub use error::{Error, Result};

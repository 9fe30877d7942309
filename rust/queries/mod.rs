//! The queries of an engine, one file per query.

mod fold_in;
mod plan;
mod rank_of;
mod score_batch;
mod top_k;

pub use top_k::TopK;

//! What an engine is asked: one file for each verb.

mod plan;
mod rank_of;
mod score_batch;
mod top_k;

pub use top_k::TopK;

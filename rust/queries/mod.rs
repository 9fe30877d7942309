//! The queries of an engine, one file per query.

mod descent;
mod explain;
mod fit_dots;
mod fit_user;
mod fold_in;
mod normal_equations;
mod plan;
mod rank_of;
mod score_batch;
mod top_k;
mod walk;

pub use explain::Terms;
pub use walk::{GroupLimit, Groups, PageEnd, Walk};

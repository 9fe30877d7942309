//! Approximate top-k: an index of lists of items, of which a search visits those that promise the most (inverted lists;
//! Jegou, Douze, Schmid, "Product quantization for nearest neighbor search", PAMI 2011, section IV).
//!
//! The lists are clusters in the metric of the model's own score (`metric.rs`, `cluster.rs`), and the network itself
//! scores their centroids, so that the index ranks by any score of ours, dot product or not; a list ranks by that score
//! and by how far its best items stand above it (`lift.rs`, `probes.rs`). The lists are scanned as the catalogue is: in
//! the tiles of its scan, whose survivors are rescored in float32 (`lists.rs`, `search.rs`). So the scores are exact,
//! and an item is missed only if its list is not visited. How far a search goes is calibrated on users that had no part
//! in the building (`calibrate.rs`).

mod build;
mod calibrate;
mod cluster;
mod lift;
mod lists;
mod metric;
mod probes;
mod progress;
mod recall;
mod saved;
mod search;
mod top_k;

pub use build::{Index, IndexOptions};
pub use calibrate::IndexLevel;
pub use recall::MeasuredRecall;
pub use top_k::Effort;

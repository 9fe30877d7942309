//! The guarantees of `rust/format/README.md`: what is read, what is rejected with which message, and what a reader sees
//! while a model is published.

#[path = "format/builder.rs"]
mod builder;
#[path = "format/directory.rs"]
mod directory;
#[path = "format/features.rs"]
mod features;
#[path = "format/hostile.rs"]
mod hostile;
#[path = "format/ids.rs"]
mod ids;
#[path = "format/malformed.rs"]
mod malformed;
#[path = "format/publishing.rs"]
mod publishing;
#[path = "format/reading.rs"]
mod reading;

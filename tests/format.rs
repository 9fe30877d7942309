//! What `rust/format/README.md` promises: what is read, what is refused and in which words, what a reader sees while a model is
//! published.

#[path = "format/builder.rs"]
mod builder;
#[path = "format/directory.rs"]
mod directory;
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

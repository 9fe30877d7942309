//! What a sample of a model's users says about a scan.

/// Whether a scan pays, and why.
pub(super) struct Verdict {
    pub(super) pays: bool,
    /// In words, for people.
    pub(super) why: String,
}

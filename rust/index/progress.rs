//! The progress of a building.

use std::ops::Range;

use crate::error::Result;

/// Reports a part of the whole.
pub(super) struct Progress<'a> {
    report: &'a mut dyn FnMut(f64) -> Result<()>,
    part: Range<f64>,
}

impl<'a> Progress<'a> {
    /// Reports the shares of this part of the whole.
    pub(super) fn new(report: &'a mut dyn FnMut(f64) -> Result<()>, part: Range<f64>) -> Self {
        Progress { report, part }
    }

    /// Reports that this share of the part is done.
    pub(super) fn at(&mut self, share: f64) -> Result<()> {
        (self.report)(self.part.start + share * (self.part.end - self.part.start))
    }
}

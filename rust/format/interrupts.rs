//! The interrupt check while files are read and parsed: called after so much work or time, not at every step.

use std::time::{Duration, Instant};

use crate::error::Result;

/// The interrupt check, called while a file is read; its error aborts the read and is returned.
pub(super) type Check<'a> = dyn FnMut() -> Result<()> + 'a;

/// The interrupt check is called after this many bytes or this much time since the last call.
const CHECK_BYTES: usize = 8 << 20;
const CHECK_EVERY: Duration = Duration::from_millis(25);

/// The interrupt check, and the work done since it was called.
pub(super) struct Interrupts<'a> {
    check: &'a mut Check<'a>,
    checked: Instant,
    unchecked_bytes: usize,
}

impl<'a> Interrupts<'a> {
    pub(super) fn new(check: &'a mut Check<'a>) -> Self {
        Interrupts { check, checked: Instant::now(), unchecked_bytes: 0 }
    }

    /// Counts work on so many bytes.
    pub(super) fn count(&mut self, bytes: usize) {
        self.unchecked_bytes = self.unchecked_bytes.saturating_add(bytes);
    }

    /// Makes the check due.
    pub(super) fn hasten(&mut self) {
        self.unchecked_bytes = CHECK_BYTES;
    }

    /// Whether the check is due by the bytes counted.
    pub(super) fn due_by_bytes(&self) -> bool {
        self.unchecked_bytes >= CHECK_BYTES
    }

    /// Calls the interrupt check if it is due.
    pub(super) fn poll(&mut self) -> Result<()> {
        if self.due_by_bytes() || self.checked.elapsed() >= CHECK_EVERY {
            (self.check)()?;
            self.checked = Instant::now();
            self.unchecked_bytes = 0;
        }
        Ok(())
    }
}

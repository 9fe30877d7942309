//! The stop token of a call: every task polls its watch; the watch of the calling thread also runs the interrupt check.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The interval between two interrupt checks.
pub(super) const POLL_EVERY: Duration = Duration::from_millis(20);

/// Multiply-adds between two reads of the clock: some ten microseconds.
pub(super) const CHECK_EVERY: usize = 1 << 18;

/// Tells a task whether to stop. Long tasks must poll at least every few milliseconds.
pub struct Watch<'a> {
    stop: &'a AtomicBool,
    /// Run by the calling thread's watch; a worker's watch has none and only reads the flag.
    interrupted: Option<&'a (dyn Fn() -> bool + Sync)>,
    /// When the check last ran; at first, when the clock was first read, which most calls are too short to do.
    last_poll: Cell<Option<Instant>>,
    work: Cell<usize>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(stop: &'a AtomicBool, interrupted: Option<&'a (dyn Fn() -> bool + Sync)>) -> Self {
        Watch { stop, interrupted, last_poll: Cell::new(None), work: Cell::new(0) }
    }

    /// Reports `multiply_adds` of work and returns whether to stop.
    #[inline]
    pub fn stopped(&self, multiply_adds: usize) -> bool {
        let work = self.work.get() + multiply_adds;
        if work < CHECK_EVERY {
            self.work.set(work);
            return false;
        }
        let stopped = self.poll();
        self.work.set(if stopped { CHECK_EVERY } else { 0 }); // once stopped, every further call polls immediately
        stopped
    }

    #[cold]
    pub(super) fn poll(&self) -> bool {
        if let Some(interrupted) = self.interrupted {
            let mut last = self.last_poll.get().unwrap_or_else(Instant::now);
            if last.elapsed() >= POLL_EVERY {
                // A panicking check must not unwind the calling thread's stack while workers still use it.
                if catch_unwind(AssertUnwindSafe(interrupted)).unwrap_or(true) {
                    self.stop.store(true, Ordering::Relaxed);
                }
                last = Instant::now();
            }
            self.last_poll.set(Some(last));
        }
        self.stop.load(Ordering::Relaxed)
    }
}

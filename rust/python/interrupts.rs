//! Cooperation of long calls with the interpreter: Ctrl-C, signal handlers and other Python threads.

use std::time::{Duration, Instant};

use neuralcf::Result;
use pyo3::prelude::*;

use super::errors::{exception, stopped_error};
use super::stop;

/// Runs `work` detached from the interpreter, with a check that looks at the thread's stop token and runs Python's
/// signal handlers. An exception from a handler (Ctrl-C) stops the work and is raised.
pub(super) fn interruptible<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> Result<T> + Send,
) -> PyResult<T> {
    let token = stop::current();
    let asked_to_stop = || token.as_ref().is_some_and(|token| token.stopped());
    let stopped = || stopped_error("the call was stopped by its StopToken".into());
    if asked_to_stop() {
        return Err(stopped());
    }
    let raised = std::sync::Mutex::new(None);
    let outcome = py.detach(|| {
        work(&|| {
            if asked_to_stop() {
                *raised.lock().expect("nothing panics while holding it") = Some(stopped());
                return true;
            }
            Python::attach(|py| match py.check_signals() {
                Ok(()) => false,
                Err(error) => {
                    *raised.lock().expect("nothing panics while holding it") = Some(error);
                    true
                }
            })
        })
    });
    match raised.into_inner().expect("nothing panics while holding it") {
        Some(error) => Err(error),
        None => outcome.map_err(exception),
    }
}

/// Lets other Python threads and signal handlers run from time to time while the GIL is held for long.
pub(super) struct Breather {
    /// When they last ran, or had the chance to.
    last: Option<Instant>,
}

impl Breather {
    const EVERY: Duration = Duration::from_millis(20);

    pub(super) fn new() -> Self {
        Breather { last: None }
    }

    /// Lets them run if they have not for a while.
    ///
    /// # Errors
    /// The exception of a signal handler.
    pub(super) fn pause(&mut self, py: Python<'_>) -> PyResult<()> {
        match self.last {
            None => self.last = Some(Instant::now()),
            Some(last) if last.elapsed() >= Self::EVERY => {
                py.check_signals()?;
                py.detach(|| ());
                self.last = Some(Instant::now());
            }
            Some(_) => (),
        }
        Ok(())
    }
}

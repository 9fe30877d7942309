//! `neuralcf.StopToken`: stops the calls of a thread from another one, or after a time.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyType;

use super::errors::{argument_error, no_panic};

/// What a token and the calls under it share.
pub(super) struct Stop {
    asked: AtomicBool,
    deadline: Option<Instant>,
}

impl Stop {
    pub(super) fn stopped(&self) -> bool {
        self.asked.load(Ordering::Relaxed) || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

thread_local! {
    /// The tokens that this thread has entered, the innermost last.
    static ENTERED: RefCell<Vec<Arc<Stop>>> = const { RefCell::new(Vec::new()) };
}

/// The innermost token that this thread has entered.
pub(super) fn current() -> Option<Arc<Stop>> {
    ENTERED.with_borrow(|entered| entered.last().cloned())
}

/// A context manager: calls inside it stop when `stop` is called, by any thread, or when its time is over.
#[pyclass(frozen, module = "neuralcf._core")]
pub(super) struct StopToken {
    stop: Arc<Stop>,
}

#[pymethods]
impl StopToken {
    #[new]
    #[pyo3(signature = (seconds=None))]
    fn new(seconds: Option<f64>) -> PyResult<Self> {
        let deadline = match seconds.map(|seconds| (seconds, Duration::try_from_secs_f64(seconds.max(0.0)))) {
            Some((given, Ok(wait))) if !given.is_nan() => Instant::now().checked_add(wait), // None: never
            Some((given, _)) if given.is_nan() => {
                return Err(argument_error(format!("seconds: expected a number or None, got {given}")));
            }
            _ => None,
        };
        Ok(StopToken { stop: Arc::new(Stop { asked: AtomicBool::new(false), deadline }) })
    }

    /// Stops the calls.
    fn stop(&self) {
        self.stop.asked.store(true, Ordering::Relaxed);
    }

    #[getter]
    fn stopped(&self) -> bool {
        self.stop.stopped()
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        ENTERED.with_borrow_mut(|entered| entered.push(Arc::clone(&slf.stop)));
        slf
    }

    fn __exit__(
        &self,
        _type: Option<&Bound<'_, PyType>>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        no_panic(|| {
            ENTERED.with_borrow_mut(|entered| {
                if let Some(at) = entered.iter().rposition(|stop| Arc::ptr_eq(stop, &self.stop)) {
                    entered.remove(at);
                }
            });
            Ok(())
        })
    }
}

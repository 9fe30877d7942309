//! The only mapping from Rust errors to Python exceptions. The exception classes are in `neuralcf/errors.py`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use neuralcf::Error;
use pyo3::exceptions::{PyMemoryError, PyOSError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

macro_rules! classes {
    ($($function:ident $name:literal)*) => {
        $(pub(super) fn $function(text: String) -> PyErr {
            static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
            Python::attach(|py| match CLASS.import(py, "neuralcf.errors", $name) {
                Ok(class) => PyErr::from_type(class.clone(), text),
                Err(error) => error,
            })
        })*
    };
}

classes! {
    model_format_error "ModelFormatError"
    argument_error "ArgumentError"
    out_of_range_error "OutOfRangeError"
    internal_error "InternalError"
    stopped_error "StoppedError"
}

fn published_error(number: Option<i32>, text: String) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    Python::attach(|py| match CLASS.import(py, "neuralcf.errors", "PublishedError") {
        Ok(class) => PyErr::from_type(class.clone(), (number, text)),
        Err(error) => error,
    })
}

/// The Python exception for an error.
pub(super) fn exception(error: Error) -> PyErr {
    match error {
        Error::Format(text) => model_format_error(text),
        Error::Argument(text) => argument_error(text),
        Error::OutOfRange(text) => out_of_range_error(text),
        Error::Internal(text) => internal_error(text),
        Error::Memory(text) => PyMemoryError::new_err(text),
        // Python chooses the subclass, such as FileNotFoundError, by the number.
        Error::Io { doing, source } => match source.raw_os_error() {
            Some(number) => PyOSError::new_err((number, format!("{doing}: {source}"))),
            None => PyOSError::new_err(format!("{doing}: {source}")),
        },
        Error::Published { doing, source } => published_error(source.raw_os_error(), format!("{doing}: {source}")),
        // `interruptible` replaces this with the exception of the signal handler or the stop token.
        Error::Interrupted => internal_error("interrupted without a signal".into()),
    }
}

/// Runs a method's body and turns a panic into `InternalError`, which `except Exception` catches, unlike pyo3's
/// `PanicException`.
pub(super) fn no_panic<T>(body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(exception(Error::from_panic(&*payload))))
}

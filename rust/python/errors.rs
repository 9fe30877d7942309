//! The one mapping from this crate's errors to Python's exceptions. The classes themselves are in `neuralcf/errors.py`.

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
}

/// The exception that an error is in Python.
pub(super) fn exception(error: Error) -> PyErr {
    match error {
        Error::Format(text) => model_format_error(text),
        Error::Argument(text) => argument_error(text),
        Error::OutOfRange(text) => out_of_range_error(text),
        Error::Internal(text) => internal_error(text),
        Error::Memory(text) => PyMemoryError::new_err(text),
        // Python picks FileNotFoundError and its like by the number.
        Error::Io { doing, source } => match source.raw_os_error() {
            Some(number) => PyOSError::new_err((number, format!("{doing}: {source}"))),
            None => PyOSError::new_err(format!("{doing}: {source}")),
        },
        // `interruptible` replaces this by what the signal handler raised.
        Error::Interrupted => internal_error("interrupted without a signal".into()),
    }
}

/// Runs a method's body; a panic becomes `InternalError`, which `except Exception` catches, instead of pyo3's
/// `PanicException`.
pub(super) fn no_panic<T>(body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(exception(Error::from_panic(&*payload))))
}

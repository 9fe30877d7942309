//! The index of a `Scorer`: its building, its summary, and the arguments of an approximate search.

use neuralcf::{Call, Effort, Engine, Error, Index, IndexOptions};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::arrays::describe;
use super::errors::argument_error;
use super::integers::{count, natural};
use super::interrupts::interruptible;

/// The recall of an approximate search, if none is given.
const RECALL: f64 = 0.99;

/// The argument `seed`.
pub(super) struct Seed(pub(super) u64);

impl<'py> FromPyObject<'_, 'py> for Seed {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        natural(&object, "seed").map(Seed)
    }
}

/// The arguments `search`, `recall` and `probes`; `None` for the exact search.
pub(super) fn effort(
    search: &str,
    recall: Option<&Bound<'_, PyAny>>,
    probes: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<Effort>> {
    match (search, recall, probes) {
        ("exact", None, None) => Ok(None),
        ("exact", ..) => {
            let name = if recall.is_some() { "recall" } else { "probes" };
            Err(argument_error(format!("{name}: only for search=\"approximate\"; \"exact\" finds every item")))
        }
        ("approximate", Some(_), Some(_)) => Err(argument_error("probes: expected recall or probes, got both".into())),
        ("approximate", None, Some(probes)) => Ok(Some(Effort::Probes(count(probes, "probes")?))),
        ("approximate", None, None) => Ok(Some(Effort::Recall(RECALL))),
        ("approximate", Some(recall), None) => {
            let number = recall
                .extract::<f64>()
                .map_err(|_| PyTypeError::new_err(format!("recall: expected a number, got {}", describe(recall))))?;
            Ok(Some(Effort::Recall(number)))
        }
        (other, ..) => Err(argument_error(format!("search: expected \"exact\" or \"approximate\", got {other:?}"))),
    }
}

/// Builds an index, and calls `progress` with the share that is done; its exception ends the building.
pub(super) fn build(
    py: Python<'_>,
    engine: &Engine,
    options: &IndexOptions,
    progress: Option<Bound<'_, PyAny>>,
    threads: usize,
) -> PyResult<Index> {
    let progress = progress.map(Bound::unbind);
    let mut raised = None;
    let outcome = interruptible(py, |interrupted| {
        let mut report = |share: f64| {
            if let Some(progress) = &progress {
                Python::attach(|py| progress.call1(py, (share,))).map_err(|error| {
                    raised = Some(error);
                    Error::Interrupted
                })?;
            }
            if interrupted() { Err(Error::Interrupted) } else { Ok(()) }
        };
        Index::build(engine, options, &mut report, Call { threads, interrupted })
    });
    match raised {
        Some(error) => Err(error),
        None => outcome,
    }
}

/// `neuralcf.results.IndexSummary`.
pub(super) fn summary<'py>(py: Python<'py>, index: &Index) -> PyResult<Bound<'py, PyAny>> {
    let level_class = class(py, &LEVEL, "IndexLevel")?;
    let level = |level: &neuralcf::IndexLevel| {
        level_class.call1((level.k, level.recall, level.measured, level.lists, level.items))
    };
    let levels = index.levels().iter().map(level).collect::<PyResult<Vec<_>>>()?;
    class(py, &SUMMARY, "IndexSummary")?.call1((index.lists(), index.nbytes(), levels))
}

static LEVEL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static SUMMARY: PyOnceLock<Py<PyType>> = PyOnceLock::new();

fn class<'py>(
    py: Python<'py>,
    class: &'static PyOnceLock<Py<PyType>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyType>> {
    class.import(py, "neuralcf.results", name)
}

//! The index of a `Scorer`: its building, loading and saving, its summary, and the arguments of an approximate search.

use std::path::Path;
use std::sync::Arc;

use neuralcf::format::{OpenedIndex, SavedIndex};
use neuralcf::{Call, Effort, Engine, Error, Index, IndexOptions, MeasuredRecall};
use numpy::{IntoPyArray, PyArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use super::arrays::describe;
use super::errors::{argument_error, exception};
use super::integers::{count, natural};
use super::interrupts::interruptible;

/// The recall of an approximate search, if none is given.
const RECALL: f64 = 0.99;

/// What a scorer has for approximate searches.
#[derive(Clone)]
pub(super) enum Indexed {
    No,
    Yes(Arc<Index>),
    /// The file of its index cannot be used, as this sentence says.
    Refused(Arc<str>),
}

impl Indexed {
    /// The index that was read with the model at `path`. Returns its digest too, if it can be used.
    pub(super) fn opened(
        path: &Path,
        opened: Option<Result<OpenedIndex, String>>,
        engine: &Engine,
        max_bytes: Option<u64>,
        call: Call<'_>,
    ) -> neuralcf::Result<(Indexed, Option<String>)> {
        let OpenedIndex { saved, digest } = match opened {
            None => return Ok((Indexed::No, None)),
            Some(Err(text)) => return Ok((Indexed::Refused(text.into()), None)),
            Some(Ok(opened)) => opened,
        };
        match Index::restore(engine, &saved, max_bytes, call) {
            Ok(index) => Ok((Indexed::Yes(Arc::new(index)), Some(digest))),
            Err(Error::Format(text)) => {
                let text = format!("{}: {text}", path.join("index.safetensors").display());
                Ok((Indexed::Refused(text.into()), None))
            }
            Err(other) => Err(other),
        }
    }

    /// The index, if there is one.
    pub(super) fn get(&self) -> PyResult<Option<&Index>> {
        match self {
            Indexed::No => Ok(None),
            Indexed::Yes(index) => Ok(Some(index)),
            Indexed::Refused(text) => {
                Err(exception(Error::Format(format!("{text}; build the index again, or use search=\"exact\""))))
            }
        }
    }

    pub(super) fn nbytes(&self) -> Option<usize> {
        match self {
            Indexed::Yes(index) => Some(index.nbytes()),
            Indexed::No | Indexed::Refused(_) => None,
        }
    }
}

/// Saves an index in the directory of the model whose `model.safetensors` has the SHA-256 `weights`.
pub(super) fn save(py: Python<'_>, index: &Index, directory: &Path, model_id: &str, weights: &str) -> PyResult<()> {
    let SavedIndex { list_of, lifts, levels, lists, seed } = py.detach(|| index.saved()).map_err(exception)?;
    let rows = levels.len();
    let levels: Vec<f64> = levels.into_iter().flatten().collect();
    let list_of: Vec<i32> = list_of.into_iter().map(u32::cast_signed).collect();
    let tensors = PyDict::new(py);
    tensors.set_item("levels", levels.into_pyarray(py).reshape([rows, 6])?)?;
    tensors.set_item("lifts", lifts.into_pyarray(py))?;
    tensors.set_item("list_of", list_of.into_pyarray(py))?;
    let metadata = PyDict::new(py);
    metadata.set_item("model_id", model_id)?;
    metadata.set_item("model_sha256", weights)?;
    metadata.set_item("lists", lists.to_string())?;
    metadata.set_item("seed", seed.to_string())?;
    py.import("neuralcf.format.index")?.call_method1("save_index", (directory, tensors, metadata))?;
    Ok(())
}

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
        ("approximate", recall, None) => Ok(Some(Effort::Recall(recall_or_default(recall)?))),
        (other, ..) => Err(argument_error(format!("search: expected \"exact\" or \"approximate\", got {other:?}"))),
    }
}

/// The argument `recall`.
pub(super) fn recall_or_default(recall: Option<&Bound<'_, PyAny>>) -> PyResult<f64> {
    let Some(recall) = recall else { return Ok(RECALL) };
    let refuse = |_| PyTypeError::new_err(format!("recall: expected a number, got {}", describe(recall)));
    recall.extract::<f64>().map_err(refuse)
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

/// `neuralcf.results.IndexRecall`.
pub(super) fn measured<'py>(
    py: Python<'py>,
    k: usize,
    recall: f64,
    index: &Index,
    measured: &MeasuredRecall,
) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let MeasuredRecall { mean, error, users, calibrated, unlisted } = *measured;
    let listed = index.lists() as f64 + calibrated.items;
    let advice = if mean + 2.0 * error < recall {
        Some(format!("build the index again: searches find {mean:.4} of the exact lists, and {recall} was promised"))
    } else if unlisted as f64 > listed {
        Some(format!(
            "build the index again: each search scores {unlisted} changed items besides {listed:.0} lists and items in them"
        ))
    } else {
        None
    };
    class(py, &CLASS, "IndexRecall")?.call1((k, recall, mean, error, users, calibrated.measured, unlisted, advice))
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

//! The Python module `neuralcf._core`: it only translates. Its stub is `python/neuralcf/_core.pyi`.

mod arguments;
mod arrays;
mod errors;
mod features;
mod floats;
mod ids;
mod index;
mod integers;
mod interrupts;
mod item_sets;
mod sampler;
mod scorer;
mod stop;
mod tensors;
mod walk;
mod weights;

use pyo3::prelude::*;

// The GIL keeps an array's memory in place while `arrays` copies it. Free-threaded Python has no GIL, so support for it
// is not declared.
#[pymodule(gil_used = true)]
mod _core {
    use std::path::PathBuf;

    use neuralcf::{Isa, choose_threads};
    use pyo3::prelude::*;
    use pyo3::types::{PyDict, PyMapping};

    use super::errors::{exception, no_panic};
    use super::features;
    #[pymodule_export]
    use super::ids::PyIds;
    #[pymodule_export]
    use super::item_sets::PyItemSet;
    #[pymodule_export]
    use super::item_sets::PyItemSets;
    #[pymodule_export]
    use super::sampler::PySampler;
    use super::scorer;
    #[pymodule_export]
    use super::scorer::Scorer;
    #[pymodule_export]
    use super::stop::StopToken;
    use super::tensors;
    #[pymodule_export]
    use super::walk::PyGroups;
    use super::weights::{self, Weights};

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "the name that Python expects")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// Loads a model and its external ids as one generation; with digests, only the model and the index that were
    /// pickled.
    #[pyfunction]
    #[pyo3(signature = (path, *, threads=None, isa=None, max_bytes=None, digest=None, index_digest=None))]
    fn open_model(
        py: Python<'_>,
        path: PathBuf,
        threads: Option<&Bound<'_, PyAny>>,
        isa: Option<&str>,
        max_bytes: Option<&Bound<'_, PyAny>>,
        digest: Option<&str>,
        index_digest: Option<&str>,
    ) -> PyResult<(Scorer, Option<PyIds>, Option<PyIds>)> {
        no_panic(|| scorer::open(py, &path, threads, isa, max_bytes, digest, index_digest))
    }

    /// Loads the model that was pickled.
    #[pyfunction]
    fn reopen(
        py: Python<'_>,
        path: PathBuf,
        digest: &str,
        threads: Option<&Bound<'_, PyAny>>,
        isa: Option<&str>,
        index_digest: Option<&str>,
    ) -> PyResult<Scorer> {
        no_panic(|| scorer::open(py, &path, threads, isa, None, Some(digest), index_digest).map(|opened| opened.0))
    }

    /// Validates tensors as the reader of model files does; returns the model's kind and sizes.
    #[pyfunction]
    #[pyo3(signature = (tensors, *, kind=None, history=None))]
    fn check_tensors<'py>(
        py: Python<'py>,
        tensors: &Bound<'py, PyMapping>,
        kind: Option<&str>,
        history: Option<&Bound<'py, PyMapping>>,
    ) -> PyResult<(&'static str, Bound<'py, PyDict>)> {
        no_panic(|| tensors::check(py, tensors, kind, history))
    }

    /// Reads a model's id and what gives vectors to users and items by their features: a dict with an entry for each
    /// side. None if there is nothing.
    #[pyfunction]
    fn read_features(py: Python<'_>, path: PathBuf) -> PyResult<Option<(String, Bound<'_, PyDict>)>> {
        no_panic(|| features::read(py, &path))
    }

    /// Reads a model's id, its tensors, those of its fold-in, and its external ids.
    #[pyfunction]
    fn read_weights(py: Python<'_>, path: PathBuf) -> PyResult<Weights<'_>> {
        no_panic(|| weights::read(py, &path))
    }

    /// Rejects what would take more bytes than are free.
    #[pyfunction]
    fn check_memory(what: &str, bytes: u64) -> PyResult<()> {
        no_panic(|| neuralcf::memory::check(what, bytes, None).map_err(exception))
    }

    /// Moves a complete directory into place atomically.
    #[pyfunction]
    fn publish(py: Python<'_>, staging: PathBuf, target: PathBuf) -> PyResult<()> {
        no_panic(|| py.detach(|| neuralcf::format::publish(&staging, &target)).map_err(exception))
    }

    /// What this machine offers and what NeuralCF uses.
    #[pyfunction]
    fn machine(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        no_panic(|| {
            let dict = PyDict::new(py);
            let supported: Vec<_> = Isa::supported().iter().map(|isa| isa.name()).collect();
            dict.set_item("isa", Isa::choose(None).map_err(exception)?.name())?;
            dict.set_item("supported", supported)?;
            dict.set_item("threads", choose_threads(None).map_err(exception)?)?;
            let features = PyDict::new(py);
            Isa::cpu_features().into_iter().try_for_each(|(name, has)| features.set_item(name, has))?;
            dict.set_item("cpu_features", features)?;
            Ok(dict)
        })
    }
}

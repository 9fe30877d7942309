//! `neuralcf.Scorer`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use neuralcf::error::reserve;
use neuralcf::format::{self, FoldIn, Kind, Model, Opened, Sizes};
use neuralcf::{
    Call, Engine, Error, Index, IndexOptions, Isa, Scale, ScanPrecision, Terms, UserVectors, Users, choose_threads,
};
use numpy::{IntoPyArray, PyArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyMapping, PyString, PyType};

use super::arguments::{self, FilterArguments, K, UsersArgument, csr, max_bytes, threads, user_vectors_class};
use super::arrays::Out;
use super::errors::{argument_error, exception, no_panic};
use super::ids::PyIds;
use super::index::{self, Indexed, Seed, effort};
use super::integers::{count, indices};
use super::interrupts::interruptible;
use super::tensors::{TensorArguments, fold_in};
use super::walk::WalkArguments;

/// Pairs times multiply-adds below which a call keeps the GIL: about 20 us of work.
const WORTH_DETACHING: usize = 1_000_000;

/// Scores pairs and ranks the catalogue with a trained model.
#[pyclass(frozen, module = "neuralcf")]
pub(super) struct Scorer {
    engine: Arc<Engine>,
    index: Indexed,
    threads: usize,
    origin: Origin,
}

/// What a scorer was made from.
enum Origin {
    /// The files of a model, which a pickle names.
    Model(Arc<Files>),
    Tensors,
    /// Another scorer, by a change of items.
    Changed,
    /// Another scorer, of these files if it was loaded, by the building of an index.
    Indexed(Option<Arc<Files>>),
}

/// The files of a model, and the options with which they were loaded.
struct Files {
    path: PathBuf,
    digest: String,
    /// That of model.safetensors in a directory.
    weights_digest: Option<String>,
    /// That of the index, if there is one.
    index_digest: Option<String>,
    threads: Option<usize>,
    isa: Option<String>,
}

/// The options that are fixed when a model is laid out.
struct Choices {
    isa: Isa,
    threads: usize,
    requested_threads: Option<usize>,
    max_bytes: Option<u64>,
}

impl Choices {
    fn new(
        threads_argument: Option<&Bound<'_, PyAny>>,
        isa: Option<&str>,
        max_bytes_argument: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let requested_threads = threads(threads_argument)?;
        let isa = Isa::choose(isa).map_err(exception)?;
        let threads = choose_threads(requested_threads).map_err(exception)?;
        Ok(Choices { isa, threads, requested_threads, max_bytes: max_bytes(max_bytes_argument)? })
    }
}

/// Loads a model and its ids as one generation; with a `digest`, only that generation, and with an `index_digest`, only
/// that index.
pub(super) fn open(
    py: Python<'_>,
    path: &Path,
    threads_argument: Option<&Bound<'_, PyAny>>,
    isa: Option<&str>,
    max_bytes: Option<&Bound<'_, PyAny>>,
    digest: Option<&str>,
    index_digest: Option<&str>,
) -> PyResult<(Scorer, Option<PyIds>, Option<PyIds>)> {
    let choices = Choices::new(threads_argument, isa, max_bytes)?;
    let path = std::path::absolute(path)?;
    let (engine, users, items, index, digests) = interruptible(py, |interrupted| {
        let mut check = || if interrupted() { Err(Error::Interrupted) } else { Ok(()) };
        let admit = |sizes: &Sizes, other| Engine::admit(sizes, other, choices.threads, choices.max_bytes);
        let Opened { model, seen, history, users, items, index, digest: found, weights_digest, .. } =
            format::open_admitted(&path, &admit, &mut check)?;
        if let Some(expected) = digest
            && expected != found
        {
            let path = path.display();
            return Err(Error::Format(format!(
                "{path}: the model has changed since it was pickled: expected digest {expected}, got {found}"
            )));
        }
        let call = Call { threads: choices.threads, interrupted };
        let engine = Engine::new(model, seen, choices.isa, ScanPrecision::Auto, call)?;
        let engine = with_fold_in(engine, history, call)?;
        let (index, found_index) = Indexed::opened(&path, index, &engine, choices.max_bytes, call)?;
        if let Some(expected) = index_digest
            && found_index.as_deref() != Some(expected)
        {
            let (path, got) = (path.join("index.safetensors"), found_index.as_deref().unwrap_or("none"));
            return Err(Error::Format(format!(
                "{}: the index has changed since it was pickled: expected SHA-256 {expected}, got {got}",
                path.display()
            )));
        }
        Ok((engine, users, items, index, (found, weights_digest, found_index)))
    })?;
    let (digest, weights_digest, index_digest) = digests;
    let (threads, isa) = (choices.requested_threads, isa.map(str::to_string));
    let files = Files { path, digest, weights_digest, index_digest, threads, isa };
    let (engine, origin) = (Arc::new(engine), Origin::Model(Arc::new(files)));
    let scorer = Scorer { engine, index, threads: choices.threads, origin };
    Ok((scorer, users.map(PyIds::new), items.map(PyIds::new)))
}

fn with_fold_in(engine: Engine, fold_in: Option<FoldIn>, call: Call<'_>) -> neuralcf::Result<Engine> {
    match fold_in {
        Some(fold_in) => engine.with_fold_in(fold_in),
        None => engine.with_fitted_users(call),
    }
}

fn scale(logits: bool) -> Scale {
    if logits { Scale::Logit } else { Scale::Probability }
}

impl Scorer {
    /// Runs a `query` of `pairs` scores: a small one directly, a larger one detached from the interpreter on several
    /// threads.
    fn run<T: Send>(
        &self,
        py: Python<'_>,
        pairs: usize,
        threads: usize,
        query: impl FnOnce(Call<'_>) -> neuralcf::Result<T> + Send,
    ) -> PyResult<T> {
        if pairs.saturating_mul(self.engine.multiply_adds()) < WORTH_DETACHING {
            return query(Call::ALONE).map_err(exception);
        }
        interruptible(py, |interrupted| query(Call { threads, interrupted }))
    }

    /// A scorer of the same model with other items.
    fn changed(
        &self,
        py: Python<'_>,
        change: impl FnOnce(&Engine, Call<'_>) -> neuralcf::Result<Engine> + Send,
    ) -> PyResult<Self> {
        let threads = self.threads;
        let engine = interruptible(py, |interrupted| change(&self.engine, Call { threads, interrupted }))?;
        let (engine, index) = (Arc::new(engine), self.index.clone());
        Ok(Scorer { engine, index, threads, origin: Origin::Changed })
    }

    /// The files whose model, as it was loaded, this is.
    fn files(&self) -> Option<&Arc<Files>> {
        match &self.origin {
            Origin::Model(files) => Some(files),
            Origin::Indexed(files) => files.as_ref(),
            Origin::Tensors | Origin::Changed => None,
        }
    }

    /// The number of threads for a call.
    fn threads_of(&self, argument: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
        Ok(threads(argument)?.unwrap_or(self.threads))
    }

    /// The index, for a search with a walk or without.
    fn index_for(&self, walk: bool) -> PyResult<&Index> {
        let refused = |text: &str| Err(argument_error(text.into()));
        match self.index.get()? {
            None => {
                refused("search: \"approximate\" needs an index, and this model has none; use \"exact\", or build one")
            }
            Some(_) if walk => refused(
                "search: \"approximate\" does not take max_per_group or after, which go by the whole ranking; use \"exact\"",
            ),
            Some(index) => Ok(index),
        }
    }

    fn catalogue(&self, rows: usize) -> usize {
        rows.saturating_mul(self.engine.num_items())
    }

    /// `neuralcf.results.UserVectors`.
    fn to_python<'py>(&self, py: Python<'py>, vectors: UserVectors) -> PyResult<Bound<'py, PyAny>> {
        let rows = vectors.rows;
        let matrix = |values: Option<Vec<f32>>, width: usize| {
            values.map(|values| values.into_pyarray(py).reshape([rows, width])).transpose()
        };
        let (g, mu) = self.engine.user_widths();
        user_vectors_class(py)?.call1((matrix(vectors.gmf, g)?, matrix(vectors.mlp, mu)?))
    }
}

#[pymethods]
impl Scorer {
    #[staticmethod]
    #[pyo3(signature = (path, *, threads=None, isa=None, max_bytes=None))]
    fn load(
        py: Python<'_>,
        path: PathBuf,
        threads: Option<&Bound<'_, PyAny>>,
        isa: Option<&str>,
        max_bytes: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        no_panic(|| open(py, &path, threads, isa, max_bytes, None, None).map(|opened| opened.0))
    }

    #[staticmethod]
    #[pyo3(signature = (tensors, *, kind=None, seen=None, history=None, threads=None, isa=None, max_bytes=None))]
    #[expect(clippy::too_many_arguments, reason = "Python keyword arguments")]
    fn from_tensors(
        py: Python<'_>,
        tensors: &Bound<'_, PyMapping>,
        kind: Option<&str>,
        seen: Option<&Bound<'_, PyAny>>,
        history: Option<&Bound<'_, PyMapping>>,
        threads: Option<&Bound<'_, PyAny>>,
        isa: Option<&str>,
        max_bytes: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        no_panic(|| {
            let choices = Choices::new(threads, isa, max_bytes)?;
            let kind = kind.map(str::parse::<Kind>).transpose().map_err(exception)?;
            let tensors = TensorArguments::new(tensors)?;
            let model = tensors.read(py, |infos, fill| {
                Engine::admit(&Model::sizes(kind, infos)?, 0, choices.threads, choices.max_bytes)?;
                Model::assemble(kind, Default::default(), infos, fill)
            })?;
            let seen = match seen {
                None => None,
                Some(object) => Some(csr(object, "seen", model.num_items(), choices.threads)?.ok_or_else(|| {
                    PyTypeError::new_err("seen: expected scipy CSR or (indptr, indices), one row for each user")
                })?),
            };
            let fold_in = match history {
                None => None,
                Some(tensors) => Some(fold_in(py, tensors, model.num_items(), model.user_width())?),
            };
            let (isa, threads) = (choices.isa, choices.threads);
            let engine = interruptible(py, |interrupted| {
                let call = Call { threads, interrupted };
                with_fold_in(Engine::new(model, seen, isa, ScanPrecision::Auto, call)?, fold_in, call)
            })?;
            Ok(Scorer { engine: Arc::new(engine), index: Indexed::No, threads, origin: Origin::Tensors })
        })
    }

    #[getter]
    fn num_users(&self) -> usize {
        self.engine.num_users()
    }

    #[getter]
    fn num_items(&self) -> usize {
        self.engine.num_items()
    }

    #[getter]
    fn kind(&self) -> &'static str {
        self.engine.kind().as_str()
    }

    #[getter]
    fn isa(&self) -> &'static str {
        self.engine.isa().name()
    }

    #[getter]
    fn scan_precision(&self) -> &'static str {
        self.engine.scan_precision().name()
    }

    #[getter]
    fn scan_reason(&self) -> &str {
        self.engine.scan_reason()
    }

    #[getter]
    fn threads(&self) -> usize {
        self.threads
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (key, value) in self.engine.metadata().iter() {
            let [key, value] = [key, value].map(|text| PyString::from_bytes(py, text.as_bytes()));
            dict.set_item(key?, value?)?;
        }
        Ok(dict)
    }

    #[getter]
    fn nbytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        self.engine.nbytes().into_iter().try_for_each(|(part, bytes)| dict.set_item(part, bytes))?;
        self.index.nbytes().map_or(Ok(()), |bytes| dict.set_item("index", bytes))?;
        Ok(dict)
    }

    #[pyo3(signature = (users, items, *, logits=false, out=None, threads=None))]
    fn score_batch<'py>(
        &self,
        py: Python<'py>,
        users: &Bound<'py, PyAny>,
        items: &Bound<'py, PyAny>,
        logits: bool,
        out: Option<&Bound<'py, PyAny>>,
        threads: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        no_panic(|| {
            let threads = self.threads_of(threads)?;
            let users = UsersArgument::new(users, &self.engine, threads)?;
            let items = indices(items, self.engine.item_check(), threads)?;
            let out = out.map(|out| Out::new(out, items.len())).transpose()?;
            let scores = self.run(py, items.len(), threads, |call| {
                users.with(&self.engine, items.len(), call, |users| {
                    self.engine.score_batch(users, &items, scale(logits), call)
                })
            })?;
            Ok(match out {
                Some(out) => out.write(&scores)?.into_any(),
                None => scores.into_pyarray(py).into_any(),
            })
        })
    }

    #[pyo3(signature = (users, k=K(10), *, exclude=None, allow=None, deny=None, max_per_group=None, after=None, search="exact", recall=None, probes=None, logits=false, threads=None))]
    #[pyo3(
        text_signature = "($self, users, k=10, *, exclude=None, allow=None, deny=None, max_per_group=None, after=None, search='exact', recall=None, probes=None, logits=False, threads=None)"
    )]
    #[expect(clippy::too_many_arguments, reason = "Python keyword arguments")]
    fn top_k<'py>(
        &self,
        py: Python<'py>,
        users: &Bound<'py, PyAny>,
        k: K,
        exclude: Option<&Bound<'py, PyAny>>,
        allow: Option<&Bound<'py, PyAny>>,
        deny: Option<&Bound<'py, PyAny>>,
        max_per_group: Option<&Bound<'py, PyAny>>,
        after: Option<&Bound<'py, PyAny>>,
        search: &str,
        recall: Option<&Bound<'py, PyAny>>,
        probes: Option<&Bound<'py, PyAny>>,
        logits: bool,
        threads: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        no_panic(|| {
            let effort = effort(search, recall, probes)?;
            let K(k) = k;
            let threads = self.threads_of(threads)?;
            let users = UsersArgument::new(users, &self.engine, threads)?;
            let filters = FilterArguments::new(&self.engine, exclude, allow, deny, threads)?;
            let walk = WalkArguments::new(max_per_group, after)?;
            let approximate = match effort {
                None => None,
                Some(effort) => Some((self.index_for(walk.is_some())?, effort)),
            };
            let rows = users.len();
            let pairs = match approximate {
                None => self.catalogue(rows),
                Some((index, _)) => rows.saturating_mul(index.lists()),
            };
            let top = self.run(py, pairs, threads, |call| {
                users.with(&self.engine, rows, call, |users| {
                    let (engine, filter, scale) = (&self.engine, filters.filter(&self.engine), scale(logits));
                    match (&walk, approximate) {
                        (None, None) => engine.top_k(users, k, &filter, scale, call),
                        (None, Some((index, effort))) => index.top_k(engine, users, k, &filter, effort, scale, call),
                        (Some(walk), _) => walk.with(|walk| engine.top_k_of_walk(users, k, &filter, walk, scale, call)),
                    }
                })
            })?;
            let (ids, scores) = (top.ids.into_pyarray(py), top.scores.into_pyarray(py));
            if matches!(users, UsersArgument::One(_)) {
                return top_k_class(py)?.call1((ids, scores));
            }
            top_k_class(py)?.call1((ids.reshape([rows, k])?, scores.reshape([rows, k])?))
        })
    }

    #[pyo3(signature = (*, lists=None, seed=Seed(0), progress=None, threads=None))]
    #[pyo3(text_signature = "($self, *, lists=None, seed=0, progress=None, threads=None)")]
    fn build_index(
        &self,
        py: Python<'_>,
        lists: Option<&Bound<'_, PyAny>>,
        seed: Seed,
        progress: Option<Bound<'_, PyAny>>,
        threads: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        no_panic(|| {
            let threads = self.threads_of(threads)?;
            let lists = lists.map(|lists| count(lists, "lists")).transpose()?;
            let index = index::build(py, &self.engine, &IndexOptions { lists, seed: seed.0 }, progress, threads)?;
            let files = self.files().cloned();
            Ok(Scorer {
                engine: Arc::clone(&self.engine),
                index: Indexed::Yes(Arc::new(index)),
                threads: self.threads,
                origin: Origin::Indexed(files),
            })
        })
    }

    fn save_index(&self, py: Python<'_>) -> PyResult<()> {
        no_panic(|| {
            let refused = |text: &str| Err(argument_error(format!("save_index: {text}")));
            let Some(index) = self.index.get()? else {
                return refused("this scorer has no index; make one with build_index");
            };
            match self.files().map(|files| (files, &files.weights_digest)) {
                Some((files, Some(weights))) => {
                    let model_id = self.engine.metadata().get("model_id").unwrap_or_default();
                    index::save(py, index, &files.path, model_id, weights)
                }
                _ => refused("expected a scorer of a model directory, which an index is saved in, as it was loaded"),
            }
        })
    }

    #[getter]
    fn index<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        no_panic(|| self.index.get()?.map(|index| index::summary(py, index)).transpose())
    }

    #[pyo3(signature = (k=K(10), recall=None, *, users=None, threads=None))]
    #[pyo3(text_signature = "($self, k=10, recall=0.99, *, users=None, threads=None)")]
    fn index_recall<'py>(
        &self,
        py: Python<'py>,
        k: K,
        recall: Option<&Bound<'py, PyAny>>,
        users: Option<&Bound<'py, PyAny>>,
        threads: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        no_panic(|| {
            let (K(k), recall) = (k, index::recall_or_default(recall)?);
            let threads = self.threads_of(threads)?;
            let index = self.index_for(false)?;
            let measured = match users {
                Some(users) => {
                    let users = UsersArgument::new(users, &self.engine, threads)?;
                    let rows = users.len();
                    self.run(py, self.catalogue(rows), threads, |call| {
                        users
                            .with(&self.engine, rows, call, |users| index.measure(&self.engine, users, k, recall, call))
                    })?
                }
                None => interruptible(py, |interrupted| {
                    let (_, calibrated) = index.users(&self.engine)?;
                    let users = self.engine.users(&calibrated)?;
                    index.measure(&self.engine, &users, k, recall, Call { threads, interrupted })
                })?,
            };
            index::measured(py, k, recall, index, &measured)
        })
    }

    fn index_sample<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        no_panic(|| {
            let (metric, calibrated) = self.index_for(false)?.users(&self.engine).map_err(exception)?;
            let mut users = reserve("sample", metric.len() + calibrated.len()).map_err(exception)?;
            users.extend(metric.into_iter().chain(calibrated).map(i64::from));
            users.sort_unstable();
            users.dedup();
            Ok(users.into_pyarray(py).into_any())
        })
    }

    #[pyo3(signature = (users, items, *, exclude=None, allow=None, deny=None, threads=None))]
    #[expect(clippy::too_many_arguments, reason = "Python keyword arguments")]
    fn rank_of<'py>(
        &self,
        py: Python<'py>,
        users: &Bound<'py, PyAny>,
        items: &Bound<'py, PyAny>,
        exclude: Option<&Bound<'py, PyAny>>,
        allow: Option<&Bound<'py, PyAny>>,
        deny: Option<&Bound<'py, PyAny>>,
        threads: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        no_panic(|| {
            let threads = self.threads_of(threads)?;
            let users = UsersArgument::new(users, &self.engine, threads)?;
            let items = indices(items, self.engine.item_check(), threads)?;
            let filters = FilterArguments::new(&self.engine, exclude, allow, deny, threads)?;
            let ranks = self.run(py, self.catalogue(items.len()), threads, |call| {
                users.with(&self.engine, items.len(), call, |users| {
                    self.engine.rank_of(users, &items, &filters.filter(&self.engine), call)
                })
            })?;
            Ok(ranks.into_pyarray(py).into_any())
        })
    }

    fn explain<'py>(
        &self,
        py: Python<'py>,
        users: &Bound<'py, PyAny>,
        items: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        no_panic(|| {
            let users = UsersArgument::new(users, &self.engine, self.threads)?;
            let items = indices(items, self.engine.item_check(), self.threads)?;
            let terms = users
                .with(&self.engine, items.len(), Call::ALONE, |users| self.engine.explain(users, &items))
                .map_err(exception)?;
            let (rows, bias) = (terms.len(), self.engine.bias());
            let (g, h) = self.engine.term_widths();
            let mut gmf = reserve("terms", rows * g).map_err(exception)?;
            let mut mlp = reserve("terms", rows * h).map_err(exception)?;
            for Terms { gmf: of_gmf, mlp: of_mlp, .. } in terms {
                gmf.extend(of_gmf);
                mlp.extend(of_mlp);
            }
            let (gmf, mlp) = (gmf.into_pyarray(py).reshape([rows, g])?, mlp.into_pyarray(py).reshape([rows, h])?);
            Ok((bias, gmf, mlp).into_pyobject(py)?.into_any())
        })
    }

    fn user_vectors<'py>(&self, py: Python<'py>, users: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        no_panic(|| {
            let users = UsersArgument::new(users, &self.engine, self.threads)?;
            if matches!(users, UsersArgument::Vectors(_)) {
                return Err(PyTypeError::new_err("users: expected user indices, got UserVectors"));
            }
            let gather = |users: &Users<'_>| self.engine.user_vectors(users);
            let vectors = users.with(&self.engine, users.len(), Call::ALONE, gather).map_err(exception)?;
            self.to_python(py, vectors)
        })
    }

    fn with_items(&self, py: Python<'_>, items: &Bound<'_, PyAny>, vectors: &Bound<'_, PyAny>) -> PyResult<Self> {
        no_panic(|| {
            let items = indices(items, self.engine.item_check(), self.threads)?;
            let vectors = arguments::item_vectors(vectors)?;
            self.changed(py, |engine, call| engine.with_items(&items, &vectors, call))
        })
    }

    fn with_new_items(&self, py: Python<'_>, vectors: &Bound<'_, PyAny>) -> PyResult<Self> {
        no_panic(|| {
            let vectors = arguments::item_vectors(vectors)?;
            self.changed(py, |engine, call| engine.with_new_items(&vectors, call))
        })
    }

    fn without_items(&self, py: Python<'_>, items: &Bound<'_, PyAny>) -> PyResult<Self> {
        no_panic(|| {
            let items = indices(items, self.engine.item_check(), self.threads)?;
            self.changed(py, |engine, _| engine.without_items(&items))
        })
    }

    fn seen_items<'py>(&self, py: Python<'py>, users: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        no_panic(|| {
            let Some(seen) = self.engine.seen() else {
                return Err(argument_error("seen_items: this model was saved without interactions".into()));
            };
            let users = indices(users, self.engine.user_check(), self.threads)?;
            let total = users.values().iter().map(|&user| seen.row(user as usize).len()).sum();
            let mut indptr = reserve("seen items", users.len() + 1).map_err(exception)?;
            let mut items = reserve("seen items", total).map_err(exception)?;
            indptr.push(0i64);
            for &user in users.values() {
                let row = seen.row(user as usize).iter().copied();
                items.extend(row.filter(|&item| self.engine.has_item(item)).map(i64::from));
                indptr.push(items.len() as i64);
            }
            Ok((indptr.into_pyarray(py), items.into_pyarray(py)).into_pyobject(py)?.into_any())
        })
    }

    #[pyo3(signature = (histories, *, weights=None, threads=None))]
    fn fold_in<'py>(
        &self,
        py: Python<'py>,
        histories: &Bound<'py, PyAny>,
        weights: Option<&Bound<'py, PyAny>>,
        threads: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        no_panic(|| {
            let threads = self.threads_of(threads)?;
            let histories = arguments::histories(histories, weights, self.engine.num_items(), threads)?;
            let query = |call: Call<'_>| self.engine.fold_in(&histories, call);
            let vectors = if self.engine.fold_in_work(&histories) < WORTH_DETACHING {
                query(Call::ALONE).map_err(exception)?
            } else {
                interruptible(py, |interrupted| query(Call { threads, interrupted }))?
            };
            self.to_python(py, vectors)
        })
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let origin = match &self.origin {
            Origin::Model(origin) => origin,
            Origin::Tensors => {
                return Err(PyTypeError::new_err(
                    "a Scorer made from tensors cannot be pickled, because it has no file; save the tensors and load that model",
                ));
            }
            Origin::Changed => {
                return Err(PyTypeError::new_err(
                    "a Scorer whose items were changed cannot be pickled, because its file does not have the changes",
                ));
            }
            Origin::Indexed(_) => {
                return Err(PyTypeError::new_err(
                    "a Scorer with an index made by build_index cannot be pickled, because its file may not have the index; call save_index and load the model",
                ));
            }
        };
        let reopen = py.import("neuralcf._core")?.getattr("reopen")?;
        let (isa, index) = (origin.isa.as_deref(), origin.index_digest.as_deref());
        let arguments = (origin.path.as_path(), &origin.digest, origin.threads, isa, index);
        Ok((reopen, arguments).into_pyobject(py)?.into_any())
    }

    fn __copy__(self_: Py<Self>) -> Py<Self> {
        self_
    }

    fn __deepcopy__(self_: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        self_
    }

    fn __repr__(&self) -> String {
        format!(
            "Scorer(kind={:?}, num_users={}, num_items={}, isa={:?}, threads={})",
            self.kind(),
            self.num_users(),
            self.num_items(),
            self.isa(),
            self.threads
        )
    }
}

fn top_k_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "neuralcf.results", "TopK")
}

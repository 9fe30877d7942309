//! Conversion of Python arguments for the engine.

use std::sync::Arc;

use neuralcf::csr::Csr;
use neuralcf::filter::{Allow, Exclude, Filter, ItemSet};
use neuralcf::histories::Histories;
use neuralcf::{Call, Engine, IndexCheck, Indices, ItemVectors, MAX_THREADS, ProjectedUsers, UserVectors, Users};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple, PyType};

use super::arrays::{as_array, describe};
use super::errors::{argument_error, exception};
use super::floats::{matrix, vector};
use super::integers::{count, indices, integers, scalar};
use super::item_sets::{given_set, item_set};

/// The argument `k`.
pub(super) struct K(pub(super) usize);

impl<'py> FromPyObject<'_, 'py> for K {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        count(&object, "k").map(K)
    }
}

/// The argument `threads` of a call or a scorer.
pub(super) fn threads(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<usize>> {
    let Some(object) = object else { return Ok(None) };
    match count(object, "threads")? {
        threads @ ..=MAX_THREADS => Ok(Some(threads)),
        threads => Err(argument_error(format!("threads: expected 1 to {MAX_THREADS}, got {threads}"))),
    }
}

/// The argument `max_bytes` of a scorer, else the environment variable NEURALCF_MAX_BYTES; `None` leaves it to what is
/// free.
pub(super) fn max_bytes(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<u64>> {
    if let Some(object) = object {
        return count(object, "max_bytes").map(|bytes| Some(bytes as u64));
    }
    match std::env::var("NEURALCF_MAX_BYTES") {
        Err(_) => Ok(None),
        Ok(text) => match text.parse() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(_) => Err(argument_error(format!("NEURALCF_MAX_BYTES: expected a number of bytes, got {text:?}"))),
        },
    }
}

/// The argument `users`.
pub(super) enum UsersArgument {
    One(u32),
    Many(Indices<'static>),
    Vectors(UserVectors),
}

impl UsersArgument {
    pub(super) fn new(object: &Bound<'_, PyAny>, engine: &Engine, threads: usize) -> PyResult<Self> {
        if let Some(user) = scalar(object, "users")? {
            return engine.user_check().one(0, user).map(UsersArgument::One).map_err(exception);
        }
        if object.is_instance(user_vectors_class(object.py())?)? {
            let (rows, gmf, mlp) = vectors(object, "users")?;
            return Ok(UsersArgument::Vectors(UserVectors { rows, gmf, mlp }));
        }
        indices(object, engine.user_check(), threads).map(UsersArgument::Many)
    }

    /// The number of rows; 1 for a single user.
    pub(super) fn len(&self) -> usize {
        match self {
            UsersArgument::One(_) => 1,
            UsersArgument::Many(users) => users.len(),
            UsersArgument::Vectors(vectors) => vectors.rows,
        }
    }

    /// Calls `query` with the users; a single user is repeated for `rows` rows.
    pub(super) fn with<T>(
        &self,
        engine: &Engine,
        rows: usize,
        call: Call<'_>,
        query: impl FnOnce(&Users<'_>) -> neuralcf::Result<T>,
    ) -> neuralcf::Result<T> {
        let projected: ProjectedUsers;
        let users = match self {
            UsersArgument::One(user) => engine.user(*user, rows)?,
            UsersArgument::Many(users) => engine.checked_users(users)?,
            UsersArgument::Vectors(vectors) => {
                projected = engine.project(vectors, call)?;
                projected.users()
            }
        };
        query(&users)
    }
}

/// The number of rows, the GMF part and the MLP part of vectors.
type Vectors = (usize, Option<Vec<f32>>, Option<Vec<f32>>);

/// The parts of `UserVectors` or `ItemVectors`.
fn vectors(object: &Bound<'_, PyAny>, what: &str) -> PyResult<Vectors> {
    let parts = object.cast::<PyTuple>()?;
    let gmf = matrix(&parts.get_item(0)?, &format!("{what}.gmf"))?;
    let mlp = matrix(&parts.get_item(1)?, &format!("{what}.mlp"))?;
    let rows = match (&gmf, &mlp) {
        (Some((a, _)), Some((b, _))) if a != b => {
            return Err(argument_error(format!("{what}: expected gmf and mlp with equal rows, got {a} and {b}")));
        }
        (Some((rows, _)), _) | (None, Some((rows, _))) => *rows,
        (None, None) => {
            return Err(argument_error(format!("{what}: expected vectors, got None for both gmf and mlp")));
        }
    };
    Ok((rows, gmf.map(|matrix| matrix.1), mlp.map(|matrix| matrix.1)))
}

/// The argument `vectors`: those of items.
pub(super) fn item_vectors(object: &Bound<'_, PyAny>) -> PyResult<ItemVectors> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    if !object.is_instance(CLASS.import(object.py(), "neuralcf.results", "ItemVectors")?)? {
        let got = describe(object);
        return Err(PyTypeError::new_err(format!("vectors: expected neuralcf.ItemVectors(gmf, mlp), got {got}")));
    }
    let (rows, gmf, mlp) = vectors(object, "vectors")?;
    Ok(ItemVectors { rows, gmf, mlp })
}

pub(super) fn user_vectors_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "neuralcf.results", "UserVectors")
}

/// The arguments `exclude`, `allow` and `deny`.
pub(super) struct FilterArguments {
    exclude: Option<Csr>,
    exclude_seen: bool,
    allow: Option<AllowArgument>,
    deny: Option<Arc<ItemSet>>,
    candidates: Option<Csr>,
}

enum AllowArgument {
    Set(Arc<ItemSet>),
    Listed(Indices<'static>),
}

impl FilterArguments {
    pub(super) fn new(
        engine: &Engine,
        exclude: Option<&Bound<'_, PyAny>>,
        allow: Option<&Bound<'_, PyAny>>,
        deny: Option<&Bound<'_, PyAny>>,
        threads: usize,
    ) -> PyResult<Self> {
        let items = engine.num_items();
        let exclude_seen = match exclude {
            Some(text) if text.is_instance_of::<PyString>() => match text.extract::<String>()?.as_str() {
                "seen" if engine.seen().is_some() => true,
                "seen" => {
                    let text = "exclude: \"seen\" needs stored interactions, and this model was saved without them";
                    return Err(argument_error(text.into()));
                }
                other => return Err(argument_error(format!("exclude: expected \"seen\" or CSR rows, got {other:?}"))),
            },
            _ => false,
        };
        let rows = |object: &Bound<'_, PyAny>| match csr(object, "exclude", items, threads)? {
            Some(rows) => Ok(rows),
            None => {
                let got = describe(object);
                Err(PyTypeError::new_err(format!(
                    "exclude: expected scipy CSR, (indptr, indices) or \"seen\", got {got}"
                )))
            }
        };
        let candidates = allow.map(|object| csr(object, "allow", items, threads)).transpose()?.flatten();
        let allow = if candidates.is_some() { None } else { allow };
        if let Some(object) = deny
            && csr(object, "deny", items, threads)?.is_some()
        {
            return Err(PyTypeError::new_err(
                "deny: expected item indices or a boolean mask; use exclude for CSR rows",
            ));
        }
        Ok(FilterArguments {
            exclude: exclude.filter(|_| !exclude_seen).map(rows).transpose()?,
            exclude_seen,
            allow: allow.map(|object| AllowArgument::new(object, items, threads)).transpose()?,
            deny: deny.map(|object| item_set(object, "deny", items, threads)).transpose()?,
            candidates,
        })
    }

    pub(super) fn filter<'a>(&'a self, engine: &'a Engine) -> Filter<'a> {
        let seen = engine.seen().filter(|_| self.exclude_seen).map(Exclude::Seen);
        Filter {
            exclude: self.exclude.as_ref().map(Exclude::Rows).or(seen),
            allow: self.allow.as_ref().map(|allow| match allow {
                AllowArgument::Set(set) => Allow::Set(set),
                AllowArgument::Listed(listed) => Allow::Listed(listed),
            }),
            deny: self.deny.as_deref(),
            candidates: self.candidates.as_ref(),
        }
    }
}

impl AllowArgument {
    /// An `ItemSet`, indices of items, or a boolean mask over them.
    fn new(object: &Bound<'_, PyAny>, items: usize, threads: usize) -> PyResult<Self> {
        if let Some(set) = given_set(object, "allow", items)? {
            return Ok(AllowArgument::Set(set));
        }
        indices(object, IndexCheck { what: "allow", noun: "item", bound: items }, threads).map(AllowArgument::Listed)
    }
}

/// A scipy CSR matrix or a pair `(indptr, indices)`; None if `object` is neither.
///
/// Up to `threads` threads read the indices.
pub(super) fn csr(object: &Bound<'_, PyAny>, what: &str, columns: usize, threads: usize) -> PyResult<Option<Csr>> {
    let Some((indptr, cells)) = rows(object, what, columns, threads)? else { return Ok(None) };
    Csr::from_indices(what, indptr, cells).map(Some).map_err(exception)
}

/// The arguments `histories` and `weights`.
pub(super) fn histories(
    object: &Bound<'_, PyAny>,
    weights: Option<&Bound<'_, PyAny>>,
    columns: usize,
    threads: usize,
) -> PyResult<Histories> {
    let Some((indptr, cells)) = rows(object, "histories", columns, threads)? else {
        let got = describe(object);
        return Err(PyTypeError::new_err(format!(
            "histories: expected scipy CSR or (indptr, indices), one row for each user, got {got}"
        )));
    };
    let Some(weights) = weights else {
        return Csr::from_indices("histories", indptr, cells).map(Histories::new).map_err(exception);
    };
    let values = vector(weights, "weights")?;
    Histories::weighted("histories", indptr, cells, &values).map_err(exception)
}

/// The parts of compressed sparse rows, not checked yet.
type Rows = (Vec<usize>, Indices<'static>);

/// The `indptr` and `indices` of a scipy CSR matrix or a pair; None if `object` is neither.
fn rows(object: &Bound<'_, PyAny>, what: &str, columns: usize, threads: usize) -> PyResult<Option<Rows>> {
    if let Ok(pair) = object.cast::<PyTuple>() {
        if pair.len() != 2 || scalar(&pair.get_item(0)?, what).is_ok_and(|value| value.is_some()) {
            return Ok(None);
        }
        return parts(&pair.get_item(0)?, &pair.get_item(1)?, what, columns, threads).map(Some);
    }
    if as_array(object)?.is_some() || !object.hasattr("format")? || !object.hasattr("shape")? {
        return Ok(None);
    }
    let format = object.getattr("format")?.str()?.to_string();
    if format != "csr" {
        return Err(PyTypeError::new_err(format!(
            "{what}: expected compressed sparse rows, got format {format:?}; convert with .tocsr()"
        )));
    }
    let shape = object.getattr("shape")?;
    let (_, width): (usize, usize) =
        shape.extract().map_err(|_| argument_error(format!("{what}: expected two dimensions, got shape {shape}")))?;
    if width != columns {
        return Err(argument_error(format!("{what}: expected one column for each of {columns} items, got {width}")));
    }
    parts(&object.getattr("indptr")?, &object.getattr("indices")?, what, columns, threads).map(Some)
}

fn parts(
    indptr: &Bound<'_, PyAny>,
    cells: &Bound<'_, PyAny>,
    what: &str,
    columns: usize,
    threads: usize,
) -> PyResult<Rows> {
    let (indptr_name, cells_name) = (format!("{what}.indptr"), format!("{what}.indices"));
    let indptr = integers(indptr, &indptr_name, |at, value| {
        usize::try_from(value)
            .map_err(|_| argument_error(format!("{indptr_name}[{at}]: expected a position of at least 0, got {value}")))
    })?;
    Ok((indptr, indices(cells, IndexCheck { what: &cells_name, noun: "item", bound: columns }, threads)?))
}

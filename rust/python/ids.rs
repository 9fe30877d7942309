//! `neuralcf._core.Ids`: external ids.

use neuralcf::IndexCheck;
use neuralcf::error::{push, reserve};
use neuralcf::ids::{self, Id};
use numpy::{IntoPyArray, PyArray1};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use super::arrays::describe;
use super::errors::{exception, no_panic};
use super::integers;

/// The external ids of the rows of a table, int64 or str.
#[pyclass(frozen, name = "Ids", module = "neuralcf._core")]
pub(super) struct PyIds {
    ids: ids::Ids,
}

impl PyIds {
    pub(super) fn new(ids: ids::Ids) -> Self {
        PyIds { ids }
    }

    fn are_strings(&self) -> bool {
        !self.ids.is_empty() && matches!(self.ids.get(0), Id::Str(_))
    }
}

#[pymethods]
impl PyIds {
    #[getter]
    fn kind(&self) -> &'static str {
        if self.are_strings() { "str" } else { "int64" }
    }

    fn __len__(&self) -> usize {
        self.ids.len()
    }

    fn find<'py>(&self, py: Python<'py>, ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        no_panic(|| {
            let found: Vec<i64> = if self.are_strings() {
                let position = |id: Bound<'py, PyAny>| {
                    let Ok(text) = id.cast::<PyString>() else {
                        return Err(PyTypeError::new_err(format!("ids: expected str, got {}", describe(&id))));
                    };
                    // A lone surrogate cannot occur in UTF-8, so the id is unknown.
                    Ok(text.to_str().ok().and_then(|text| self.ids.find_str(text)).map_or(-1, |at| at as i64))
                };
                if ids.is_instance_of::<PyString>() {
                    return Err(PyTypeError::new_err("ids: expected a list or array of str, got one str"));
                }
                let mut found = reserve("positions of ids", ids.len().unwrap_or(0)).map_err(exception)?;
                for id in ids.try_iter()? {
                    let position = position(id?)?;
                    push("positions of ids", &mut found, position).map_err(exception)?;
                }
                found
            } else {
                integers::integers(ids, "ids", |_, id| {
                    Ok(i64::try_from(id).ok().and_then(|id| self.ids.find_int(id)).map_or(-1, |at| at as i64))
                })?
            };
            Ok(found.into_pyarray(py))
        })
    }

    fn take<'py>(&self, py: Python<'py>, indices: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        no_panic(|| {
            let positions =
                integers::indices(indices, IndexCheck { what: "indices", noun: "id", bound: self.ids.len() }, 1)?;
            let strings = self.are_strings();
            let count = positions.len();
            let mut ints = reserve("ids", if strings { 0 } else { count }).map_err(exception)?;
            let mut texts = reserve("ids", if strings { count } else { 0 }).map_err(exception)?;
            for &position in positions.values() {
                match self.ids.get(position as usize) {
                    Id::Int(id) => ints.push(id),
                    Id::Str(id) => texts.push(id),
                }
            }
            if strings { Ok(list_of_strings(py, texts)?.into_any()) } else { Ok(ints.into_pyarray(py).into_any()) }
        })
    }
}

/// A list of strings; unlike the conversion of a vector, raises `MemoryError`.
pub(super) fn list_of_strings<'py, 't>(
    py: Python<'py>,
    texts: impl IntoIterator<Item = &'t str>,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for text in texts {
        list.append(PyString::from_bytes(py, text.as_bytes())?)?;
    }
    Ok(list)
}

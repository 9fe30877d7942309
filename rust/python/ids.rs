//! `neuralcf._core.Ids`: external ids.

use neuralcf::IndexCheck;
use neuralcf::error::{push, reserve};
use neuralcf::ids::{self, Id};
use numpy::{IntoPyArray, PyArray1};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use super::arrays::describe;
use super::errors::{exception, no_panic, out_of_range_error};
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

    /// The strings in `ids`, each with what `convert` makes of it.
    fn strings<T>(
        &self,
        ids: &Bound<'_, PyAny>,
        mut convert: impl FnMut(&Bound<'_, PyString>) -> PyResult<T>,
    ) -> PyResult<Vec<T>> {
        if ids.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err("ids: expected a list or array of str, got one str"));
        }
        let mut converted = reserve("ids", ids.len().unwrap_or(0)).map_err(exception)?;
        for id in ids.try_iter()? {
            let id = id?;
            let Ok(text) = id.cast::<PyString>() else {
                return Err(PyTypeError::new_err(format!("ids: expected str, got {}", describe(&id))));
            };
            push("ids", &mut converted, convert(text)?).map_err(exception)?;
        }
        Ok(converted)
    }
}

#[pymethods]
impl PyIds {
    #[getter]
    fn kind(&self) -> &'static str {
        if self.ids.are_strings() { "str" } else { "int64" }
    }

    fn __len__(&self) -> usize {
        self.ids.len()
    }

    fn find<'py>(&self, py: Python<'py>, ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        no_panic(|| {
            let found: Vec<i64> = if self.ids.are_strings() {
                // A lone surrogate cannot occur in UTF-8, so such an id is unknown.
                self.strings(ids, |text| {
                    Ok(text.to_str().ok().and_then(|text| self.ids.find_str(text)).map_or(-1, |at| at as i64))
                })?
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
                integers::indices(indices, IndexCheck { what: "indices", noun: "id", bound: self.ids.bound() }, 1)?;
            if let Some(at) = positions.values().iter().position(|&position| !self.ids.has(position as usize)) {
                let index = positions.values()[at];
                return Err(out_of_range_error(format!("indices[{at}]: the id with index {index} has been removed")));
            }
            let strings = self.ids.are_strings();
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

    fn indices<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        no_panic(|| {
            let mut indices = reserve("indices of ids", self.ids.len()).map_err(exception)?;
            indices.extend((0..self.ids.bound()).filter(|&index| self.ids.has(index)).map(|index| index as i64));
            Ok(indices.into_pyarray(py))
        })
    }

    fn with_ids<'py>(&self, py: Python<'py>, ids: &Bound<'py, PyAny>) -> PyResult<(Self, Bound<'py, PyArray1<i64>>)> {
        no_panic(|| {
            let added = if self.ids.are_strings() {
                let text = |text: &Bound<'_, PyString>| text.to_str().map(str::to_owned);
                self.ids.with_strings(&self.strings(ids, text)?)
            } else {
                let int = |at, id| {
                    i64::try_from(id).map_err(|_| out_of_range_error(format!("ids[{at}]: expected an int64, got {id}")))
                };
                self.ids.with_ints(&integers::integers(ids, "ids", int)?)
            };
            let (ids, indices) = added.map_err(exception)?;
            let mut wide = reserve("indices of ids", indices.len()).map_err(exception)?;
            wide.extend(indices.into_iter().map(i64::from));
            Ok((PyIds::new(ids), wide.into_pyarray(py)))
        })
    }

    fn without(&self, indices: &Bound<'_, PyAny>) -> PyResult<Self> {
        no_panic(|| {
            let check = IndexCheck { what: "indices", noun: "id", bound: self.ids.bound() };
            let indices = integers::indices(indices, check, 1)?;
            self.ids.without(indices.values()).map(PyIds::new).map_err(exception)
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

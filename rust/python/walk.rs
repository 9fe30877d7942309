//! `neuralcf._core.Groups`, and the arguments `max_per_group` and `after` of `top_k`.

use std::sync::Arc;

use neuralcf::error::reserve;
use neuralcf::{GroupLimit, Groups, IndexCheck, PageEnd, Walk};
use numpy::{IntoPyArray, PyArray1};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::arrays::describe;
use super::errors::{argument_error, exception, no_panic, out_of_range_error};
use super::floats::vector;
use super::integers::{count, indices, integers};

/// A group for each item of a catalogue.
#[pyclass(frozen, name = "Groups", module = "neuralcf._core")]
pub(super) struct PyGroups {
    groups: Arc<Groups>,
}

#[pymethods]
impl PyGroups {
    #[new]
    fn new(groups: &Bound<'_, PyAny>) -> PyResult<Self> {
        no_panic(|| {
            let groups = integers(groups, "groups", |at, group| match u32::try_from(group) {
                Ok(group) if group < Groups::NONE => Ok(group),
                Err(_) if group == -1 => Ok(Groups::NONE),
                _ => Err(out_of_range_error(format!("groups[{at}]: expected -1 to {}, got {group}", Groups::NONE - 1))),
            })?;
            Ok(PyGroups { groups: Arc::new(Groups::new(groups)) })
        })
    }

    fn __len__(&self) -> usize {
        self.groups.items()
    }

    fn numbers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        no_panic(|| {
            let number = |&group: &u32| if group == Groups::NONE { -1 } else { group.into() };
            let mut numbers = reserve("groups", self.groups.items()).map_err(exception)?;
            numbers.extend(self.groups.numbers().iter().map(number));
            Ok(numbers.into_pyarray(py))
        })
    }

    fn for_catalogue(&self, num_items: &Bound<'_, PyAny>, removed: &Bound<'_, PyAny>) -> PyResult<Self> {
        no_panic(|| {
            let items = count(num_items, "num_items")?;
            let removed = indices(removed, IndexCheck { what: "removed", noun: "item", bound: items }, 1)?;
            let groups = self.groups.for_catalogue(items, &removed).map_err(exception)?;
            Ok(PyGroups { groups: Arc::new(groups) })
        })
    }
}

/// The arguments `max_per_group` and `after`.
pub(super) struct WalkArguments {
    limits: Vec<(Arc<Groups>, usize)>,
    after: Option<Vec<PageEnd>>,
}

impl WalkArguments {
    /// `None` if neither is given.
    pub(super) fn new(
        max_per_group: Option<&Bound<'_, PyAny>>,
        after: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Self>> {
        if max_per_group.is_none() && after.is_none() {
            return Ok(None);
        }
        let mut limits = Vec::new();
        if let Some(given) = max_per_group {
            for pair in given.try_iter()? {
                let pair = pair?;
                let Ok((groups, most)) = pair.extract::<(Bound<'_, PyGroups>, Bound<'_, PyAny>)>() else {
                    let got = describe(&pair);
                    return Err(PyTypeError::new_err(format!("max_per_group: expected (Groups, int), got {got}")));
                };
                limits.push((Arc::clone(&groups.get().groups), count(&most, "max_per_group")?));
            }
        }
        let after = after.map(page_ends).transpose()?;
        Ok(Some(WalkArguments { limits, after }))
    }

    /// Calls `query` with the walk.
    pub(super) fn with<T>(&self, query: impl FnOnce(Walk<'_>) -> T) -> T {
        let limits: Vec<_> =
            self.limits.iter().map(|(groups, most)| GroupLimit { groups: groups.as_ref(), most: *most }).collect();
        query(Walk { limits: &limits, after: self.after.as_deref() })
    }
}

/// A pair of the scores and the items of page ends.
fn page_ends(object: &Bound<'_, PyAny>) -> PyResult<Vec<PageEnd>> {
    let Some(pair) = object.cast::<PyTuple>().ok().filter(|pair| pair.len() == 2) else {
        return Err(PyTypeError::new_err(format!("after: expected (scores, items), got {}", describe(object))));
    };
    let scores = vector(&pair.get_item(0)?, "after.scores")?;
    let items = integers(&pair.get_item(1)?, "after.items", |at, item| match u32::try_from(item) {
        Ok(item) => Ok(Some(item)),
        Err(_) if item == -1 => Ok(None),
        Err(_) => Err(out_of_range_error(format!("after.items[{at}]: item index {item} is out of range"))),
    })?;
    if scores.len() != items.len() {
        let (scores, items) = (scores.len(), items.len());
        return Err(argument_error(format!("after: expected as many scores as items, got {scores} and {items}")));
    }
    let mut ends = reserve("page ends", scores.len()).map_err(exception)?;
    ends.extend(scores.into_iter().zip(items).map(|(score, item)| PageEnd { score, item }));
    Ok(ends)
}

//! `neuralcf._core.ItemSet` and `ItemSets`: sets of items, alone and by name.

use std::sync::Arc;

use neuralcf::IndexCheck;
use neuralcf::error::reserve;
use neuralcf::filter::ItemSet;
use neuralcf::item_sets::ItemSets;
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;

use super::errors::{exception, no_panic};
use super::integers::{count, indices, mask};

/// A set of items of a catalogue, one bit for each.
#[pyclass(frozen, name = "ItemSet", module = "neuralcf._core")]
pub(super) struct PyItemSet {
    set: Arc<ItemSet>,
}

#[pymethods]
impl PyItemSet {
    #[new]
    fn new(num_items: &Bound<'_, PyAny>, items: &Bound<'_, PyAny>) -> PyResult<Self> {
        no_panic(|| {
            let set = item_set(items, "items", count(num_items, "num_items")?, 1)?;
            Ok(PyItemSet { set })
        })
    }

    #[getter]
    fn num_items(&self) -> usize {
        self.set.items()
    }

    fn __len__(&self) -> usize {
        self.set.count()
    }

    fn indices<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        no_panic(|| {
            let indices = self.set.indices().map_err(exception)?;
            let mut wide = reserve("items", indices.len()).map_err(exception)?;
            wide.extend(indices.into_iter().map(i64::from));
            Ok(wide.into_pyarray(py))
        })
    }

    fn changed(&self, add: &Bound<'_, PyAny>, remove: &Bound<'_, PyAny>) -> PyResult<Self> {
        no_panic(|| {
            let [add, remove] =
                [item_set(add, "add", self.set.items(), 1)?, item_set(remove, "remove", self.set.items(), 1)?];
            let set = self.set.changed(&add, &remove).map_err(exception)?;
            Ok(PyItemSet { set: Arc::new(set) })
        })
    }
}

/// An `ItemSet`, indices of items, which up to `threads` threads read, or a boolean mask over them.
pub(super) fn item_set(object: &Bound<'_, PyAny>, what: &str, items: usize, threads: usize) -> PyResult<Arc<ItemSet>> {
    if let Some(set) = given_set(object, what, items)? {
        return Ok(set);
    }
    let items = indices(object, IndexCheck { what, noun: "item", bound: items }, threads)?;
    ItemSet::of(what, &items).map(Arc::new).map_err(exception)
}

/// An `ItemSet` or a boolean mask over the items; None if `object` is neither.
pub(super) fn given_set(object: &Bound<'_, PyAny>, what: &str, items: usize) -> PyResult<Option<Arc<ItemSet>>> {
    if let Ok(set) = object.cast::<PyItemSet>() {
        return Ok(Some(Arc::clone(&set.get().set)));
    }
    mask(object, what)?.map(|mask| ItemSet::from_mask(what, &mask, items).map(Arc::new).map_err(exception)).transpose()
}

/// Sets of items by name.
#[pyclass(frozen, name = "ItemSets", module = "neuralcf._core")]
pub(super) struct PyItemSets {
    sets: ItemSets,
}

#[pymethods]
impl PyItemSets {
    #[new]
    fn new(num_items: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(PyItemSets { sets: ItemSets::new(count(num_items, "num_items")?) })
    }

    #[getter]
    fn names(&self) -> Vec<&str> {
        self.sets.names().collect()
    }

    fn get(&self, name: &str) -> Option<PyItemSet> {
        self.sets.get(name).map(|set| PyItemSet { set: Arc::clone(set) })
    }

    fn with_set(&self, name: &str, items: &PyItemSet) -> PyResult<Self> {
        no_panic(|| {
            let sets = self.sets.with(name, Arc::clone(&items.set)).map_err(exception)?;
            Ok(PyItemSets { sets })
        })
    }

    fn for_catalogue(&self, num_items: &Bound<'_, PyAny>, removed: &Bound<'_, PyAny>) -> PyResult<Self> {
        no_panic(|| {
            let items = count(num_items, "num_items")?;
            let removed = indices(removed, IndexCheck { what: "removed", noun: "item", bound: items }, 1)?;
            let sets = self.sets.for_catalogue(items, &removed).map_err(exception)?;
            Ok(PyItemSets { sets })
        })
    }

    fn without(&self, name: &str) -> Option<Self> {
        self.sets.without(name).map(|sets| PyItemSets { sets })
    }

    #[pyo3(signature = (expression, *, what="expression"))]
    fn evaluate(&self, expression: &str, what: &str) -> PyResult<PyItemSet> {
        no_panic(|| {
            let set = self.sets.evaluate(what, expression).map_err(exception)?;
            Ok(PyItemSet { set: Arc::new(set) })
        })
    }
}

//! The maps from features to embeddings, as Python values.

use std::path::Path;

use neuralcf::Error;
use neuralcf::format::{self, FeatureColumn, FeatureKind, FeatureMap, Map};
use numpy::{IntoPyArray, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use super::ids::list_of_strings;
use super::interrupts::interruptible;

/// Reads features.safetensors: the id of the model, and for each side `user` and `item` that has a map, its columns as
/// tuples (name, kind, values, mean, deviation), and its maps as arrays or None. None if the model has no such file.
pub(super) fn read<'py>(py: Python<'py>, path: &Path) -> PyResult<Option<(String, Bound<'py, PyDict>)>> {
    let features = interruptible(py, |interrupted| {
        let mut check = || if interrupted() { Err(Error::Interrupted) } else { Ok(()) };
        format::read_features(path, &mut check)
    })?;
    let Some(features) = features else { return Ok(None) };
    let sides = PyDict::new(py);
    for (side, map) in [("user", features.users), ("item", features.items)] {
        if let Some(FeatureMap { columns, gmf, mlp }) = map {
            let list = PyList::empty(py);
            columns.into_iter().try_for_each(|of| list.append(column(py, of)?))?;
            let array = |map: Option<Map>| map.map(|map| array(py, map)).transpose();
            sides.set_item(side, (list, array(gmf)?, array(mlp)?))?;
        }
    }
    Ok(Some((features.model_id, sides)))
}

/// Name, kind, values, mean and deviation.
type Column<'py> = (Bound<'py, PyString>, &'static str, Bound<'py, PyList>, f32, f32);

fn column(py: Python<'_>, column: FeatureColumn) -> PyResult<Column<'_>> {
    let FeatureColumn { name, kind, values, scale: [mean, deviation] } = column;
    let kind = match kind {
        FeatureKind::Category => "category",
        FeatureKind::Multi => "multi",
        FeatureKind::Number => "number",
    };
    let values = list_of_strings(py, values.iter().map(String::as_str))?;
    Ok((PyString::from_bytes(py, name.as_bytes())?, kind, values, mean, deviation))
}

fn array(py: Python<'_>, map: Map) -> PyResult<Bound<'_, PyArray2<f32>>> {
    map.elements.into_pyarray(py).reshape([map.rows, map.width])
}

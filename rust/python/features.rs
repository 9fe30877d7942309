//! The maps from features to embeddings, as Python values.

use std::path::Path;

use neuralcf::Error;
use neuralcf::format::{self, FeatureColumn, FeatureKind, FeatureMap, Map};
use numpy::{PyArray2, PyArrayMethods, ToPyArray};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::interrupts::interruptible;

/// Reads features.safetensors: for each side `user` and `item` that has a map, its columns as tuples (name, kind,
/// values, mean, deviation), and its maps as arrays or None. None if the model has no such file.
pub(super) fn read<'py>(py: Python<'py>, path: &Path) -> PyResult<Option<Bound<'py, PyDict>>> {
    let features = interruptible(py, |interrupted| {
        let mut check = || if interrupted() { Err(Error::Interrupted) } else { Ok(()) };
        format::read_features(path, &mut check)
    })?;
    let Some(features) = features else { return Ok(None) };
    let sides = PyDict::new(py);
    for (side, map) in [("user", features.users), ("item", features.items)] {
        if let Some(FeatureMap { columns, gmf, mlp }) = map {
            let columns = columns.into_iter().map(column).collect::<Vec<_>>();
            let array = |map: Option<Map>| map.map(|map| array(py, &map)).transpose();
            sides.set_item(side, (columns, array(gmf)?, array(mlp)?))?;
        }
    }
    Ok(Some(sides))
}

fn column(column: FeatureColumn) -> (String, &'static str, Vec<String>, f32, f32) {
    let FeatureColumn { name, kind, values, scale: [mean, deviation] } = column;
    let kind = match kind {
        FeatureKind::Category => "category",
        FeatureKind::Multi => "multi",
        FeatureKind::Number => "number",
    };
    (name, kind, values, mean, deviation)
}

fn array<'py>(py: Python<'py>, map: &Map) -> PyResult<Bound<'py, PyArray2<f32>>> {
    map.elements.to_pyarray(py).reshape([map.rows, map.width])
}

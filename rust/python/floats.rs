//! Vectors and matrices of floats from Python.

use neuralcf::error::filled;
use pyo3::prelude::*;

use super::arrays::Floats;
use super::errors::{argument_error, exception};

/// A float vector.
pub(super) fn vector(object: &Bound<'_, PyAny>, what: &str) -> PyResult<Vec<f32>> {
    let floats = Floats::new(object, what, true)?;
    let [len] = *floats.shape() else {
        return Err(argument_error(format!("{what}: expected one dimension, got shape {:?}", floats.shape())));
    };
    let mut values = filled(what, len, 0.0).map_err(exception)?;
    floats.read(0, &mut values).map_err(exception)?;
    Ok(values)
}

/// A float matrix and its number of rows.
pub(super) fn matrix(object: &Bound<'_, PyAny>, what: &str) -> PyResult<Option<(usize, Vec<f32>)>> {
    if object.is_none() {
        return Ok(None);
    }
    let floats = Floats::new(object, what, true)?;
    let [rows, width] = *floats.shape() else {
        return Err(argument_error(format!("{what}: expected two dimensions, got shape {:?}", floats.shape())));
    };
    let mut values = filled(what, rows.saturating_mul(width), 0.0).map_err(exception)?;
    floats.read(0, &mut values).map_err(exception)?;
    Ok(Some((rows, values)))
}

//! The weights of a model, as Python values.

use std::path::Path;

use neuralcf::Error;
use neuralcf::format::{self, Gmf, Mlp, Opened, Parts, Table};
use numpy::{IntoPyArray, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::errors::exception;
use super::ids::PyIds;
use super::interrupts::interruptible;

/// The id of a model, its tensors and those of its fold-in under the names of the format, and its external ids.
pub(super) type Weights<'py> =
    (Option<String>, Bound<'py, PyDict>, Option<Bound<'py, PyDict>>, Option<PyIds>, Option<PyIds>);

/// Reads the weights and the fold-in of a model directory, or the weights of a single file.
pub(super) fn read<'py>(py: Python<'py>, path: &Path) -> PyResult<Weights<'py>> {
    let Opened { model, history, users, items, model_id, .. } = interruptible(py, |interrupted| {
        let mut check = || if interrupted() { Err(Error::Interrupted) } else { Ok(()) };
        format::open(path, &mut check)
    })?;
    let Parts { gmf, mlp, output_weight, output_bias, .. } = model.into_parts();
    let tensors = PyDict::new(py);
    let matrix = |name: &str, elements: Vec<f32>, width: usize| {
        let rows = elements.len() / width;
        tensors.set_item(name, elements.into_pyarray(py).reshape([rows, width])?)
    };
    let table = |name: &str, table: Table| {
        let width = table.width();
        matrix(name, table.into_elements().map_err(exception)?, width)
    };
    if let Some(Gmf { users, items }) = gmf {
        table("gmf.user_embedding.weight", users)?;
        table("gmf.item_embedding.weight", items)?;
    }
    if let Some(Mlp { users, items, layers }) = mlp {
        table("mlp.user_embedding.weight", users)?;
        table("mlp.item_embedding.weight", items)?;
        for (n, layer) in layers.into_iter().enumerate() {
            matrix(&format!("mlp.layers.{n}.weight"), layer.weight, layer.inputs)?;
            tensors.set_item(format!("mlp.layers.{n}.bias"), layer.bias.into_pyarray(py))?;
        }
    }
    let width = output_weight.len();
    matrix("output.weight", output_weight, width)?;
    tensors.set_item("output.bias", vec![output_bias].into_pyarray(py))?;
    let history = history.map(|fold_in| {
        let tensors = PyDict::new(py);
        for (name, shape, elements) in fold_in.into_tensors().map_err(exception)? {
            tensors.set_item(name, elements.into_pyarray(py).reshape(shape)?)?;
        }
        Ok::<_, PyErr>(tensors)
    });
    Ok((model_id, tensors, history.transpose()?, users.map(PyIds::new), items.map(PyIds::new)))
}

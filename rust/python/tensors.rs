//! A mapping from tensor names to arrays, the source of a model in memory.

use neuralcf::format::{Fill, FoldIn, Kind, Model, Sizes, TensorInfo};
use neuralcf::{Error, Result};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};

use super::arrays::Floats;
use super::errors::{exception, model_format_error};
use super::interrupts::Breather;

/// Float arrays of one or two dimensions, by name.
pub(super) struct TensorArguments<'py> {
    infos: Vec<TensorInfo>,
    arrays: Vec<Floats<'static, 'py>>,
}

impl<'py> TensorArguments<'py> {
    pub(super) fn new(tensors: &Bound<'py, PyMapping>) -> PyResult<Self> {
        let (mut infos, mut arrays) = (Vec::new(), Vec::new());
        for tensor in tensors.items()? {
            let (name, array) = tensor.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
            let Ok(name) = name.extract::<String>() else {
                return Err(PyTypeError::new_err(format!("tensors: expected names as keys, got {name}")));
            };
            let floats = Floats::new(&array, name.clone(), false)?;
            let shape = floats.shape().to_vec();
            if !(1..=2).contains(&shape.len()) {
                return Err(model_format_error(format!("{name}: expected one or two dimensions, got shape {shape:?}")));
            }
            infos.push(TensorInfo { name, shape });
            arrays.push(floats);
        }
        Ok(TensorArguments { infos, arrays })
    }

    /// Calls `read` with the tensors' names and shapes and a function that copies their elements. Other Python threads
    /// and signal handlers run from time to time; an exception from a handler (Ctrl-C) stops the reading and is raised.
    pub(super) fn read<T>(
        &self,
        py: Python<'_>,
        read: impl FnOnce(&[TensorInfo], &mut Fill<'_>) -> Result<T>,
    ) -> PyResult<T> {
        let (mut breather, mut raised) = (Breather::new(), None);
        let outcome = read(&self.infos, &mut |tensor, first, to| {
            breather.pause(py).map_err(|error| {
                raised = Some(error);
                Error::Interrupted
            })?;
            self.arrays[tensor].read(first, to)
        });
        match raised {
            Some(error) => Err(error),
            None => outcome.map_err(exception),
        }
    }
}

/// The argument `history`: the tensors of history.safetensors, for a model of these sizes.
pub(super) fn fold_in(
    py: Python<'_>,
    history: &Bound<'_, PyMapping>,
    num_items: usize,
    user_width: usize,
) -> PyResult<FoldIn> {
    let read = |infos: &[TensorInfo], fill: &mut Fill<'_>| {
        FoldIn::assemble(num_items, user_width, infos, fill).map_err(|error| match error {
            Error::Format(text) => Error::Format(format!("history: {text}")),
            other => other,
        })
    };
    TensorArguments::new(history)?.read(py, read)
}

/// Validates tensors as the reader of model files does; returns the model's kind and sizes, named as in config.json.
pub(super) fn check<'py>(
    py: Python<'py>,
    tensors: &Bound<'py, PyMapping>,
    kind: Option<&str>,
    history: Option<&Bound<'py, PyMapping>>,
) -> PyResult<(&'static str, Bound<'py, PyDict>)> {
    let kind = kind.map(str::parse::<Kind>).transpose().map_err(exception)?;
    let sizes = TensorArguments::new(tensors)?.read(py, |infos, fill| Model::check(kind, infos, fill))?;
    if let Some(history) = history {
        fold_in(py, history, sizes.num_items, sizes.gmf_width + sizes.mlp_user_width)?;
    }
    let Sizes { kind, num_users, num_items, gmf_width, mlp_user_width, mlp_item_width, mlp_layers } = sizes;
    let dict = PyDict::new(py);
    dict.set_item("num_users", num_users)?;
    dict.set_item("num_items", num_items)?;
    if gmf_width > 0 {
        dict.set_item("gmf_width", gmf_width)?;
    }
    if !mlp_layers.is_empty() {
        dict.set_item("mlp_user_width", mlp_user_width)?;
        dict.set_item("mlp_item_width", mlp_item_width)?;
        dict.set_item("mlp_layers", mlp_layers)?;
    }
    Ok((kind.as_str(), dict))
}

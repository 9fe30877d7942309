//! `neuralcf._core.Sampler`: the batches of an epoch, with sampled negatives.

use neuralcf::csr::Csr;
use neuralcf::sampler::{self, Batch, Dislikes};
use neuralcf::{Call, choose_threads};
use numpy::{IntoPyArray, PyArray1};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::arguments::{csr, threads};
use super::arrays::describe;
use super::errors::{argument_error, exception, no_panic};
use super::integers::{count, natural};
use super::interrupts::interruptible;

/// Samples negatives for the interactions of users.
#[pyclass(frozen, name = "Sampler", module = "neuralcf._core")]
pub(super) struct PySampler {
    sampler: sampler::Sampler,
    batch: Batch,
}

#[pymethods]
impl PySampler {
    #[new]
    #[pyo3(signature = (user_items, num_items, *, negatives, labels, dislikes=None, dislike_share=0.0))]
    fn new(
        py: Python<'_>,
        user_items: &Bound<'_, PyAny>,
        num_items: &Bound<'_, PyAny>,
        negatives: &Bound<'_, PyAny>,
        labels: bool,
        dislikes: Option<&Bound<'_, PyAny>>,
        dislike_share: f64,
    ) -> PyResult<Self> {
        no_panic(|| {
            let negatives = count(negatives, "negatives")?;
            if negatives > MOST_NEGATIVES {
                return Err(argument_error(format!("negatives: expected at most {MOST_NEGATIVES}, got {negatives}")));
            }
            let num_items = count(num_items, "num_items")?;
            let rows = rows_of(user_items, "user_items", num_items)?;
            let dislikes = dislikes
                .map(|object| Dislikes::new(rows_of(object, "dislikes", num_items)?, dislike_share).map_err(exception))
                .transpose()?;
            let batch = if labels { Batch::Labelled { negatives } } else { Batch::Ranked { negatives } };
            let sampler = py.detach(|| sampler::Sampler::new(rows, dislikes)).map_err(exception)?;
            Ok(PySampler { sampler, batch })
        })
    }

    fn __len__(&self) -> usize {
        self.sampler.len(self.batch)
    }

    #[pyo3(signature = (seed, start, stop, *, batch_size, threads=None))]
    fn draw<'py>(
        &self,
        py: Python<'py>,
        seed: &Bound<'py, PyAny>,
        start: &Bound<'py, PyAny>,
        stop: &Bound<'py, PyAny>,
        batch_size: &Bound<'py, PyAny>,
        threads: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray1<i32>>> {
        no_panic(|| {
            let seed = natural(seed, "seed")?;
            let (start, stop) = (natural(start, "start")? as usize, natural(stop, "stop")? as usize);
            let batch_size = count(batch_size, "batch_size")?;
            let threads = choose_threads(self::threads(threads)?).map_err(exception)?;
            let drawn = interruptible(py, |interrupted| {
                self.sampler.draw(self.batch, seed, start, stop, batch_size, Call { threads, interrupted })
            })?;
            Ok(drawn.into_pyarray(py))
        })
    }
}

/// Far more than any training uses; a batch of one sample still fits in memory.
const MOST_NEGATIVES: usize = 1 << 20;

fn rows_of(object: &Bound<'_, PyAny>, what: &str, num_items: usize) -> PyResult<Csr> {
    csr(object, what, num_items, 1)?.ok_or_else(|| {
        let got = describe(object);
        PyTypeError::new_err(format!("{what}: expected scipy CSR or (indptr, indices), got {got}"))
    })
}

//! Integers from Python: scalars, arrays, lists, tuples and ranges. `bool` and `float` are refused.

use std::fmt;

use neuralcf::error::{filled, push, reserve};
use neuralcf::{Call, Error, IndexCheck, Indices, Watch};
use numpy::PyUntypedArrayMethods;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyList, PyRange, PyTuple};

use super::arrays::{Number, Source, as_array, describe, is_numpy_scalar};
use super::errors::{argument_error, exception, out_of_range_error};
use super::interrupts::Breather;

/// Elements to copy, check and convert at a time, so that they stay in the first-level cache.
const PIECE: usize = 2048;

/// Arrays of indices up to this length use a buffer of this length: preparing the long one takes a third of a
/// microsecond.
const SMALL: usize = 128;

/// Elements per task.
const TASK: usize = 8 * PIECE;

/// Elements that justify waking a thread: about 50 us of work.
const WORTH_A_THREAD: usize = 1 << 16;

/// Elements between two pauses for other Python threads: about a millisecond, or tens if they are scattered or on disk.
const BETWEEN_PAUSES: usize = 1 << 19;

/// A single integer (a Python int, a NumPy scalar, a zero-dimensional array), or None for anything with a length.
pub(super) fn scalar(object: &Bound<'_, PyAny>, what: &str) -> PyResult<Option<i128>> {
    if object.is_exact_instance_of::<PyInt>() {
        return integer(object, what).map(Some);
    }
    if let Some(array) = as_array(object)? {
        return match array.ndim() {
            0 => integer(&array.call_method0("item")?, what).map(Some),
            _ => Ok(None),
        };
    }
    if !is_numpy_scalar(object)? && object.len().is_ok() {
        return Ok(None);
    }
    integer(object, what).map(Some)
}

/// An integer of at least 1 that is a valid length of a NumPy array.
pub(super) fn count(object: &Bound<'_, PyAny>, what: &str) -> PyResult<usize> {
    let Some(value) = scalar(object, what)? else {
        return Err(PyTypeError::new_err(format!("{what}: expected an integer, got {}", describe(object))));
    };
    const MOST: i128 = (isize::MAX as usize / size_of::<i64>()) as i128;
    if value > MOST {
        return Err(argument_error(format!("{what}: expected at most {MOST}, got {value}")));
    }
    if value < 1 {
        return Err(argument_error(format!("{what}: expected an integer of at least 1, got {value}")));
    }
    Ok(value as usize)
}

/// `object` as an integer: an int or anything with `__index__`, but not a bool. `place` starts the error message.
fn integer(object: &Bound<'_, PyAny>, place: impl fmt::Display) -> PyResult<i128> {
    let refuse = || PyTypeError::new_err(format!("{place}: expected an integer, got {}", describe(object)));
    if !object.is_exact_instance_of::<PyInt>() {
        let name = object.get_type().name()?;
        if object.is_instance_of::<PyBool>() || name == "bool" || name == "bool_" || !object.hasattr("__index__")? {
            return Err(refuse());
        }
    }
    if let Ok(value) = object.extract::<i64>() {
        return Ok(value.into());
    }
    // Slow path: larger than i64, or not an integer after all.
    let index = object.py().import("operator")?.getattr("index")?;
    let number = index.call1((object,)).map_err(|_| refuse())?;
    number.extract::<i128>().map_err(|_| out_of_range_error(format!("{place}: {number} is out of range")))
}

/// An integer element type of an array.
trait Integer: Number + Sync + Into<i128> {}

impl<T: Number + Sync + Into<i128>> Integer for T {}

/// A one-dimensional array of integers; None for a list, a tuple or a range.
fn array<'a, 'py>(object: &Bound<'py, PyAny>, what: &'a str) -> PyResult<Option<Source<'a, 'py>>> {
    if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() || object.is_instance_of::<PyRange>() {
        return Ok(None);
    }
    let Some(array) = as_array(object)? else {
        let got = describe(object);
        return Err(PyTypeError::new_err(format!("{what}: expected an array or a list of integers, got {got}")));
    };
    let source = Source::new(array, what);
    if source.shape().len() != 1 {
        return Err(argument_error(format!("{what}: expected one dimension, got shape {:?}", source.shape())));
    }
    Ok(Some(source))
}

/// Calls a reader's `read` with the type of an array's elements.
macro_rules! read_as {
    ($source:expr, $what:expr, $reader:expr) => {
        match $source.dtype() {
            (b'i', 1) => $reader.read::<i8>($source),
            (b'i', 2) => $reader.read::<i16>($source),
            (b'i', 4) => $reader.read::<i32>($source),
            (b'i', 8) => $reader.read::<i64>($source),
            (b'u', 1) => $reader.read::<u8>($source),
            (b'u', 2) => $reader.read::<u16>($source),
            (b'u', 4) => $reader.read::<u32>($source),
            (b'u', 8) => $reader.read::<u64>($source),
            _ => {
                let (what, got) = ($what, $source.dtype_name());
                Err(PyTypeError::new_err(format!("{what}: expected an integer dtype, got {got}")))
            }
        }
    };
}

/// The integers of a list, a tuple or a range, each converted by `convert(position, value)`.
fn items<U>(object: &Bound<'_, PyAny>, what: &str, convert: impl Fn(usize, i128) -> PyResult<U>) -> PyResult<Vec<U>> {
    let (mut out, mut breather) = (reserve(what, object.len()?).map_err(exception)?, Breather::new());
    for (at, item) in object.try_iter()?.enumerate() {
        let value = convert(at, integer(&item?, format_args!("{what}[{at}]"))?)?;
        push(what, &mut out, value).map_err(exception)?; // the list may have grown meanwhile
        if at % PIECE == PIECE - 1 {
            breather.pause(object.py())?;
        }
    }
    Ok(out)
}

/// Indices validated by `check`. Up to `threads` threads read a long array.
pub(super) fn indices(object: &Bound<'_, PyAny>, check: IndexCheck<'_>, threads: usize) -> PyResult<Indices<'static>> {
    let Some(source) = array(object, check.what)? else {
        let values = items(object, check.what, |at, value| check.one(at, value).map_err(exception))?;
        return Ok(check.made(values));
    };
    let reader = IndexReader { py: object.py(), check, threads };
    Ok(check.made(read_as!(&source, check.what, reader)?))
}

struct IndexReader<'a, 'py> {
    py: Python<'py>,
    check: IndexCheck<'a>,
    threads: usize,
}

impl IndexReader<'_, '_> {
    fn read<T: Integer>(&self, source: &Source<'_, '_>) -> PyResult<Vec<u32>> {
        let (check, len) = (&self.check, source.shape()[0]);
        let mut out = reserve(check.what, len).map_err(exception)?;
        if len <= SMALL {
            let mut piece = [T::default(); SMALL];
            source.elements().map_err(exception)?.read(0, &mut piece[..len]);
            out.resize(len, 0);
            check.narrow(0, &piece[..len], &mut out).map_err(exception)?;
            return Ok(out);
        }
        let threads = self.threads.min(len / WORTH_A_THREAD).max(1);
        let mut breather = Breather::new();
        for first in (0..len).step_by(BETWEEN_PAUSES) {
            if first > 0 {
                breather.pause(self.py)?;
            }
            let elements = source.elements().map_err(exception)?;
            let task = |n: usize, to: &mut [u32], _: &Watch<'_>| {
                let mut piece = [T::default(); PIECE];
                for (at, to) in (first + n * TASK..).step_by(PIECE).zip(to.chunks_mut(PIECE)) {
                    let piece = &mut piece[..to.len()];
                    elements.read(at, piece);
                    check.narrow(at, piece, to)?;
                }
                Ok(())
            };
            let mut extend =
                |call: Call<'_>| call.extend_in_chunks(&mut out, BETWEEN_PAUSES.min(len - first), TASK, 0, task);
            match extend(Call { threads, ..Call::ALONE }) {
                Err(Error::OutOfRange(_)) => extend(Call::ALONE), // one thread finds the first one out of range
                outcome => outcome,
            }
            .map_err(exception)?;
        }
        Ok(out)
    }
}

/// Integers, each converted by `convert(position, value)`.
pub(super) fn integers<U>(
    object: &Bound<'_, PyAny>,
    what: &str,
    convert: impl Fn(usize, i128) -> PyResult<U>,
) -> PyResult<Vec<U>> {
    let Some(source) = array(object, what)? else {
        return items(object, what, convert);
    };
    let reader = Converted { py: object.py(), what, convert };
    read_as!(&source, what, reader)
}

struct Converted<'a, 'py, Convert> {
    py: Python<'py>,
    what: &'a str,
    convert: Convert,
}

impl<U, Convert: Fn(usize, i128) -> PyResult<U>> Converted<'_, '_, Convert> {
    fn read<T: Integer>(&self, source: &Source<'_, '_>) -> PyResult<Vec<U>> {
        let len = source.shape()[0];
        let mut out = reserve(self.what, len).map_err(exception)?;
        let mut piece = vec![T::default(); PIECE.min(len)];
        let mut breather = Breather::new();
        for first in (0..len).step_by(PIECE) {
            if first > 0 {
                breather.pause(self.py)?;
            }
            let piece = &mut piece[..PIECE.min(len - first)];
            source.elements().map_err(exception)?.read(first, piece);
            for (at, &x) in (first..).zip(&*piece) {
                out.push((self.convert)(at, x.into())?);
            }
        }
        Ok(out)
    }
}

/// A one-dimensional boolean array; None for anything else.
pub(super) fn mask(object: &Bound<'_, PyAny>, what: &str) -> PyResult<Option<Vec<bool>>> {
    let Some(array) = as_array(object)? else { return Ok(None) };
    let source = Source::new(array, what);
    if source.dtype() != (b'b', 1) || source.shape().len() != 1 {
        return Ok(None);
    }
    let mut bytes = filled(what, source.shape()[0], 0u8).map_err(exception)?;
    source.elements().map_err(exception)?.read(0, &mut bytes);
    Ok(Some(bytes.into_iter().map(|byte| byte != 0).collect()))
}

/// An integer from 0 to 2^64 - 1.
pub(super) fn natural(object: &Bound<'_, PyAny>, what: &str) -> PyResult<u64> {
    match scalar(object, what)? {
        Some(value) => u64::try_from(value)
            .map_err(|_| argument_error(format!("{what}: expected an integer from 0 to 2^64 - 1, got {value}"))),
        None => Err(PyTypeError::new_err(format!("{what}: expected an integer, got {}", describe(object)))),
    }
}

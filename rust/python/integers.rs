//! Integers from Python: single ones, and arrays, lists, tuples and ranges of them. `bool` and `float` are refused.

use std::fmt;

use numpy::PyUntypedArrayMethods;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyList, PyRange, PyTuple};

use super::arrays::{Number, Source, as_array, describe, is_numpy_scalar};
use super::errors::{Turns, argument_error, out_of_range_error};
use crate::engine::{all_below, index};
use crate::error::reserve;

/// Elements that are copied, checked and converted at a time: they stay in the first-level cache meanwhile.
const PIECE: usize = 2048;

/// Arrays no longer than this use a buffer of this length: making the long one ready costs a third of a microsecond.
const SMALL: usize = 128;

/// A single integer (a Python int, a NumPy scalar, an array without dimensions), or None for anything with a length.
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

/// `object` as an integer: an int or something with `__index__`, but no bool. `place` opens the message of an error.
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
    // Larger, or no integer after all; a slower way.
    let index = object.py().import("operator")?.getattr("index")?;
    let number = index.call1((object,)).map_err(|_| refuse())?;
    number.extract::<i128>().map_err(|_| out_of_range_error(format!("{place}: {number} is out of range")))
}

/// An integer as it lies in an array; `i128` stands for those of lists.
trait Integer: Number + Into<i128> {
    /// Its value in two's complement; all ones where that does not hold it.
    fn bits(self) -> u64;
}

macro_rules! integer_types {
    ($($type:ty)*) => {
        $(impl Integer for $type {
            #[inline(always)]
            fn bits(self) -> u64 {
                if size_of::<Self>() <= 8 { self as u64 } else { i64::try_from(self).map_or(u64::MAX, i64::cast_unsigned) }
            }
        })*
    };
}
integer_types!(i8 i16 i32 i64 i128 u8 u16 u32 u64);

/// What becomes of integers, piece by piece; `first` is the position of the piece's first.
trait Sink {
    fn expect(&mut self, len: usize) -> crate::Result<()>;
    fn take<T: Integer>(&mut self, first: usize, piece: &[T]) -> PyResult<()>;
}

/// Indices of a table with `bound` rows, at most 2^31. `what` names the argument, `noun` what it indexes.
pub(super) fn indices(object: &Bound<'_, PyAny>, what: &str, bound: usize, noun: &str) -> PyResult<Vec<u32>> {
    struct Indices<'a> {
        what: &'a str,
        bound: usize,
        noun: &'a str,
        out: Vec<u32>,
    }
    impl Sink for Indices<'_> {
        fn expect(&mut self, len: usize) -> crate::Result<()> {
            self.out = reserve(self.what, len)?;
            Ok(())
        }

        fn take<T: Integer>(&mut self, first: usize, piece: &[T]) -> PyResult<()> {
            // The whole piece at once; the search for the culprit only when there is one.
            let (start, mut any) = (self.out.len(), 0);
            self.out.extend(piece.iter().map(|x| {
                any |= x.bits();
                x.bits() as u32
            }));
            if any >> 32 != 0 || !all_below(&self.out[start..], self.bound) {
                for (at, &x) in (first..).zip(piece) {
                    index(self.what, at, x.into(), self.bound, self.noun)?;
                }
            }
            Ok(())
        }
    }
    let mut sink = Indices { what, bound, noun, out: Vec::new() };
    read(object, what, &mut sink)?;
    Ok(sink.out)
}

/// Integers, each through `convert(position, value)`.
pub(super) fn integers<U>(
    object: &Bound<'_, PyAny>,
    what: &str,
    convert: impl Fn(usize, i128) -> PyResult<U>,
) -> PyResult<Vec<U>> {
    struct Each<'a, U, Convert> {
        what: &'a str,
        convert: Convert,
        out: Vec<U>,
    }
    impl<U, Convert: Fn(usize, i128) -> PyResult<U>> Sink for Each<'_, U, Convert> {
        fn expect(&mut self, len: usize) -> crate::Result<()> {
            self.out = reserve(self.what, len)?;
            Ok(())
        }

        fn take<T: Integer>(&mut self, first: usize, piece: &[T]) -> PyResult<()> {
            for (at, &x) in (first..).zip(piece) {
                self.out.push((self.convert)(at, x.into())?);
            }
            Ok(())
        }
    }
    let mut sink = Each { what, convert, out: Vec::new() };
    read(object, what, &mut sink)?;
    Ok(sink.out)
}

/// A one-dimensional boolean array, as it is; None for anything else.
pub(super) fn mask(object: &Bound<'_, PyAny>, what: &str) -> PyResult<Option<Vec<bool>>> {
    let Some(array) = as_array(object)? else { return Ok(None) };
    let source = Source::new(array, what);
    if source.dtype() != (b'b', 1) || source.shape().len() != 1 {
        return Ok(None);
    }
    let mut bytes = crate::error::filled(what, source.shape()[0], 0u8)?;
    source.read(0, &mut bytes)?;
    Ok(Some(bytes.into_iter().map(|byte| byte != 0).collect()))
}

fn read(object: &Bound<'_, PyAny>, what: &str, sink: &mut impl Sink) -> PyResult<()> {
    if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() || object.is_instance_of::<PyRange>() {
        return read_items(object, what, sink);
    }
    let Some(array) = as_array(object)? else {
        let got = describe(object);
        return Err(PyTypeError::new_err(format!("{what}: expected an array or a list of integers, got {got}")));
    };
    let source = Source::new(array, what);
    if source.shape().len() != 1 {
        return Err(argument_error(format!("{what}: expected one dimension, got shape {:?}", source.shape())));
    }
    let py = object.py();
    match source.dtype() {
        (b'i', 1) => read_array::<i8>(py, &source, sink),
        (b'i', 2) => read_array::<i16>(py, &source, sink),
        (b'i', 4) => read_array::<i32>(py, &source, sink),
        (b'i', 8) => read_array::<i64>(py, &source, sink),
        (b'u', 1) => read_array::<u8>(py, &source, sink),
        (b'u', 2) => read_array::<u16>(py, &source, sink),
        (b'u', 4) => read_array::<u32>(py, &source, sink),
        (b'u', 8) => read_array::<u64>(py, &source, sink),
        _ => Err(PyTypeError::new_err(format!("{what}: expected an integer dtype, got {}", source.dtype_name()))),
    }
}

fn read_items(object: &Bound<'_, PyAny>, what: &str, sink: &mut impl Sink) -> PyResult<()> {
    let mut turns = Turns::new();
    sink.expect(object.len()?)?;
    for (at, item) in object.try_iter()?.enumerate() {
        let value = integer(&item?, format_args!("{what}[{at}]"))?;
        sink.take(at, &[value])?;
        if at % PIECE == PIECE - 1 {
            turns.give(object.py())?;
        }
    }
    Ok(())
}

fn read_array<T: Integer>(py: Python<'_>, source: &Source<'_>, sink: &mut impl Sink) -> PyResult<()> {
    let len = source.shape()[0];
    sink.expect(len)?;
    if len <= SMALL {
        read_pieces(py, source, sink, &mut [T::default(); SMALL])
    } else {
        read_pieces(py, source, sink, &mut [T::default(); PIECE])
    }
}

fn read_pieces<T: Integer>(py: Python<'_>, source: &Source<'_>, sink: &mut impl Sink, piece: &mut [T]) -> PyResult<()> {
    let len = source.shape()[0];
    let mut turns = Turns::new();
    for first in (0..len).step_by(piece.len()) {
        if first > 0 {
            turns.give(py)?; // between pieces: a short array is read without a look at the clock
        }
        let most = piece.len();
        let piece = &mut piece[..most.min(len - first)];
        source.read(first, piece)?;
        sink.take(first, piece)?;
    }
    Ok(())
}

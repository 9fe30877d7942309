//! Reading and writing NumPy arrays: any stride, byte order and alignment, read-only ones too.
//!
//! Everything is copied out, and only the copy is looked at: another thread that changes the array meanwhile can cause a wrong
//! score, never a wrong address. What decides which memory is read or written is looked at again whenever Python code may have run.
#![allow(unsafe_code, reason = "reads and writes the memory of NumPy arrays")]

use numpy::{PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::errors::argument_error;
use crate::error::{Error, Result};
use crate::kernel::StandardFloats;

/// An array, or what NumPy makes of an object that offers itself as one (a pandas Series, a torch tensor).
pub(super) fn as_array<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyUntypedArray>>> {
    if let Ok(array) = object.cast::<PyUntypedArray>() {
        return Ok(Some(array.clone()));
    }
    let is_value = !object.is_instance_of::<PyType>() && !is_numpy_scalar(object)?;
    if !is_value || !object.hasattr("__array__")? {
        return Ok(None);
    }
    let array = object.py().import("numpy")?.call_method1("asarray", (object,))?;
    Ok(Some(array.cast_into::<PyUntypedArray>().map_err(PyErr::from)?))
}

pub(super) fn is_numpy_scalar(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    object.is_instance(CLASS.import(object.py(), "numpy", "generic")?)
}

/// What an object is, in words, for an error.
pub(super) fn describe(object: &Bound<'_, PyAny>) -> String {
    if let Ok(array) = object.cast::<PyUntypedArray>() {
        return format!("an array of {} with shape {:?}", array.dtype(), array.shape());
    }
    object.get_type().name().map_or_else(|_| "an object".into(), |name| name.to_string())
}

/// A number as it lies in an array.
pub(super) trait Number: Copy + Default {
    /// The number that has the same bytes in the other order.
    fn swapped(self) -> Self;
}

macro_rules! numbers {
    ($($type:ty)*) => {
        $(impl Number for $type {
            #[inline(always)]
            fn swapped(self) -> Self {
                self.swap_bytes()
            }
        })*
    };
}
numbers!(i8 i16 i32 i64 i128 u8 u16 u32 u64);

/// The address of the first element. (The type parameter says nothing: elements are read byte-wise.)
fn start(array: &Bound<'_, PyUntypedArray>) -> *mut u8 {
    // SAFETY: it is a NumPy array; `data` only reads the pointer in its header, whatever the element type.
    let bytes = unsafe { array.as_any().cast_unchecked::<PyArrayDyn<u8>>() };
    bytes.data()
}

/// An array of one or two dimensions, to be copied out piece by piece.
pub(super) struct Source<'py> {
    array: Bound<'py, PyUntypedArray>,
    what: String,
    shape: Vec<usize>,
    kind: u8,
    size: usize,
    swap: bool,
}

impl<'py> Source<'py> {
    pub(super) fn new(array: Bound<'py, PyUntypedArray>, what: &str) -> Self {
        let dtype = array.dtype();
        let (kind, size, swap) = (dtype.kind(), dtype.itemsize(), dtype.is_native_byteorder() == Some(false));
        Source { what: what.to_owned(), shape: array.shape().to_vec(), kind, size, swap, array }
    }

    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The dtype as NumPy writes it.
    pub(super) fn dtype_name(&self) -> String {
        self.array.dtype().to_string()
    }

    /// NumPy's letter for the kind of dtype, and the bytes of an element.
    pub(super) fn dtype(&self) -> (u8, usize) {
        (self.kind, self.size)
    }

    /// Elements `first..first + to.len()`, in row-major order.
    ///
    /// # Errors
    /// [`Error::Argument`] where the array is not what it was: Python code may have run since [`Source::new`].
    pub(super) fn read<T: Number>(&self, first: usize, to: &mut [T]) -> Result<()> {
        let dtype = self.array.dtype();
        let swap = dtype.is_native_byteorder() == Some(false);
        let now = (self.array.shape(), dtype.kind(), dtype.itemsize(), swap);
        if now != (&self.shape[..], self.kind, self.size, self.swap) {
            return Err(Error::Argument(format!("{}: the array was changed while it was read", self.what)));
        }
        assert!(size_of::<T>() == self.size && first + to.len() <= self.shape.iter().product());
        let (width, row_stride, stride) = match (&self.shape[..], self.array.strides()) {
            (&[len], &[stride]) => (len, 0, stride),
            (&[_, width], &[row_stride, stride]) => (width, row_stride, stride),
            _ => unreachable!("arrays of other dimensions are refused before"),
        };
        let (start, mut at, mut left) = (start(&self.array), first, to);
        while !left.is_empty() {
            let (row, column) = (at / width, at % width);
            let (to, rest) = left.split_at_mut(left.len().min(width - column));
            let from = start.wrapping_offset(row as isize * row_stride + column as isize * stride);
            at += to.len();
            left = rest;
            // A constant stride is a simpler loop.
            if stride == size_of::<T>() as isize {
                copy(from, size_of::<T>() as isize, to);
            } else {
                copy(from, stride, to);
            }
            if swap {
                to.iter_mut().for_each(|x| *x = x.swapped());
            }
        }
        Ok(())
    }
}

/// Copies elements that lie `stride` bytes apart. Called by [`Source::read`] alone, with addresses within the array.
#[inline(always)]
fn copy<T: Number>(from: *const u8, stride: isize, to: &mut [T]) {
    for (n, to) in to.iter_mut().enumerate() {
        let element = from.wrapping_offset(n as isize * stride).cast::<T>();
        // SAFETY: `Source::read` has just compared shape and dtype, so NumPy keeps an element of this size at this address; the
        // interpreter is attached and the array referenced, so its memory stays; no alignment is asked for, and every bit
        // pattern is a number.
        *to = unsafe { element.read_unaligned() };
    }
}

/// A float array of one or two dimensions, to be read piece by piece as float32.
pub(super) struct Floats<'py>(Source<'py>);

impl<'py> Floats<'py> {
    /// # Errors
    /// TypeError for anything but float32, float16 and, where `wide`, float64 (rounded to float32).
    pub(super) fn new(object: &Bound<'py, PyAny>, what: &str, wide: bool) -> PyResult<Self> {
        let expected = if wide { "float32, float16 or float64" } else { "float32 or float16" };
        let refuse =
            || PyTypeError::new_err(format!("{what}: expected an array of {expected}, got {}", describe(object)));
        let source = Source::new(as_array(object)?.ok_or_else(refuse)?, what);
        match source.dtype() {
            (b'f', 2 | 4) => Ok(Floats(source)),
            (b'f', 8) if wide => Ok(Floats(source)),
            _ => {
                let got = source.dtype_name();
                Err(PyTypeError::new_err(format!("{what}: expected dtype {expected}, got {got}")))
            }
        }
    }

    pub(super) fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    /// Elements `first..first + to.len()`, in row-major order.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub(super) fn read(&self, first: usize, to: &mut [f32]) -> Result<()> {
        let _settings = StandardFloats::enter(); // float64 is rounded to nearest, whatever the host program chose
        match self.0.size {
            2 => self.convert(first, to, |bits| half::f16::from_bits(bits).to_f32()),
            4 => self.convert(first, to, f32::from_bits),
            _ => self.convert(first, to, |bits| f64::from_bits(bits) as f32),
        }
    }

    fn convert<T: Number>(&self, first: usize, to: &mut [f32], float: impl Fn(T) -> f32) -> Result<()> {
        let mut piece = [T::default(); 1024];
        for (n, to) in to.chunks_mut(piece.len()).enumerate() {
            let bits = &mut piece[..to.len()];
            self.0.read(first + n * 1024, bits)?;
            to.iter_mut().zip(bits).for_each(|(to, bits)| *to = float(*bits));
        }
        Ok(())
    }
}

/// A caller's array for results: float32, one dimension, `len` long, writable; any stride and alignment.
pub(super) struct Out<'py>(Bound<'py, PyUntypedArray>);

impl<'py> Out<'py> {
    /// # Errors
    /// TypeError and `ArgumentError` that say what the array is instead.
    pub(super) fn new(object: &Bound<'py, PyAny>, len: usize) -> PyResult<Self> {
        let got = || describe(object);
        let Ok(array) = object.cast::<PyUntypedArray>() else {
            return Err(PyTypeError::new_err(format!("out: expected an array of float32, got {}", got())));
        };
        if !array.getattr("flags")?.getattr("writeable")?.extract::<bool>()? {
            return Err(argument_error("out: expected a writable array, got a read-only one".into()));
        }
        // What decides which memory is written is looked at last: no Python code runs after it.
        let dtype = array.dtype();
        if dtype.kind() != b'f' || dtype.itemsize() != 4 || dtype.is_native_byteorder() == Some(false) {
            return Err(PyTypeError::new_err(format!("out: expected dtype float32, got {dtype}")));
        }
        if array.shape() != [len] {
            return Err(argument_error(format!("out: expected shape [{len}], got {:?}", array.shape())));
        }
        Ok(Out(array.clone()))
    }

    /// Writes `values`, of the length that `new` was told.
    ///
    /// # Errors
    /// As [`Out::new`]: Python code may have run since, in another thread or a signal handler, and changed the array.
    pub(super) fn write(self, values: &[f32]) -> PyResult<Bound<'py, PyUntypedArray>> {
        let Out(array) = Out::new(&self.0, values.len())?;
        let (start, stride) = (start(&array), array.strides()[0]);
        for (at, &value) in values.iter().enumerate() {
            let element = start.wrapping_offset(at as isize * stride).cast::<f32>();
            // SAFETY: `Out::new` has just seen a writable array of `values.len()` such elements, and NumPy keeps element `at` at
            // this address; the interpreter is attached and the array referenced; no alignment is asked for.
            unsafe { element.write_unaligned(value) };
        }
        Ok(array)
    }
}

//! Reading and writing NumPy arrays of any stride, byte order and alignment, including read-only ones.
//!
//! Elements are copied first, and only the copy is used: another thread that modifies the array meanwhile can cause a
//! wrong score, but never an invalid memory access. Shape, strides and dtype, which determine the memory accessed, are
//! checked again whenever Python code may have run.
#![allow(unsafe_code, reason = "reads and writes the memory of NumPy arrays")]

use std::borrow::Cow;
use std::marker::PhantomData;

use neuralcf::{Error, Result, StandardFloats};
use numpy::{PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::errors::argument_error;

/// A NumPy array, or the array of an object that NumPy can convert (a pandas Series, a torch tensor).
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

/// A description of an object for an error message.
pub(super) fn describe(object: &Bound<'_, PyAny>) -> String {
    if let Ok(array) = object.cast::<PyUntypedArray>() {
        return format!("an array of {} with shape {:?}", array.dtype(), array.shape());
    }
    object.get_type().name().map_or_else(|_| "an object".into(), |name| name.to_string())
}

/// An element type of an array.
pub(super) trait Number: Copy + Default {
    /// The number with its bytes reversed.
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
numbers!(i8 i16 i32 i64 u8 u16 u32 u64);

/// The address of the first element. (The type parameter is irrelevant: elements are read byte-wise.)
fn start(array: &Bound<'_, PyUntypedArray>) -> *mut u8 {
    // SAFETY: it is a NumPy array; `data` only reads the pointer in its header, whatever the element type.
    let bytes = unsafe { array.as_any().cast_unchecked::<PyArrayDyn<u8>>() };
    bytes.data()
}

/// What determines an array's memory, apart from its address and strides; only the first two dimensions of its shape.
#[derive(Clone, Copy, PartialEq)]
struct ArrayHeader {
    dimensions: usize,
    shape: [usize; 2],
    kind: u8,
    size: usize,
    swap: bool,
}

impl ArrayHeader {
    fn of(array: &Bound<'_, PyUntypedArray>) -> Self {
        let (dtype, all) = (array.dtype(), array.shape());
        let length = |dimension: usize| all.get(dimension).copied().unwrap_or(1);
        ArrayHeader {
            dimensions: all.len(),
            shape: [length(0), length(1)],
            kind: dtype.kind(),
            size: dtype.itemsize(),
            swap: dtype.is_native_byteorder() == Some(false),
        }
    }
}

/// An array of one or two dimensions, copied piece by piece.
pub(super) struct Source<'a, 'py> {
    array: Bound<'py, PyUntypedArray>,
    what: Cow<'a, str>,
    header: ArrayHeader,
}

impl<'a, 'py> Source<'a, 'py> {
    pub(super) fn new(array: Bound<'py, PyUntypedArray>, what: impl Into<Cow<'a, str>>) -> Self {
        Source { header: ArrayHeader::of(&array), what: what.into(), array }
    }

    pub(super) fn shape(&self) -> &[usize] {
        self.array.shape()
    }

    /// The dtype's name in NumPy.
    pub(super) fn dtype_name(&self) -> String {
        self.array.dtype().to_string()
    }

    /// NumPy's letter for the kind of dtype, and the size of an element in bytes.
    pub(super) fn dtype(&self) -> (u8, usize) {
        (self.header.kind, self.header.size)
    }

    /// The array's elements. The caller must stay attached to the interpreter and finish reading, on any thread, before
    /// any Python code runs; [`Breather::pause`](super::interrupts::Breather::pause) ends their lifetime.
    ///
    /// # Errors
    /// [`Error::Argument`] if the array has changed: Python code may have run since [`Source::new`].
    pub(super) fn elements(&self) -> Result<Elements<'_>> {
        if ArrayHeader::of(&self.array) != self.header {
            return Err(Error::Argument(format!("{}: the array was modified while being read", self.what)));
        }
        let (rows, width, row_stride, stride) = match (self.array.shape(), self.array.strides()) {
            (&[len], &[stride]) => (1, len, 0, stride),
            (&[rows, width], &[row_stride, stride]) => (rows, width, row_stride, stride),
            _ => unreachable!("arrays of other dimensions are refused before"),
        };
        let ArrayHeader { size, swap, .. } = self.header;
        Ok(Elements { start: start(&self.array), rows, width, row_stride, stride, size, swap, source: PhantomData })
    }
}

/// The elements of an array, valid while no Python code can run; see [`Source::elements`].
pub(super) struct Elements<'a> {
    start: *const u8,
    rows: usize,
    width: usize,
    row_stride: isize,
    stride: isize,
    size: usize,
    swap: bool,
    source: PhantomData<&'a ()>,
}

// SAFETY: it is only read through. While the thread that made it stays attached and runs no Python code, as
// `Source::elements` requires, nothing can change the array or free its memory.
unsafe impl Sync for Elements<'_> {}

impl Elements<'_> {
    /// Elements `first..first + to.len()`, in row-major order.
    #[inline]
    pub(super) fn read<T: Number>(&self, first: usize, to: &mut [T]) {
        assert!(size_of::<T>() == self.size && first + to.len() <= self.rows * self.width);
        let (mut at, mut left) = (first, to);
        while !left.is_empty() {
            let (row, column) = (at / self.width, at % self.width);
            let (to, rest) = left.split_at_mut(left.len().min(self.width - column));
            let from = self.start.wrapping_offset(row as isize * self.row_stride + column as isize * self.stride);
            at += to.len();
            left = rest;
            // A constant stride gives a simpler loop.
            if self.stride == size_of::<T>() as isize {
                copy(from, size_of::<T>() as isize, to);
            } else {
                copy(from, self.stride, to);
            }
            if self.swap {
                to.iter_mut().for_each(|x| *x = x.swapped());
            }
        }
    }
}

/// Copies elements that are `stride` bytes apart. Only [`Elements::read`] calls it, with addresses within the array.
#[inline(always)]
fn copy<T: Number>(from: *const u8, stride: isize, to: &mut [T]) {
    for (n, to) in to.iter_mut().enumerate() {
        let element = from.wrapping_offset(n as isize * stride).cast::<T>();
        // SAFETY: `Source::elements` has compared shape and dtype, and no Python code has run since, so NumPy has an
        // element of this size at this address. The array is referenced, so its memory stays. No alignment is required,
        // and every bit pattern is a number.
        *to = unsafe { element.read_unaligned() };
    }
}

/// A float array of one or two dimensions, read piece by piece as float32.
pub(super) struct Floats<'a, 'py>(Source<'a, 'py>);

impl<'a, 'py> Floats<'a, 'py> {
    /// # Errors
    /// TypeError for anything but float32, float16 and, if `wide`, float64 (rounded to float32).
    pub(super) fn new(object: &Bound<'py, PyAny>, what: impl Into<Cow<'a, str>>, wide: bool) -> PyResult<Self> {
        let what = what.into();
        let expected = if wide { "float32, float16 or float64" } else { "float32 or float16" };
        let refuse =
            || PyTypeError::new_err(format!("{what}: expected an array of {expected}, got {}", describe(object)));
        let source = Source::new(as_array(object)?.ok_or_else(refuse)?, what.clone());
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
    /// As [`Source::elements`].
    pub(super) fn read(&self, first: usize, to: &mut [f32]) -> Result<()> {
        let _settings = StandardFloats::enter(); // rounds float64 to nearest, whatever mode the host program has set
        match self.0.dtype().1 {
            2 => self.convert(first, to, |bits| half::f16::from_bits(bits).to_f32()),
            4 => self.convert(first, to, f32::from_bits),
            _ => self.convert(first, to, |bits| f64::from_bits(bits) as f32),
        }
    }

    fn convert<T: Number>(&self, first: usize, to: &mut [f32], float: impl Fn(T) -> f32) -> Result<()> {
        let (elements, mut piece) = (self.0.elements()?, [T::default(); 1024]);
        for (n, to) in to.chunks_mut(piece.len()).enumerate() {
            let bits = &mut piece[..to.len()];
            elements.read(first + n * 1024, bits);
            to.iter_mut().zip(bits).for_each(|(to, bits)| *to = float(*bits));
        }
        Ok(())
    }
}

/// The caller's array `out`: float32, one dimension of length `len`, writable, any stride and alignment.
pub(super) struct Out<'py>(Bound<'py, PyUntypedArray>);

impl<'py> Out<'py> {
    /// # Errors
    /// TypeError or `ArgumentError`; the message says what was expected and got.
    pub(super) fn new(object: &Bound<'py, PyAny>, len: usize) -> PyResult<Self> {
        let got = || describe(object);
        let Ok(array) = object.cast::<PyUntypedArray>() else {
            return Err(PyTypeError::new_err(format!("out: expected an array of float32, got {}", got())));
        };
        if !array.getattr("flags")?.getattr("writeable")?.extract::<bool>()? {
            return Err(argument_error("out: expected a writable array, got a read-only one".into()));
        }
        // What determines the memory to write is checked last: no Python code runs after this.
        let dtype = array.dtype();
        if dtype.kind() != b'f' || dtype.itemsize() != 4 || dtype.is_native_byteorder() == Some(false) {
            return Err(PyTypeError::new_err(format!("out: expected dtype float32, got {dtype}")));
        }
        if array.shape() != [len] {
            return Err(argument_error(format!("out: expected shape [{len}], got {:?}", array.shape())));
        }
        Ok(Out(array.clone()))
    }

    /// Writes `values`, which have the length given to `new`.
    ///
    /// # Errors
    /// As [`Out::new`]: Python code in another thread or a signal handler may have changed the array since.
    pub(super) fn write(self, values: &[f32]) -> PyResult<Bound<'py, PyUntypedArray>> {
        let Out(array) = Out::new(&self.0, values.len())?;
        let (start, stride) = (start(&array), array.strides()[0]);
        for (at, &value) in values.iter().enumerate() {
            let element = start.wrapping_offset(at as isize * stride).cast::<f32>();
            // SAFETY: `Out::new` has just checked that the array is writable and has `values.len()` such elements, and
            // NumPy has element `at` at this address. The interpreter is attached and the array referenced. No
            // alignment is required.
            unsafe { element.write_unaligned(value) };
        }
        Ok(array)
    }
}

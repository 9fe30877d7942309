//! Reading and writing NumPy arrays: any integer dtype, stride, byte order and alignment, read-only ones too.
//!
//! Everything is copied out, element by element, and only the copy is looked at: another thread that changes the array meanwhile
//! can cause a wrong score, never a wrong address.
#![allow(unsafe_code, reason = "reads and writes the memory of NumPy arrays")]

use numpy::{PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyInt, PyList, PyRange, PyTuple, PyType};

use super::errors::{argument_error, out_of_range_error};
use crate::error::{Error, Result, reserve};
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

fn is_numpy_scalar(object: &Bound<'_, PyAny>) -> PyResult<bool> {
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

/// A single integer (a Python int, a NumPy scalar, an array without dimensions), or None for anything with a length. `bool` and
/// `float` are refused.
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

/// `object` as an integer: an int or something with `__index__`, but no bool.
fn integer(object: &Bound<'_, PyAny>, what: &str) -> PyResult<i128> {
    if !object.is_exact_instance_of::<PyInt>() {
        let name = object.get_type().name()?;
        if object.is_instance_of::<PyBool>() || name == "bool" || name == "bool_" || !object.hasattr("__index__")? {
            return Err(PyTypeError::new_err(format!("{what}: expected an integer, got {}", describe(object))));
        }
    }
    if let Ok(value) = object.extract::<i64>() {
        return Ok(value.into());
    }
    // Larger, or no integer after all; a slower way.
    let index = object.py().import("operator")?.getattr("index")?;
    let number = index
        .call1((object,))
        .map_err(|_| PyTypeError::new_err(format!("{what}: expected an integer, got {}", describe(object))))?;
    number.extract::<i128>().map_err(|_| out_of_range_error(format!("{what}: {number} is out of range")))
}

/// The integers of a one-dimensional array, or of a list, tuple or range of ints, each through `convert(position, value)`.
pub(super) fn integers<T>(
    object: &Bound<'_, PyAny>,
    what: &str,
    convert: impl Fn(usize, i128) -> PyResult<T>,
) -> PyResult<Vec<T>> {
    if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() || object.is_instance_of::<PyRange>() {
        let mut out = reserve(what, object.len()?)?;
        for (at, item) in object.try_iter()?.enumerate() {
            let value = integer(&item?, &format!("{what}[{at}]"))?;
            out.push(convert(at, value)?);
        }
        return Ok(out);
    }
    let Some(array) = as_array(object)? else {
        let got = describe(object);
        return Err(PyTypeError::new_err(format!("{what}: expected an array or a list of integers, got {got}")));
    };
    if array.ndim() != 1 {
        return Err(argument_error(format!("{what}: expected one dimension, got shape {:?}", array.shape())));
    }
    let dtype = array.dtype();
    let swap = dtype.is_native_byteorder() == Some(false);
    match (dtype.kind(), dtype.itemsize()) {
        (b'i', 1) => elements::<i8, _>(&array, what, swap, |at, x| convert(at, x.into())),
        (b'i', 2) => elements::<i16, _>(&array, what, swap, |at, x| convert(at, x.into())),
        (b'i', 4) => elements::<i32, _>(&array, what, swap, |at, x| convert(at, x.into())),
        (b'i', 8) => elements::<i64, _>(&array, what, swap, |at, x| convert(at, x.into())),
        (b'u', 1) => elements::<u8, _>(&array, what, swap, |at, x| convert(at, x.into())),
        (b'u', 2) => elements::<u16, _>(&array, what, swap, |at, x| convert(at, x.into())),
        (b'u', 4) => elements::<u32, _>(&array, what, swap, |at, x| convert(at, x.into())),
        (b'u', 8) => elements::<u64, _>(&array, what, swap, |at, x| convert(at, x.into())),
        _ => Err(PyTypeError::new_err(format!("{what}: expected an integer dtype, got {dtype}"))),
    }
}

/// A boolean array, as it is; None for anything else.
pub(super) fn mask(object: &Bound<'_, PyAny>, what: &str) -> PyResult<Option<Vec<bool>>> {
    match as_array(object)? {
        Some(array) if array.dtype().kind() == b'b' && array.ndim() == 1 => {
            elements::<u8, _>(&array, what, false, |_, x| Ok(x != 0)).map(Some)
        }
        _ => Ok(None),
    }
}

/// A number whose bytes can be turned round.
trait Number: Copy {
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

/// The address of the first element. (The type parameter says nothing: elements are read byte-wise.)
fn start(array: &Bound<'_, PyUntypedArray>) -> *mut u8 {
    // SAFETY: it is a NumPy array; `data` only reads the pointer in its header, whatever the element type.
    let bytes = unsafe { array.as_any().cast_unchecked::<PyArrayDyn<u8>>() };
    bytes.data()
}

/// Each element of a one-dimensional array of elements of `T`'s size through `take(position, value)`.
fn elements<T: Number, U>(
    array: &Bound<'_, PyUntypedArray>,
    what: &str,
    swap: bool,
    take: impl Fn(usize, T) -> PyResult<U>,
) -> PyResult<Vec<U>> {
    let (start, stride, len) = (start(array), array.strides()[0], array.len());
    let mut out = reserve(what, len)?;
    let read = |at: usize, stride: isize| {
        let element = start.wrapping_offset(at as isize * stride).cast::<T>();
        // SAFETY: NumPy keeps element `at < len` at this address; the interpreter is attached and the array referenced, so its
        // memory stays; no alignment is asked for, and every bit pattern is a number.
        let value = unsafe { element.read_unaligned() };
        if swap { value.swapped() } else { value }
    };
    if stride == size_of::<T>() as isize {
        for at in 0..len {
            out.push(take(at, read(at, size_of::<T>() as isize))?); // a constant stride: the loop can be vectorised
        }
    } else {
        for at in 0..len {
            out.push(take(at, read(at, stride))?);
        }
    }
    Ok(out)
}

/// A float array of one or two dimensions, to be read piece by piece as float32.
pub(super) struct Floats<'py> {
    array: Bound<'py, PyUntypedArray>,
    what: String,
    layout: FloatLayout,
}

/// How the elements lie in memory; the address and the strides are asked for at each reading.
#[derive(PartialEq)]
struct FloatLayout {
    shape: Vec<usize>,
    size: usize,
    swap: bool,
}

impl FloatLayout {
    /// None for a dtype that is no float of 2, 4 or 8 bytes.
    fn of(array: &Bound<'_, PyUntypedArray>) -> Option<Self> {
        let dtype = array.dtype();
        let layout = FloatLayout {
            shape: array.shape().to_vec(),
            size: dtype.itemsize(),
            swap: dtype.is_native_byteorder() == Some(false),
        };
        (dtype.kind() == b'f' && matches!(layout.size, 2 | 4 | 8)).then_some(layout)
    }
}

impl<'py> Floats<'py> {
    /// # Errors
    /// TypeError for anything but float32, float16 and, where `wide`, float64 (rounded to float32).
    pub(super) fn new(object: &Bound<'py, PyAny>, what: &str, wide: bool) -> PyResult<Self> {
        let expected = if wide { "float32, float16 or float64" } else { "float32 or float16" };
        let refuse =
            || PyTypeError::new_err(format!("{what}: expected an array of {expected}, got {}", describe(object)));
        let array = as_array(object)?.ok_or_else(refuse)?;
        match FloatLayout::of(&array) {
            Some(layout) if wide || layout.size < 8 => Ok(Floats { array, what: what.to_owned(), layout }),
            _ => Err(PyTypeError::new_err(format!("{what}: expected dtype {expected}, got {}", array.dtype()))),
        }
    }

    pub(super) fn shape(&self) -> &[usize] {
        &self.layout.shape
    }

    /// Elements `first..first + to.len()`, in row-major order, of an array of one or two dimensions.
    ///
    /// # Errors
    /// [`Error::Argument`] where the array is not what it was: Python code may have run since [`Floats::new`].
    pub(super) fn read(&self, first: usize, to: &mut [f32]) -> Result<()> {
        if FloatLayout::of(&self.array).as_ref() != Some(&self.layout) {
            return Err(Error::Argument(format!("{}: the array was changed while it was read", self.what)));
        }
        let strides = self.array.strides();
        let (width, row_stride, stride) = match (&self.layout.shape[..], strides) {
            (&[len], &[stride]) => (len, 0, stride),
            (&[_, width], &[row_stride, stride]) => (width, row_stride, stride),
            _ => unreachable!("the number of dimensions was checked"),
        };
        assert!(first + to.len() <= self.layout.shape.iter().product(), "elements of the array");
        let _settings = StandardFloats::enter(); // float64 is rounded to nearest, whatever the host program chose
        let start = start(&self.array);
        let (mut row, mut column) = (first / width.max(1), first % width.max(1));
        for to in to {
            let at = start.wrapping_offset(row as isize * row_stride + column as isize * stride);
            *to = self.element(at);
            column += 1;
            if column == width {
                (row, column) = (row + 1, 0);
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn element(&self, at: *mut u8) -> f32 {
        // SAFETY (of the three reads): `at` is the address of an element of `size` bytes, see `read`; the interpreter is attached
        // and the array referenced; no alignment is asked for.
        match self.layout.size {
            // SAFETY: as above.
            2 => half::f16::from_bits(self.order(unsafe { at.cast::<u16>().read_unaligned() })).to_f32(),
            // SAFETY: as above.
            4 => f32::from_bits(self.order(unsafe { at.cast::<u32>().read_unaligned() })),
            // SAFETY: as above.
            _ => f64::from_bits(self.order(unsafe { at.cast::<u64>().read_unaligned() })) as f32,
        }
    }

    fn order<T: Number>(&self, value: T) -> T {
        if self.layout.swap { value.swapped() } else { value }
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

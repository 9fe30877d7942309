"""Tables for Arrow's C stream interface, by the PyCapsule protocol, with ctypes alone.

The structures and the rules of ownership are those of https://arrow.apache.org/docs/format/CDataInterface.html and
https://arrow.apache.org/docs/format/CStreamInterface.html: whoever receives a structure calls its `release`, which lets
go of the memory it points to. `_LIVING` holds that memory until then.
"""

import ctypes
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["stream_capsule"]


class _Schema(ctypes.Structure):
    pass


class _Array(ctypes.Structure):
    pass


class _Stream(ctypes.Structure):
    pass


_RELEASE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_GET = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_LAST_ERROR = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)

_Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(_Schema))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]
_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]
_Stream._fields_ = [
    ("get_schema", _GET),
    ("get_next", _GET),
    ("get_last_error", _LAST_ERROR),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]

_LIVING: dict[int, Any] = {}
"""What the structures that have not been released point to, by their `private_data`."""
_NUMBERS = itertools.count(1)


def stream_capsule(columns: Sequence[tuple[str, NDArray[Any]]]) -> Any:
    """Return a PyCapsule `arrow_array_stream` of one batch with these columns: int64, float32 or objects of str."""
    stream = _Stream(_GET_SCHEMA, _GET_NEXT, _GET_LAST_ERROR, ctypes.cast(_RELEASE_STREAM, ctypes.c_void_p))
    number = next(_NUMBERS)
    stream.private_data = number
    _LIVING[number] = [list(columns), False]
    _CAPSULES[ctypes.addressof(stream)] = stream
    return _new_capsule(ctypes.addressof(stream), b"arrow_array_stream", _DESTROY_CAPSULE)


def _text(column: NDArray[Any]) -> list[NDArray[Any]]:
    encoded = [text.encode() for text in column.tolist()]
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in encoded], dtype=np.int64)]).astype(np.int64)
    return [offsets, np.frombuffer(b"".join(encoded) or b"\0", np.uint8)]


def _format_of(column: NDArray[Any]) -> bytes:
    return {"i": b"l", "f": b"f", "O": b"U"}[column.dtype.kind]


def _fill_schema(schema: _Schema, format: bytes, name: bytes, children: list[_Schema]) -> None:
    pointers = (ctypes.POINTER(_Schema) * max(1, len(children)))(*map(ctypes.pointer, children))
    schema.format, schema.name, schema.flags = format, name, 0
    schema.metadata = schema.dictionary = None
    schema.n_children, schema.children = len(children), pointers
    schema.release = ctypes.cast(_RELEASE_SCHEMA, ctypes.c_void_p)
    schema.private_data = number = next(_NUMBERS)
    _LIVING[number] = format, name, pointers, children


def _fill_array(array: _Array, length: int, buffers: list[NDArray[Any] | None], children: list[_Array]) -> None:
    addresses = (ctypes.c_void_p * len(buffers))(*(None if b is None else b.ctypes.data for b in buffers))
    pointers = (ctypes.POINTER(_Array) * max(1, len(children)))(*map(ctypes.pointer, children))
    array.length, array.null_count, array.offset = length, 0, 0
    array.dictionary = None
    array.n_buffers, array.buffers = len(buffers), addresses
    array.n_children, array.children = len(children), pointers
    array.release = ctypes.cast(_RELEASE_ARRAY, ctypes.c_void_p)
    array.private_data = number = next(_NUMBERS)
    _LIVING[number] = buffers, addresses, pointers, children


def _get_schema(stream: int, out: int) -> int:
    columns, _ = _LIVING[_Stream.from_address(stream).private_data]
    children = [_Schema() for _ in columns]
    for child, (name, column) in zip(children, columns, strict=True):
        _fill_schema(child, _format_of(column), name.encode(), [])
    _fill_schema(_Schema.from_address(out), b"+s", b"", children)
    return 0


def _get_next(stream: int, out: int) -> int:
    state = _LIVING[_Stream.from_address(stream).private_data]
    array = _Array.from_address(out)
    if state[1]:
        array.release = None  # the end of the stream
        return 0
    state[1] = True
    columns = state[0]
    children = [_Array() for _ in columns]
    for child, (_, column) in zip(children, columns, strict=True):
        buffers = _text(column) if column.dtype == object else [np.ascontiguousarray(column)]
        _fill_array(child, len(column), [None, *buffers], [])
    _fill_array(array, len(columns[0][1]), [None], children)
    return 0


def _get_last_error(_stream: int) -> None:
    return None


def _release(structure: Any) -> None:
    for at in range(structure.n_children):
        child = structure.children[at].contents
        if child.release:
            ctypes.cast(child.release, _RELEASE)(ctypes.addressof(child))
    structure.release = None
    _LIVING.pop(structure.private_data, None)


def _release_schema(schema: int) -> None:
    _release(_Schema.from_address(schema))


def _release_array(array: int) -> None:
    _release(_Array.from_address(array))


def _release_stream(address: int) -> None:
    stream = _Stream.from_address(address)
    stream.release = None
    _LIVING.pop(stream.private_data, None)


_CAPSULES: dict[int, _Stream] = {}
"""The structures in capsules, by their address."""
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, _RELEASE]
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype = ctypes.c_void_p
_pointer_of.argtypes = [ctypes.c_void_p, ctypes.c_char_p]


def _destroy_capsule(capsule: int) -> None:
    address = _pointer_of(capsule, b"arrow_array_stream")
    stream = _CAPSULES.pop(address)
    if stream.release:  # nobody has taken the stream
        ctypes.cast(stream.release, _RELEASE)(address)


# The functions as C calls them; C holds their addresses, so they live as long as the module.
_GET_SCHEMA = _GET(_get_schema)
_GET_NEXT = _GET(_get_next)
_GET_LAST_ERROR = _LAST_ERROR(_get_last_error)
_RELEASE_SCHEMA = _RELEASE(_release_schema)
_RELEASE_ARRAY = _RELEASE(_release_array)
_RELEASE_STREAM = _RELEASE(_release_stream)
_DESTROY_CAPSULE = _RELEASE(_destroy_capsule)

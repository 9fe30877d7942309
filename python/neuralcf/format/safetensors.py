"""Writing safetensors files."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuralcf.format.digests import BLANK_DIGEST, Listed

__all__ = ["FORMAT_METADATA", "Array", "blocks", "write_safetensors"]

Array: TypeAlias = NDArray[Any]

FORMAT_METADATA: Final = {"format": "neuralcf", "format_version": "1"}
"""The metadata of every file of a model."""

_DTYPES = {"f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "u1": "U8"}
_BLOCK = 8 << 20
"""Bytes converted at a time, so that a large table is never held in memory twice."""


def write_safetensors(
    path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str], *, own_digest: bool = False
) -> Listed:
    """Write a safetensors file, widest dtypes first, so that every tensor is aligned; return its size and SHA-256.

    With `own_digest`, the metadata say the file's own digest: SHA-256 of the file with zeros in its place.

    Raises:
        OSError: the file cannot be written.
    """
    ordered = dict(sorted(tensors.items(), key=lambda entry: -entry[1].dtype.itemsize))
    own = {"digest": "sha256", "sha256": BLANK_DIGEST} if own_digest else {}
    header: dict[str, Any] = {"__metadata__": {**metadata, **own}}
    end = 0
    for name, array in ordered.items():
        start, end = end, end + array.nbytes
        dtype = _DTYPES[f"{array.dtype.kind}{array.dtype.itemsize}"]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    text = len(text).to_bytes(8, "little") + text
    if own_digest:
        text = text.replace(BLANK_DIGEST.encode(), _digest(text, ordered).encode(), 1)
    with path.open("wb") as file:
        digest = hashlib.sha256(text)
        file.write(text)
        for block in _little_endian(ordered):
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return Listed(size=len(text) + end, sha256=digest.hexdigest())


def _digest(start: bytes, tensors: Mapping[str, Array]) -> str:
    """SHA-256 of a file that starts with `start`, followed by the tensors."""
    digest = hashlib.sha256(start)
    for block in _little_endian(tensors):
        digest.update(block)
    return digest.hexdigest()


def _little_endian(tensors: Mapping[str, Array]) -> Iterator[memoryview]:
    """Yield the data of the tensors, a few megabytes at a time."""
    for array in tensors.values():
        for block in blocks(array):
            yield np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("<")).data.cast("B")


def blocks(array: Array) -> list[Array]:
    """Split an array into views of consecutive rows, of a few megabytes each."""
    if array.size == 0:
        return []
    rows = max(1, _BLOCK // (array.nbytes // len(array)))
    return [array[start : start + rows] for start in range(0, len(array), rows)]

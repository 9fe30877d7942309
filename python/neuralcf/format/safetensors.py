"""Writing safetensors files."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "blocks", "write_safetensors"]

Array: TypeAlias = NDArray[Any]

_DTYPES = {"f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "u1": "U8"}
_BLOCK = 8 << 20
"""Bytes converted at a time, so that a large table is never held in memory twice."""


def write_safetensors(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, widest dtypes first, so that every tensor is aligned.

    Raises:
        FileExistsError: the file exists already.
        OSError: the file cannot be written.
    """
    ordered = dict(sorted(tensors.items(), key=lambda entry: -entry[1].dtype.itemsize))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, array in ordered.items():
        start, end = end, end + array.nbytes
        dtype = _DTYPES[f"{array.dtype.kind}{array.dtype.itemsize}"]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in ordered.values():
            for block in blocks(array):
                file.write(np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("<")).data)
        file.flush()
        os.fsync(file.fileno())


def blocks(array: Array) -> list[Array]:
    """Split an array into views of consecutive rows, of a few megabytes each."""
    if array.size == 0:
        return []
    rows = max(1, _BLOCK // (array.nbytes // len(array)))
    return [array[start : start + rows] for start in range(0, len(array), rows)]

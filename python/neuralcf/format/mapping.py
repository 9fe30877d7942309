"""Mapping the tensors of a safetensors file, to read parts of tables that are larger than memory."""

import json
from pathlib import Path

import numpy as np

from neuralcf.errors import ModelFormatError
from neuralcf.format.safetensors import Array

__all__ = ["map_safetensors"]

_DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1"}


def map_safetensors(path: Path) -> dict[str, Array]:
    """Map the tensors of a file into memory, read-only; BF16 as uint16, its bits.

    The header is checked as far as mapping needs it: what is written from these arrays passes the checks of `save`.

    Raises:
        ModelFormatError: not a safetensors file, or a truncated one.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            raise ModelFormatError(f"{path}: expected a header inside the file, got one of {length} bytes")
        text = file.read(length)
    try:
        header = json.loads(text)
        return {
            name: np.memmap(
                path, _DTYPES[entry["dtype"]], "r", 8 + length + entry["data_offsets"][0], tuple(entry["shape"])
            )
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelFormatError(f"{path}: not a safetensors file: {error!r}") from error

"""Reading the files of other libraries: arrays, weights and sparse matrices. Nothing is unpickled without `trust`."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final, TypeGuard

import numpy as np
from numpy.typing import NDArray

from neuralcf.convert.pickle_protocol import in_protocol_2
from neuralcf.errors import ArgumentError, ModelFormatError, argument

__all__ = ["is_path", "needs", "read_arrays", "read_csr", "read_torch", "unpickle"]

_DTYPES: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "<u1"}
_LONGEST_HEADER: Final = 100_000_000
"""Bytes of the header of a safetensors file, as its own reader bounds them."""


def is_path(source: object) -> TypeGuard[str | PathLike[str]]:
    """Whether a source is the name of a file or directory, rather than a model in memory."""
    return isinstance(source, (str, PathLike))


def needs(package: str, what: str) -> ImportError:
    """Describe a package that is missing."""
    return ImportError(f"{what} needs {package}: pip install {package}")


def read_arrays(path: str | PathLike[str]) -> dict[str, NDArray[Any]]:
    """Read the arrays of a .npz or .safetensors file by name; those of a .npy file are named `array`.

    Raises:
        ArgumentError: another kind of file, or one that holds Python objects.
        ModelFormatError: a damaged file.
        OSError: the file cannot be read.
    """
    ending = Path(path).suffix
    if ending == ".safetensors":
        return _read_safetensors(Path(path))
    if ending not in (".npz", ".npy"):
        raise ArgumentError(f"{fspath(path)}: expected a file that ends in .npz, .npy or .safetensors")
    try:
        with Path(path).open("rb") as file:
            if file.read(1) == b"\x80":
                raise ArgumentError(f"{fspath(path)}: expected arrays of numpy, got a pickle")
            file.seek(0)
            loaded = np.load(file, allow_pickle=False)
            return {"array": loaded} if ending == ".npy" else {name: loaded[name] for name in loaded.files}
    except ArgumentError:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        if "allow_pickle" in str(error):
            raise ArgumentError(f"{fspath(path)}: expected arrays of numbers or text, got Python objects") from None
        raise ModelFormatError(f"{fspath(path)}: not a file of numpy: {error}") from error


def _read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    arrays = {}
    with path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _LONGEST_HEADER):
            raise ModelFormatError(f"{path}: expected a header inside the file, got one of {length} bytes")
        try:
            header = json.loads(file.read(length))
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            for name, entry in entries.items():
                start, end = (int(offset) for offset in entry["data_offsets"])
                dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), [int(length_) for length_ in entry["shape"]]
                if min([0, start, *shape]) < 0 or end - start != dtype.itemsize * int(np.prod(shape, dtype=object)):
                    raise ModelFormatError(
                        f"{path}: {name}: {shape} of {entry['dtype']} do not fit {end - start} bytes"
                    )
                if end > size - 8 - length:
                    raise ModelFormatError(f"{path}: {name}: expected data inside the file, which is truncated")
                file.seek(8 + length + start)
                array = np.frombuffer(file.read(end - start), dtype).reshape(shape)
                if entry["dtype"] == "BF16":
                    array = (array.astype("<u4") << 16).view("<f4")
                arrays[name] = array
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, ModelFormatError):
                raise
            raise ModelFormatError(f"{path}: not a safetensors file: {error!r}") from error
    return arrays


def read_csr(path: str | PathLike[str], name: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], tuple[int, int]]:
    """Read a sparse matrix that `scipy.sparse.save_npz` wrote in CSR.

    Args:
        path: the file.
        name: the argument that gives it, for messages.

    Returns:
        indptr `[n + 1]`, indices, values, and the shape `(n, m)`.

    Raises:
        ArgumentError: another kind of file or matrix.
        OSError: the file cannot be read.
    """
    arrays = read_arrays(path)
    if not {"format", "shape", "indptr", "indices", "data"} <= arrays.keys():
        raise ArgumentError(
            f"{argument(name)}: {fspath(path)}: expected a CSR matrix by scipy.sparse.save_npz, got {', '.join(arrays)}"
        )
    kind = arrays["format"].item()
    kind = kind.decode() if isinstance(kind, bytes) else kind
    if kind != "csr":
        raise ArgumentError(f"{argument(name)}: {fspath(path)}: expected a CSR matrix, got {kind}; use .tocsr()")
    rows, columns = (int(length) for length in arrays["shape"])
    return arrays["indptr"], arrays["indices"], arrays["data"], (rows, columns)


def read_torch(path: str | PathLike[str], *, placeholders: bool = False) -> Any:
    """Read a file of torch with `weights_only`, so that nothing in it can run.

    Args:
        path: the file.
        placeholders: whether unknown classes become empty objects, which only hold what was stored.

    Raises:
        ArgumentError: a file that holds more than weights.
        ImportError: torch is not installed.
        OSError: the file cannot be read.
    """
    try:
        import torch
    except ImportError as error:
        raise needs("torch", f"{fspath(path)}: reading a file of torch") from error
    try:
        file: Any = in_protocol_2(path)
        stubs: list[Any] = []
        if placeholders:
            if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
                raise ImportError(
                    f"{fspath(path)}: reading this file needs torch 2.6 or newer, got {torch.__version__}"
                )
            unknown = torch.serialization.get_unsafe_globals_in_checkpoint(file)
            stubs = [(type(name.rpartition(".")[2], (_Placeholder,), {}), name) for name in unknown]
            if isinstance(file, io.BytesIO):
                file.seek(0)
        with torch.serialization.safe_globals(stubs):
            return torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, AttributeError, TypeError, KeyError) as error:
        first = next((line for line in str(error).splitlines() if "rror" in line), type(error).__name__)
        raise ArgumentError(
            f"{fspath(path)}: expected weights that torch reads with weights_only, such as a state_dict: {first}"
        ) from error


class _Placeholder:
    """What stands for an object of a library in a file of weights: its attributes, without its code."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __setstate__(self, state: object) -> None:
        self.__dict__.update(state if isinstance(state, Mapping) else {"state": state})


def unpickle(path: str | PathLike[str], *, trust: bool, library: str) -> Any:
    """Unpickle a file of a library, if the user trusts it.

    Raises:
        ArgumentError: without trust, or not a pickle.
        ImportError: the library that the objects need is not installed.
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        if file.read(1) != b"\x80":
            raise ArgumentError(f"{fspath(path)}: expected a pickle by {library}, got another kind of file")
        file.seek(0)
        if not trust:
            raise ArgumentError(
                f"{fspath(path)}: a pickle, which can run any program when it is read; expected "
                f"{argument('trust', True)} if it is from a source that you trust"
            )
        try:
            return pickle.load(file)
        except ModuleNotFoundError as error:
            raise needs(str(error.name), f"{fspath(path)}: this pickle") from error
        except (pickle.UnpicklingError, EOFError, AttributeError, IndexError) as error:
            raise ArgumentError(f"{fspath(path)}: cannot be unpickled: {error}") from error

"""Checks of ids, interactions and configuration; each check returns its input in the form that is stored."""

import math
import platform
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import __version__
from neuralcf.errors import ArgumentError
from neuralcf.format.config import find_problem
from neuralcf.format.safetensors import Array

__all__ = [
    "IdList",
    "Interactions",
    "Kind",
    "Sizes",
    "check_config",
    "check_id_list",
    "check_ids",
    "check_seen",
]

Kind: TypeAlias = Literal["gmf", "mlp", "neumf"]
Sizes: TypeAlias = dict[str, Any]
Interactions: TypeAlias = Any
"""scipy.sparse CSR, or (indptr, indices)."""
IdList: TypeAlias = Sequence[int] | Sequence[str] | Array

_BLOCK = 1 << 22
_OWN_KEYS = ("format_version", "model_id", "kind", "sizes", "files", "sha256")


def check_ids(ids: tuple[IdList, IdList], sizes: Sizes) -> dict[str, Array]:
    """Check external ids, and return the tensors of ids.safetensors.

    Raises:
        TypeError: ids that are neither all int nor all str.
        ArgumentError: the wrong number of ids, a duplicate, an integer beyond int64, or invalid Unicode.
    """
    if not isinstance(ids, tuple) or len(ids) != 2:
        raise TypeError(f"ids: expected a tuple (user ids, item ids), got {type(ids).__name__}")
    tensors: dict[str, Array] = {}
    for what, side, count in (("users", ids[0], sizes["num_users"]), ("items", ids[1], sizes["num_items"])):
        checked = check_id_list(side, count, f"ids: {what}")
        tensors |= _string_tensors(what, checked) if isinstance(checked, list) else {what: checked}
    return tensors


def check_id_list(ids: IdList, expected: int, where: str) -> NDArray[np.int64] | list[str]:
    """Check the external ids of one side, and return them as int64 or as a list of str.

    Raises:
        TypeError, ArgumentError: as for `check_ids`, beginning with `where`.
    """
    array = ids if isinstance(ids, np.ndarray) else np.asarray(ids, dtype=object)
    if array.ndim != 1 or isinstance(ids, str):
        raise TypeError(f"{where}: expected one dimension of int or str, got {type(ids).__name__} {array.shape}")
    if len(array) != expected:
        raise ArgumentError(f"{where}: expected {expected} ids, one for each of the model's, got {len(array)}")
    if array.dtype.kind in "iu":
        if array.dtype.kind == "u" and array.max() > np.iinfo(np.int64).max:
            raise ArgumentError(f"{where}: expected integers that fit int64, got {array.max()}")
        integers = array.astype(np.int64)
    else:
        listed = array.tolist()
        kinds = {str if isinstance(id_, str) else type(id_) for id_ in listed}
        if kinds == {str}:
            return _unique_strings(listed, where)
        wrong = next((kind for kind in kinds if kind is bool or not issubclass(kind, (int, np.integer, str))), None)
        if wrong is not None or str in kinds:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise TypeError(f"{where}: expected all int or all str, got {names}")
        try:
            integers = np.asarray([int(id_) for id_ in listed], dtype=np.int64)
        except OverflowError:
            raise ArgumentError(f"{where}: expected integers that fit int64, got larger ones") from None
    values, counts = np.unique(integers, return_counts=True)
    if len(values) != len(integers):
        raise ArgumentError(f"{where}: expected unique ids, got {values[counts > 1][0]} more than once")
    return integers


def _unique_strings(ids: list[str], where: str) -> list[str]:
    seen: set[str] = set()
    for text in ids:
        if text in seen:
            raise ArgumentError(f"{where}: expected unique ids, got {text!r} more than once")
        seen.add(text)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ArgumentError(f"{where}: expected valid Unicode, got {text!r}") from None
    return ids


def _string_tensors(what: str, ids: list[str]) -> dict[str, Array]:
    encoded = [text.encode() for text in ids]
    offsets = np.zeros(len(ids) + 1, np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    return {f"{what}.bytes": np.frombuffer(b"".join(encoded), np.uint8), f"{what}.offsets": offsets}


def check_seen(seen: Interactions, num_users: int, num_items: int) -> dict[str, Array]:
    """Check interactions, and return the tensors of seen.safetensors with sorted, unique rows.

    Raises:
        TypeError: neither scipy CSR nor a pair of integer arrays.
        ArgumentError: rows that do not fit the model.
    """
    if isinstance(seen, tuple) and len(seen) == 2:
        indptr, indices = (np.asarray(part) for part in seen)
    elif getattr(seen, "format", None) == "csr":
        if seen.shape != (num_users, num_items):
            raise ArgumentError(f"seen: expected shape {(num_users, num_items)}, got {seen.shape}")
        indptr, indices = seen.indptr, seen.indices
    else:
        got = getattr(seen, "format", type(seen).__name__)
        raise TypeError(f"seen: expected scipy CSR or (indptr, indices), got {got}")

    for name, part in (("indptr", indptr), ("indices", indices)):
        if part.ndim != 1 or (part.dtype.kind not in "iu" and part.size):
            raise TypeError(f"seen: {name}: expected one dimension of integers, got {part.dtype} {list(part.shape)}")
    if len(indptr) != num_users + 1:
        raise ArgumentError(f"seen: indptr: expected {num_users + 1} entries for {num_users} users, got {len(indptr)}")
    indptr = indptr.astype(np.int64)
    if indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        raise ArgumentError(f"seen: indptr: expected non-decreasing values from 0 to {len(indices)}")
    if indices.size and (indices.min() < 0 or indices.max() >= num_items):
        bad = indices[(indices < 0) | (indices >= num_items)][0]
        raise ArgumentError(f"seen: indices: expected 0 to {num_items - 1}, got {bad}")

    if _rows_ascend(indptr, indices):
        return {"indptr": indptr, "indices": indices.astype(np.int32, copy=False)}
    rows = np.repeat(np.arange(num_users, dtype=np.int64), np.diff(indptr))
    keys = rows * num_items + indices.astype(np.int64)
    keys = np.unique(keys)
    np.cumsum(np.bincount(keys // num_items, minlength=num_users), out=indptr[1:])
    return {"indptr": indptr, "indices": (keys % num_items).astype(np.int32)}


def _rows_ascend(indptr: NDArray[np.int64], indices: Array) -> bool:
    """Whether each row is sorted and unique; block by block, because the interactions may be larger than memory."""
    for start in range(1, len(indices), _BLOCK):
        stop = min(start + _BLOCK, len(indices))
        ascends = indices[start:stop] > indices[start - 1 : stop - 1]
        first, last = np.searchsorted(indptr, (start, stop))
        ascends[indptr[first:last] - start] = True  # where a row begins
        if not ascends.all():
            return False
    return True


def check_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check a configuration, and return what config.json stores besides identity, kind and sizes.

    Raises:
        ArgumentError: a key that `save` writes itself, an entry of the wrong type, or a value that JSON does not have.
    """
    if own := [key for key in _OWN_KEYS if key in config]:
        raise ArgumentError(f"config: reserved keys: {', '.join(own)}, which save writes itself")
    if not isinstance(config.get("versions", {}), Mapping):
        raise ArgumentError(
            f"config: versions: expected a mapping of names to versions, got {type(config['versions']).__name__}"
        )
    _check_json(config, "config")
    if problem := find_problem(config):
        raise ArgumentError(f"config: {problem}")
    current = {"neuralcf": __version__, "numpy": np.__version__, "python": platform.python_version()}
    return {**config, "versions": {**current, **config.get("versions", {})}}


def _check_json(value: object, where: str) -> None:
    if value is None or isinstance(value, (str, bool, int)):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ArgumentError(f"{where}: expected a finite number, got {value}")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ArgumentError(f"{where}: expected strings as keys, got {key!r}")
            _check_json(inner, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for at, inner in enumerate(value):
            _check_json(inner, f"{where}[{at}]")
    else:
        raise ArgumentError(f"{where}: expected a plain JSON value, got {type(value).__name__}")

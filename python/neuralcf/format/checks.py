"""Checks of what is written beside the tensors: ids, interactions, configuration; each is returned as it is stored."""

import math
import platform
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

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
    "check_ids",
    "check_seen",
]

Kind: TypeAlias = Literal["gmf", "mlp", "neumf"]
Sizes: TypeAlias = dict[str, Any]
Interactions: TypeAlias = Any
"""scipy.sparse CSR, or (indptr, indices)."""
IdList: TypeAlias = Sequence[int] | Sequence[str] | Array

_OWN_KEYS = ("format_version", "model_id", "kind", "sizes")


def check_ids(ids: tuple[IdList, IdList], sizes: Sizes) -> dict[str, Array]:
    """The tensors of ids.safetensors."""
    if not isinstance(ids, tuple) or len(ids) != 2:
        raise TypeError(f"ids: expected a tuple (user ids, item ids), got {type(ids).__name__}")
    users = _id_tensors("users", ids[0], sizes["num_users"])
    return users | _id_tensors("items", ids[1], sizes["num_items"])


def _id_tensors(what: str, ids: IdList, expected: int) -> dict[str, Array]:
    array = ids if isinstance(ids, np.ndarray) else np.asarray(ids, dtype=object)
    if array.ndim != 1 or isinstance(ids, str):
        raise TypeError(f"ids: {what}: expected one dimension of int or str, got {type(ids).__name__} {array.shape}")
    if len(array) != expected:
        raise ArgumentError(f"ids: {what}: expected {expected}, as many as the model has, got {len(array)}")
    if array.dtype.kind in "iu":
        if array.dtype.kind == "u" and array.max() > np.iinfo(np.int64).max:
            raise ArgumentError(f"ids: {what}: {array.max()} is beyond int64")
        integers = array.astype(np.int64)
    else:
        listed = array.tolist()
        kinds = {str if isinstance(one, str) else type(one) for one in listed}
        if kinds == {str}:
            return _string_tensors(what, listed)
        wrong = next((kind for kind in kinds if kind is bool or not issubclass(kind, (int, np.integer, str))), None)
        if wrong is not None or str in kinds:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise TypeError(f"ids: {what}: expected all int or all str, got {names}")
        try:
            integers = np.asarray([int(one) for one in listed], dtype=np.int64)
        except OverflowError:
            raise ArgumentError(f"ids: {what}: expected integers of 64 bits, got larger ones") from None
    values, counts = np.unique(integers, return_counts=True)
    if len(values) != len(integers):
        raise ArgumentError(f"ids: {what}: expected each id once, got {values[counts > 1][0]} more than once")
    return {what: integers}


def _string_tensors(what: str, ids: list[str]) -> dict[str, Array]:
    seen: set[str] = set()
    encoded = []
    for one in ids:
        if one in seen:
            raise ArgumentError(f"ids: {what}: expected each id once, got {one!r} more than once")
        seen.add(one)
        try:
            encoded.append(one.encode())
        except UnicodeEncodeError:
            raise ArgumentError(f"ids: {what}: {one!r} is not valid Unicode") from None
    offsets = np.zeros(len(ids) + 1, np.int64)
    np.cumsum([len(one) for one in encoded], out=offsets[1:])
    return {f"{what}.bytes": np.frombuffer(b"".join(encoded), np.uint8), f"{what}.offsets": offsets}


def check_seen(seen: Interactions, num_users: int, num_items: int) -> dict[str, Array]:
    """The tensors of seen.safetensors, rows sorted and unique."""
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
        raise ArgumentError(f"seen: indptr: expected to run from 0 to {len(indices)} without falling")
    if indices.size and (indices.min() < 0 or indices.max() >= num_items):
        bad = indices[(indices < 0) | (indices >= num_items)][0]
        raise ArgumentError(f"seen: indices: expected 0 to {num_items - 1}, got {bad}")

    rows = np.repeat(np.arange(num_users, dtype=np.int64), np.diff(indptr))
    keys = rows * num_items + indices.astype(np.int64)
    if (np.diff(keys) <= 0).any():
        keys = np.unique(keys)
        np.cumsum(np.bincount(keys // num_items, minlength=num_users), out=indptr[1:])
    return {"indptr": indptr, "indices": (keys % num_items).astype(np.int32)}


def check_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give what config.json holds besides identity, kind and sizes."""
    if own := [key for key in _OWN_KEYS if key in config]:
        raise ArgumentError(f"config: {', '.join(own)} are written by save itself")
    if not isinstance(config.get("versions", {}), Mapping):
        raise ArgumentError("config: versions: expected an object of names and versions")
    _check_json(config, "config")
    if problem := find_problem(config):
        raise ArgumentError(f"config: {problem}")
    made_with = {"neuralcf": __version__, "numpy": np.__version__, "python": platform.python_version()}
    return {**config, "versions": {**made_with, **config.get("versions", {})}}


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

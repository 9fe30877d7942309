"""Ids and histories as programs hand them over, and their dense indices."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import Ids
from neuralcf.errors import ArgumentError, UnknownItemError, UnknownUserError

__all__ = [
    "DenseRows",
    "Histories",
    "Id",
    "IdArray",
    "ManyIds",
    "OnUnknown",
    "OneOrManyIds",
    "Rows",
    "all_of",
    "are_rows",
    "as_ids",
    "check_on_unknown",
    "dense",
    "dense_rows",
    "external",
    "id_array",
    "is_one",
    "joined_rows",
    "one",
    "take_rows",
]

Id: TypeAlias = int | str
IdArray: TypeAlias = NDArray[np.int64] | NDArray[np.object_]
ManyIds: TypeAlias = Sequence[int] | Sequence[str] | NDArray[Any]
OneOrManyIds: TypeAlias = SupportsIndex | str | ManyIds
Histories: TypeAlias = ManyIds | Sequence[ManyIds]
OnUnknown: TypeAlias = Literal["raise", "skip", "popular"]
Rows: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]
"""CSR rows: `indptr` `[B + 1]` and `indices`."""


def is_one(ids: object) -> bool:
    """Whether it is one id, not many."""
    return isinstance(ids, (str, int, np.integer, np.bool_)) or (isinstance(ids, np.ndarray) and ids.ndim == 0)


def all_of(mask: NDArray[np.bool_]) -> bool:
    """Return `mask.all()`, in a tenth of its time where the mask is short."""
    return int(np.count_nonzero(mask)) == mask.size


def one(id_: Any) -> Any:
    """Return one id as a Python or NumPy scalar."""
    return id_.item() if isinstance(id_, np.ndarray) else id_


def as_ids(ids: Any) -> Any:
    """Return ids in a form that both kinds of models take: a list, a tuple or an array that is not of objects.

    Arrow arrays, views of dictionaries, sets, iterators and arrays of Python objects become lists, and so does anything
    empty, whatever its type.
    """
    if isinstance(ids, np.ndarray):
        return ids.tolist() if ids.dtype == object or (ids.ndim == 1 and ids.size == 0) else ids
    if isinstance(ids, list | tuple | range) or hasattr(ids, "__array__"):
        return ids.to_pylist() if hasattr(ids, "to_pylist") else ids
    if isinstance(ids, Iterable) and not isinstance(ids, str | bytes | Mapping):
        return list(ids)
    return ids


def dense(table: Ids, ids: Any, what: str, *, raising: bool) -> NDArray[np.int64]:
    """Return the dense indices of ids, int64 `[n]`, -1 for unknown ones.

    Raises:
        UnknownUserError, UnknownItemError: an unknown id, if `raising`; of users if `what` is "users" or "user".
        TypeError: ids of another type than the table's.
    """
    found = _find(table, ids, what)
    if raising and not all_of(known := found >= 0):
        unknown = UnknownUserError if what in ("users", "user") else UnknownItemError
        raise unknown(*_unknown(what, ids, known))
    return found


class DenseRows(NamedTuple):
    """Lists of ids as CSR rows of dense indices, without unknown ids."""

    rows: Rows
    positions: NDArray[np.int64]
    """int64 `[n]`: the positions of the rows' ids among all that were given."""
    given: NDArray[np.int64]
    """int64 `[B]`: the number of ids that were given for each row."""
    single: bool
    """Whether one list of ids was given, not a list of lists."""

    @property
    def users(self) -> int:
        """The number of rows."""
        return len(self.rows[0]) - 1


def dense_rows(table: Ids, rows: Any, what: str, *, raising: bool) -> DenseRows:
    """Return lists of ids as rows of dense indices.

    Raises:
        UnknownItemError: an unknown id, if `raising`.
        TypeError: ids of another type than the table's.
    """
    rows = rows.to_list() if hasattr(rows, "to_list") else as_ids(rows)  # columns of pandas and polars
    single = not are_rows(rows)
    lists = [as_ids(row) for row in ([rows] if single else rows)]
    for at, row in enumerate(lists):
        if is_one(row) or not hasattr(row, "__len__"):
            place = what if single else f"{what}[{at}]"
            raise TypeError(f"{place}: expected a list of ids, got {type(row).__name__}")
    lengths = np.array([len(row) for row in lists], np.int64)
    found = dense(table, _joined(lists), what, raising=raising) if lengths.any() else np.zeros(0, np.int64)
    positions = np.flatnonzero(found >= 0)
    kept = np.bincount(np.repeat(np.arange(len(lists)), lengths)[positions], minlength=len(lists))
    indptr = np.concatenate([[0], kept.cumsum()]).astype(np.int64)
    return DenseRows((indptr, found[positions]), positions, lengths, single)


def external(table: Ids, indices: NDArray[np.int64]) -> IdArray:
    """Return the ids at dense indices of any shape; where an index is -1, the id is -1, or None for string ids."""
    real = indices >= 0
    strings = table.kind == "str"
    if not strings and all_of(real):
        return np.asarray(table.take(indices.ravel()), np.int64).reshape(indices.shape)
    ids: IdArray = np.full(indices.shape, None, object) if strings else np.full(indices.shape, -1, np.int64)
    ids[real] = table.take(indices[real])
    return ids


def take_rows(rows: Rows, chosen: NDArray[np.bool_]) -> Rows:
    """Return the chosen rows, a mask over all."""
    if all_of(chosen):
        return rows
    indptr, indices = rows
    lengths = np.diff(indptr)
    kept = indices[np.repeat(chosen, lengths)]
    return np.concatenate([[0], lengths[chosen].cumsum()]).astype(np.int64), kept


def joined_rows(a: Rows, b: Rows) -> Rows:
    """Return, for each row, the indices of both."""
    rows = np.concatenate([np.repeat(np.arange(len(part[0]) - 1), np.diff(part[0])) for part in (a, b)])
    order = np.argsort(rows, kind="stable")
    return a[0] + b[0], np.concatenate([a[1], b[1]])[order]


def id_array(table: Ids, ids: Any) -> IdArray:
    """Return ids, which have been found to be of the table's type, as an array `[n]`."""
    if table.kind == "str":
        found: IdArray = np.empty(len(ids), object)
        found[:] = [str(id_) for id_ in ids]
        return found
    array = np.asarray(ids)
    return array if array.dtype == np.int64 else np.array([int(id_) for id_ in ids], np.int64)


def are_rows(rows: Any) -> bool:
    """Whether it is a list of lists: what its first element is, or its dimensions, tell."""
    if isinstance(rows, np.ndarray):
        return rows.ndim > 1
    return isinstance(rows, list | tuple) and bool(rows) and not is_one(rows[0]) and hasattr(rows[0], "__iter__")


def _joined(lists: list[Any]) -> Any:
    if len(lists) == 1:
        return lists[0]
    if all(isinstance(row, np.ndarray) and row.dtype.kind in "iu" for row in lists):
        return np.concatenate(lists)
    return [id_ for row in lists for id_ in row]


def _find(table: Ids, ids: Any, what: str) -> NDArray[np.int64]:
    """Return the indices of ids, -1 for unknown ones; raise TypeError for ids of another type."""
    if ids is None:
        raise TypeError(f"{what}: this model's ids are {table.kind}: expected some, got None")
    try:
        return table.find(ids)
    except TypeError as error:
        raise TypeError(f"{what}: this model's ids are {table.kind}: {error}") from None


def _unknown(what: str, ids: Any, known: NDArray[np.bool_]) -> tuple[str, list[Any]]:
    """Return an error message and the unknown ids."""
    given = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    unknown = list(dict.fromkeys(given[at] for at in np.flatnonzero(~known)))
    shown = ", ".join(repr(id_) for id_ in unknown[:5])
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    return f"{what}: not in the model: {shown}{more}", unknown


def check_on_unknown(on_unknown: object, *choices: str) -> None:
    """Raise ArgumentError unless `on_unknown` is one of the choices."""
    if on_unknown not in choices:
        expected = " or ".join(f'"{choice}"' for choice in choices)
        raise ArgumentError(f"on_unknown: expected {expected}, got {on_unknown!r}")

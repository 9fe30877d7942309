"""Compressed sparse rows (CSR): row r, the items of a user or a pair, is `indices[indptr[r]:indptr[r + 1]]`, sorted."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["CSR", "csr_from_pairs", "largest_of_pairs", "positions_of", "take_rows", "transposed", "transposing_order"]

CSR: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int32]]
"""`(indptr int64 [R + 1], indices int32 [nnz])`."""


def csr_from_pairs(rows: NDArray[np.int64], items: NDArray[np.int64], num_rows: int, num_items: int) -> CSR:
    """Collect pairs, int64 [n] each and within range, into rows; duplicate pairs are kept once."""
    keys = np.sort(rows * num_items + items)  # by row, then by item; much faster here than np.unique
    keys = keys[np.diff(keys, prepend=-1) > 0]
    indptr = np.zeros(num_rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(keys // num_items, minlength=num_rows), out=indptr[1:])
    return indptr, (keys % num_items).astype(np.int32)


def largest_of_pairs(
    rows: NDArray[np.int64], items: NDArray[np.int64], values: NDArray[np.float32], num_items: int
) -> NDArray[np.float32]:
    """Give the largest value of each distinct pair, float32 [nnz], in the order of `csr_from_pairs`."""
    keys = rows * num_items + items
    order = np.lexsort((values, keys))
    return np.asarray(values[order[np.diff(keys[order], append=-1) != 0]])


def take_rows(rows: CSR, which: NDArray[np.int64]) -> CSR:
    """Select the rows `which`, int64 [m], in that order."""
    taken, positions = positions_of(rows, which)
    return taken, rows[1][positions]


def positions_of(rows: CSR, which: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the rows `which`, int64 [m]: `indptr` of the selection, int64 [m + 1], and where its values are, int64."""
    indptr, _ = rows
    lengths = indptr[which + 1] - indptr[which]
    taken = np.zeros(which.size + 1, dtype=np.int64)
    np.cumsum(lengths, out=taken[1:])
    return taken, np.arange(taken[-1]) + np.repeat(indptr[which] - taken[:-1], lengths)


def transposed(rows: CSR, num_columns: int) -> CSR:
    """Transpose: each user's items become each item's users, in rows 0 to `num_columns` - 1."""
    indptr, indices = rows
    row = np.repeat(np.arange(indptr.size - 1), np.diff(indptr))
    return csr_from_pairs(indices.astype(np.int64), row, num_columns, indptr.size - 1)


def transposing_order(rows: CSR) -> NDArray[np.int64]:
    """Give where in `rows` each value of the transposed rows is, int64 [nnz]."""
    return np.argsort(rows[1], kind="stable")

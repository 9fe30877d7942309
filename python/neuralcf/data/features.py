"""Features: attributes of users or items, such as genres, as sparse rows of numbers that any model can be linear in.

`neuralcf.attributes` has the columns and how a cell is encoded.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neuralcf.attributes import (
    FEATURE_KINDS,
    SEPARATOR,
    FeatureColumn,
    FeatureKind,
    FeatureMap,
    encode,
    parse_number,
    values_of,
)
from neuralcf.data.csr import positions_of
from neuralcf.errors import ArgumentError

__all__ = ["Features", "feature_tensors", "fit_column"]

_LEAST_COUNT: Final = 2
"""A value of one entity alone teaches nothing about another."""
_MOST_VALUES: Final = 2000
_MOST_CODES: Final = 32
"""A column of no more distinct numbers holds codes, such as of occupations."""
_BLOCK_CELLS: Final = 4_000_000


@dataclass(frozen=True, eq=False)
class Features:
    """The encoded attributes of n entities, as CSR rows with weights; no row is empty.

    Raises:
        ArgumentError: arrays that do not fit together.
    """

    columns: tuple[FeatureColumn, ...]
    indptr: NDArray[np.int64]
    """int64 [n + 1]."""
    indices: NDArray[np.int32]
    """int32 [nnz]: entries of each row, below `width`; the first entry of each row is 0, the shared one."""
    weights: NDArray[np.float32]
    """float32 [nnz]."""

    def __post_init__(self) -> None:
        fits = (
            self.indptr[0] == 0
            and self.indptr[-1] == self.indices.size == self.weights.size
            and (np.diff(self.indptr) > 0).all()
            and (self.indices[self.indptr[:-1]] == 0).all()
            and (self.indices.size == 0 or 0 <= self.indices.min() <= self.indices.max() < self.width)
        )
        if not fits:
            raise ArgumentError(f"features: expected CSR rows of entries below {self.width}, each beginning with 0")

    @classmethod
    def encode(cls, columns: Sequence[FeatureColumn], rows: Sequence[Sequence[str]]) -> Features:
        """Encode n rows of cells, one cell for each column; an empty cell is a missing value.

        Raises:
            ValueError: as `FeatureColumn.entries`.
        """
        return cls(tuple(columns), *encode(columns, rows))

    def __len__(self) -> int:
        return self.indptr.size - 1

    @property
    def width(self) -> int:
        """F, the entries of a row."""
        return 1 + sum(column.width for column in self.columns)

    def take(self, which: NDArray[np.int64]) -> Features:
        """Select the rows `which`, int64 [m], in that order."""
        indptr, places = positions_of((self.indptr, self.indices), which)
        return Features(self.columns, indptr, self.indices[places], self.weights[places])

    def dense(self, rows: slice = slice(None)) -> NDArray[np.float32]:
        """Return a block of rows as a dense matrix, float32 [m, F]."""
        which = np.arange(len(self))[rows]
        lengths = np.diff(self.indptr)[which]
        matrix = np.zeros((which.size, self.width), np.float32)
        cells = slice(self.indptr[which[0]], self.indptr[which[-1] + 1]) if which.size else slice(0)
        matrix[np.repeat(np.arange(which.size), lengths), self.indices[cells]] = self.weights[cells]
        return matrix

    def times(self, weights: NDArray[Any]) -> NDArray[Any]:
        """Multiply by a map, [F, d] -> [n, d], in its dtype."""
        product = np.empty((len(self), weights.shape[1]), weights.dtype)
        step = max(1, _BLOCK_CELLS // max(1, self.width))
        for start in range(0, len(self), step):
            block = slice(start, start + step)
            product[block] = self.dense(block).astype(weights.dtype, copy=False) @ weights
        return product

    def fingerprint(self) -> str:
        """Compute the SHA-256 of the content, in hexadecimal."""
        digest = hashlib.sha256(b"neuralcf features 1")
        digest.update(json.dumps([asdict(column) for column in self.columns]).encode())
        for array in (self.indptr, self.indices, self.weights):
            digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        return digest.hexdigest()


def feature_tensors(maps: Mapping[str, FeatureMap]) -> dict[str, NDArray[Any]]:
    """Return the tensors of features.safetensors for the maps of sides `user` and `item`."""
    tensors: dict[str, NDArray[Any]] = {}
    for side, of_side in maps.items():
        columns = of_side.columns
        values = [value for column in columns for value in column.values]
        parts = {
            **_texts("columns", [column.name for column in columns]),
            **_texts("values", values),
            "kinds": np.array([FEATURE_KINDS.index(column.kind) for column in columns], np.uint8),
            "starts": np.cumsum([0, *(len(column.values) for column in columns)], dtype=np.int64),
            "scales": np.array([(column.mean, column.deviation) for column in columns], np.float32),
            "gmf": of_side.gmf,
            "mlp": of_side.mlp,
        }
        tensors |= {f"{side}s.{name}": array for name, array in parts.items() if array is not None}
    return tensors


def _texts(name: str, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return {f"{name}.bytes": np.frombuffer(b"".join(encoded), np.uint8), f"{name}.offsets": offsets}


def fit_column(name: str, kind: FeatureKind | None, texts: Sequence[str]) -> tuple[FeatureColumn | None, int]:
    """Learn the values of a column.

    A value counts if it occurs for at least two entities, and is among the 2,000 most frequent ones. A kind that is not
    given is detected: `multi` if a cell has a `|`, `number` if all cells are numbers, more than 32 distinct ones,
    otherwise `category`.

    Args:
        name: of the column.
        kind: its kind, or None to detect it.
        texts: the cells; empty ones are missing values.

    Returns:
        The column, or None if nothing can be learned from it; how many of its values are left out.

    Raises:
        ValueError: text in a `number` column that is not a finite number.
    """
    given = [text for text in texts if text]
    kind = kind or _detect(given)
    if kind == "number":
        numbers = np.array([parse_number(text) for text in given])
        # Rounded to float32, as it is stored.
        mean, deviation = (float(np.float32(f(numbers))) if numbers.size else 0.0 for f in (np.mean, np.std))
        if not (deviation > 0 and np.isfinite([mean, deviation]).all()):
            return None, len(set(given))
        return FeatureColumn(name, kind, mean=mean, deviation=deviation), 0
    counts = Counter(value for text in given for value in values_of(text, kind))
    frequent = sorted(counts, key=lambda value: (-counts[value], value))[:_MOST_VALUES]
    kept = tuple(sorted(value for value in frequent if counts[value] >= _LEAST_COUNT))
    return (FeatureColumn(name, kind, kept) if kept else None), len(counts) - len(kept)


def _detect(texts: Sequence[str]) -> FeatureKind:
    if any(SEPARATOR in text for text in texts):
        return "multi"
    try:
        distinct = {parse_number(text) for text in texts}
    except ValueError:
        return "category"
    return "number" if len(distinct) > _MOST_CODES else "category"

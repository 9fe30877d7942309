"""Attributes of users or items, such as genres: how cells of a table become rows of numbers, and rows embeddings.

A column of attributes is of one of three kinds. The row a of an entity has an entry 1 that all entities share, and
after it, for each column,

    category   one value            a_v = 1 for the value v
    multi      several values       a_v = 1 for each of its known values
    number     x                    a   = (x - mean) / deviation

so that with a map W [F, d] the product a W is the sum of the embeddings of an entity's values: a western that is a
comedy is all of both. A missing or unknown value adds nothing: an entity without attributes has only the shared entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import read_features

__all__ = [
    "FEATURE_KINDS",
    "SEPARATOR",
    "FeatureColumn",
    "FeatureKind",
    "FeatureMap",
    "encode",
    "parse_number",
    "values_of",
]

FeatureKind: TypeAlias = Literal["category", "multi", "number"]
FEATURE_KINDS: Final[tuple[FeatureKind, ...]] = ("category", "multi", "number")
SEPARATOR: Final = "|"
"""Separates the values of a multi-valued column."""

_ROWS_TOGETHER: Final = 1024


@dataclass(frozen=True)
class FeatureColumn:
    """A column of attributes, and what was learned of its values."""

    name: str
    kind: FeatureKind
    values: tuple[str, ...] = ()
    """The known values of a `category` or `multi` column, sorted."""
    mean: float = 0.0
    """Mean of a `number` column."""
    deviation: float = 1.0
    """Standard deviation of a `number` column, above 0."""

    @property
    def width(self) -> int:
        """How many entries of a row are this column's."""
        return 1 if self.kind == "number" else len(self.values)

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each known value."""
        return {value: place for place, value in enumerate(self.values)}

    def entries(self, text: str) -> list[tuple[int, float]]:
        """Return the places and weights of a cell's values; none if it is empty or its values are unknown.

        Raises:
            ValueError: text in a `number` column that is not a finite number.
        """
        if self.kind == "number":
            return [(0, (parse_number(text) - self.mean) / self.deviation)] if text else []
        return [(self.places[value], 1.0) for value in values_of(text, self.kind) if value in self.places]


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """How the features of one side, users or items, become its embeddings in a model: a W."""

    columns: tuple[FeatureColumn, ...]
    gmf: NDArray[np.float32] | None
    """float32 [F, G], or None for a model without GMF embeddings."""
    mlp: NDArray[np.float32] | None
    """float32 [F, Mu] or [F, Mi], or None for a model without MLP embeddings."""

    @classmethod
    def read(cls, path: str | PathLike[str], side: Literal["user", "item"]) -> tuple[FeatureMap | None, str]:
        """Read the map of a side from a model directory: None if it has none; and the id of the model.

        Raises:
            ModelFormatError, OSError: the model cannot be read.
        """
        model_id, sides = read_features(path) or ("", {})
        if side not in sides:
            return None, model_id
        described, gmf, mlp = sides[side]
        return cls(
            tuple(FeatureColumn(name, kind, tuple(values), *scale) for name, kind, values, *scale in described),
            gmf,
            mlp,
        ), model_id

    def embed(
        self, indptr: NDArray[np.int64], indices: NDArray[np.int32], weights: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
        """Return the GMF and the MLP embeddings, a W, of encoded rows, float32 `[n, G]` and `[n, M]`."""
        return (
            None if self.gmf is None else _times(indptr, indices, weights, self.gmf),
            None if self.mlp is None else _times(indptr, indices, weights, self.mlp),
        )


def encode(
    columns: Sequence[FeatureColumn], rows: Iterable[Sequence[str]]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Encode n rows of cells, one cell for each column; an empty cell is a missing value.

    Returns:
        The rows a, as CSR: `indptr` int64 `[n + 1]`, `indices` int32 `[nnz]` and weights float32 `[nnz]`.

    Raises:
        ValueError: as `FeatureColumn.entries`.
    """
    starts = np.cumsum([1, *(column.width for column in columns)])
    indptr, indices, weights = [0], [], []
    for row in rows:
        indices.append(0)
        weights.append(1.0)
        for column, start, text in zip(columns, starts.tolist(), row, strict=False):
            for place, weight in column.entries(text):
                indices.append(start + place)
                weights.append(weight)
        indptr.append(len(indices))
    return np.array(indptr, np.int64), np.array(indices, np.int32), np.array(weights, np.float32)


def values_of(text: str, kind: FeatureKind) -> list[str]:
    """Return the distinct values of a cell of a `category` or `multi` column, in order."""
    if kind == "category":
        return [text] if text else []
    return list(dict.fromkeys(value for part in text.split(SEPARATOR) if (value := part.strip())))


def parse_number(text: str) -> float:
    """Parse a finite number.

    Raises:
        ValueError: anything else.
    """
    number = float(text)
    if "_" in text or not np.isfinite(number):
        raise ValueError(f"expected a finite number, got {text!r}")
    return number


def _times(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], weights: NDArray[np.float32], map_: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Multiply rows, none of them empty, by a map, `[F, d]` -> `[n, d]`, in float64."""
    product = np.empty((indptr.size - 1, map_.shape[1]), np.float32)
    for start in range(0, len(product), _ROWS_TOGETHER):
        bounds = indptr[start : start + _ROWS_TOGETHER + 1]
        cells = slice(bounds[0], bounds[-1])
        terms = weights[cells, None].astype(np.float64) * map_[indices[cells]]
        product[start : start + _ROWS_TOGETHER] = np.add.reduceat(terms, bounds[:-1] - bounds[0], axis=0)
    return product

"""The vectors of new and changed items: given, or made of their attributes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neuralcf.attributes import SEPARATOR, FeatureMap, encode
from neuralcf.errors import ArgumentError
from neuralcf.results import ItemVectors

__all__ = ["item_vectors"]


def item_vectors(vectors: ItemVectors | None, attributes: Any, features: FeatureMap | None, items: int) -> ItemVectors:
    """Return the vectors of `items` items; of the arguments `vectors` and `attributes` one is None."""
    if (vectors is None) == (attributes is None):
        raise TypeError("expected either vectors or attributes")
    if vectors is None:
        return _of_attributes(attributes, features, items)
    if isinstance(vectors, ItemVectors):  # the core checks all else
        for name, part in zip(vectors._fields, vectors, strict=True):
            if part is not None and len(part) != items:
                raise ArgumentError(f"vectors.{name}: expected rows for {items} items, got {len(part)}")
    return vectors


def _of_attributes(attributes: Any, features: FeatureMap | None, items: int) -> ItemVectors:
    if features is None:
        raise ArgumentError("attributes: the model was trained without features of items; pass vectors")
    known = [column.name for column in features.columns]
    cells = [[""] * items for _ in known]
    for name, given in _columns(attributes).items():
        if name not in known:
            raise ArgumentError(f"attributes: the model has no column {name!r}; known: {', '.join(known)}")
        column = list(given)
        if len(column) != items:
            raise ArgumentError(f"attributes[{name!r}]: expected a value for each of {items} items, got {len(column)}")
        cells[known.index(name)] = [_cell(value) for value in column]
    try:
        return ItemVectors(*features.embed(*encode(features.columns, zip(*cells, strict=True))))
    except ValueError as error:
        raise ArgumentError(f"attributes: {error}") from None


def _columns(attributes: Any) -> Mapping[Any, Any]:
    """Return columns by name, from a dictionary or a table of pandas, polars or Arrow."""
    if isinstance(attributes, Mapping):
        return attributes
    if hasattr(attributes, "column_names"):
        return {name: attributes.column(name).to_pylist() for name in attributes.column_names}
    if hasattr(attributes, "columns"):
        return {name: attributes[name].to_list() for name in attributes.columns}
    got = type(attributes).__name__
    raise TypeError(f"attributes: expected a dictionary of columns or a table, got {got}")


def _cell(value: Any) -> str:
    """Return a value as the text of a cell: empty for none, several joined by `|`."""
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence | set | frozenset | np.ndarray):
        return SEPARATOR.join(map(_cell, value))
    return str(value)

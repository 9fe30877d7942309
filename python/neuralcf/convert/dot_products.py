"""The other way: a GMF as vectors whose inner product is its score, for vector databases and approximate indexes."""

from __future__ import annotations

from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import Ids as StoredIds
from neuralcf._core import read_weights
from neuralcf.convert.opening import is_path
from neuralcf.convert.state_dict import numpy_of
from neuralcf.errors import ArgumentError

__all__ = ["DotProduct", "to_dot_product"]


class DotProduct(NamedTuple):
    """Vectors whose inner product, plus `bias`, is the logit of a GMF."""

    user_vectors: NDArray[np.float32]
    """float32 `[U, G]`: queries."""
    item_vectors: NDArray[np.float32]
    """float32 `[I, G]`: what an index holds."""
    user_ids: NDArray[np.int64] | list[str]
    """int64 `[U]` or `U` str, in the order of the vectors."""
    item_ids: NDArray[np.int64] | list[str]
    """int64 `[I]` or `I` str, in the order of the vectors."""
    bias: float
    """Added to every inner product; no ranking depends on it."""


def to_dot_product(model: str | PathLike[str] | Any) -> DotProduct:
    """Give the vectors of a GMF: `p_u * output.weight`, rounded once as the engine does, and `q_i`.

    Args:
        model: a model directory or file; a `GMF`, or any module with the tensor names of the model format; or its
            tensors by name.

    Returns:
        The vectors with their ids; the numbers of the rows if the model was saved without ids.

    Raises:
        ArgumentError: an MLP or NeuMF, whose score is no inner product.
        ModelFormatError: the model is not valid.
        OSError: the model cannot be read.
    """
    stored: tuple[StoredIds | None, StoredIds | None] = None, None
    if is_path(model):
        _, tensors, _, *ids = read_weights(model)
        stored, where = (ids[0], ids[1]), fspath(model)
    else:
        named: Any = model.state_dict() if hasattr(model, "state_dict") else model
        tensors = {name: numpy_of(tensor) for name, tensor in named.items()}
        where = "model"
    names = {f"gmf.{side}_embedding.weight" for side in ("user", "item")} | {"output.weight", "output.bias"}
    if tensors.keys() != names:
        kind = "neumf" if names < tensors.keys() else "mlp" if "output.weight" in tensors else "other tensors"
        raise ArgumentError(f"{where}: expected a gmf, whose score is a dot product, got {kind}")
    users = tensors["gmf.user_embedding.weight"] * tensors["output.weight"]
    items = tensors["gmf.item_embedding.weight"]
    listed = [
        np.arange(count) if of is None else of.take(np.arange(count))
        for of, count in zip(stored, (len(users), len(items)), strict=True)
    ]
    return DotProduct(users, items, listed[0], listed[1], float(tensors["output.bias"][0]))

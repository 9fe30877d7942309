"""Models of LightFM, with the features of users and items folded into one vector each.

q_i = sum of x[i, f] e_f over the features f,   b_i = sum of x[i, f] b_f,   score = p_u . q_i + b_u + b_i
"""

from __future__ import annotations

from os import PathLike, fspath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralcf.convert.converted import Converted, Ids, dot_product, float_array
from neuralcf.convert.opening import is_path, read_arrays, read_csr, unpickle
from neuralcf.errors import ArgumentError, argument
from neuralcf.format.checks import Interactions

__all__ = ["from_lightfm"]

_ARRAYS = ("user_embeddings", "user_biases", "item_embeddings", "item_biases")


def from_lightfm(
    source: str | PathLike[str] | Any,
    *,
    user_features: Any | None = None,
    item_features: Any | None = None,
    ids: Ids | None = None,
    seen: Interactions | None = None,
    trust: bool = False,
) -> Converted:
    """Convert a LightFM model.

    Args:
        source: the model; a .npz file with its arrays user_embeddings, user_biases, item_embeddings and item_biases,
            since LightFM has no format of its own; or a pickle of it, which needs `trust`.
        user_features: what the model was fitted with: scipy CSR `[U, features]`, or a file by scipy.sparse.save_npz;
            None if it was fitted without, so that each user is a feature.
        item_features: likewise, `[I, features]`.
        ids: the external ids; the numbers of the rows if None.
        seen: the interactions known at training time.
        trust: unpickle the source.

    Raises:
        ArgumentError: not a fitted model, features that do not fit it, or a pickle without `trust`.
        ImportError: a pickle, and lightfm is not installed.
        OSError: a file cannot be read.
    """
    model: Any = source
    if is_path(source):
        is_arrays = fspath(source).endswith(".npz")
        model = read_arrays(source) if is_arrays else unpickle(source, trust=trust, library="LightFM")
    arrays = {name: model.get(name) if isinstance(model, dict) else getattr(model, name, None) for name in _ARRAYS}
    if missing := [name for name, array in arrays.items() if array is None]:
        where = f"{fspath(source)}: " if is_path(source) else "source: "
        raise ArgumentError(f"{where}expected a fitted LightFM model, got one without {', '.join(missing)}")
    sides: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    for side, features in (("user", user_features), ("item", item_features)):
        embeddings = float_array(f"{side}_embeddings", arrays[f"{side}_embeddings"], dimensions=2)
        biases = float_array(f"{side}_biases", arrays[f"{side}_biases"]).reshape(-1)
        sides[side] = embeddings, biases
        if features is not None:
            folded = _fold(features, np.column_stack([embeddings, biases]), f"{side}_features")
            sides[side] = folded[:, :-1], folded[:, -1]
    return dot_product(
        "LightFM",
        "LightFM",
        ("user_embeddings", sides["user"][0]),
        ("item_embeddings", sides["item"][0]),
        user_biases=("user_biases", sides["user"][1]),
        item_biases=("item_biases", sides["item"][1]),
        ids=ids,
        seen=seen,
    )


def _fold(features: Any, table: NDArray[np.float32], name: str) -> NDArray[np.float64]:
    """Sum the rows of a table by the features of each user or item: `[n, width]`."""
    if is_path(features):
        indptr, indices, values, shape = read_csr(features, name)
    elif getattr(features, "format", None) == "csr":
        indptr, indices, values, shape = features.indptr, features.indices, features.data, features.shape
    else:
        got = getattr(features, "format", type(features).__name__)
        raise TypeError(f"{name}: expected scipy CSR, got {got}")
    if shape[1] != len(table):
        raise ArgumentError(f"{argument(name)}: expected {len(table)} columns, one for each feature, got {shape[1]}")
    fits = len(indptr) == shape[0] + 1 and indptr[0] == 0 and indptr[-1] == len(indices) == len(values)
    if not fits or (np.diff(indptr) < 0).any() or (len(indices) and not 0 <= indices.min() <= indices.max() < shape[1]):
        raise ArgumentError(f"{argument(name)}: expected a valid CSR matrix of shape {tuple(shape)}")
    folded = np.zeros((shape[0], table.shape[1]), np.float64)
    rows = np.repeat(np.arange(shape[0]), np.diff(indptr))
    for column in range(table.shape[1]):
        terms = values.astype(np.float64) * table[indices, column]
        folded[:, column] = np.bincount(rows, terms, minlength=shape[0])
    return folded

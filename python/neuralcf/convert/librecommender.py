"""Models of LibRecommender whose score is a dot product: SVD, SVD++, ALS, BPR, LightGCN, NGCF, YouTubeRetrieval, ...

Their embeddings hold biases and the propagation over graphs already. The last row, which stands for unknown users or
items, is left out.
"""

from __future__ import annotations

from os import PathLike, fspath
from typing import Any

import numpy as np

from neuralcf.convert.converted import Converted, Ids, dot_product, library_ids
from neuralcf.convert.opening import is_path, read_arrays
from neuralcf.errors import ArgumentError
from neuralcf.format.checks import IdList, Interactions

__all__ = ["from_librecommender"]


def from_librecommender(
    source: str | PathLike[str] | Any, *, ids: Ids | None = None, seen: Interactions | None = None
) -> Converted:
    """Convert an embedding model of LibRecommender.

    Args:
        source: the fitted model, or the .npz file that `model.save(..., inference_only=True)` wrote.
        ids: the external ids in the order of LibRecommender's inner ids, as in `data_info.id2user` and `id2item`;
            those of a model in memory, and the inner ids of a file, if None.
        seen: the interactions known at training time; those of a model in memory if None.

    Raises:
        ArgumentError: another model, one that was not fitted, or ids that are neither all integers nor all text.
        OSError: the file cannot be read.
    """
    if is_path(source):
        arrays = read_arrays(source)
        users, items = arrays.get("user_embed"), arrays.get("item_embed")
        where, name = fspath(source), "embeddings"
    else:
        users, items = getattr(source, "user_embeds_np", None), getattr(source, "item_embeds_np", None)
        where, name = "source", type(source).__name__
        data = getattr(source, "data_info", None)
        if data is not None and users is not None:
            ids = ids or (_in_order(data, "id2user"), _in_order(data, "id2item"))
            seen = _consumed(data) if seen is None else seen
    if users is None or items is None:
        raise ArgumentError(
            f"{where}: expected user and item embeddings of LibRecommender, saved with inference_only=True, got none"
        )
    if min(len(users), len(items)) < 2:
        raise ArgumentError(f"{where}: expected at least one user and item before the row of unknown ones")
    users, items = (
        (array[:, None] if array.ndim == 1 else array)[:-1] for array in (np.asarray(users), np.asarray(items))
    )
    return dot_product("LibRecommender", name, ("user_embed", users), ("item_embed", items), ids=ids, seen=seen)


def _in_order(data: Any, name: str) -> IdList:
    names: dict[int, Any] = getattr(data, name)
    return library_ids((names[inner] for inner in range(len(names))), f"source: {name}")


def _consumed(data: Any) -> Interactions:
    rows = [sorted(set(data.user_consumed.get(user, ()))) for user in range(len(data.id2user))]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return indptr, np.array([item for row in rows for item in row], np.int64)

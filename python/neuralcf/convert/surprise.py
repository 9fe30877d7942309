"""Models of Surprise: SVD, SVD++ and NMF. Scores are ratings that are not clipped to the scale.

SVD     mu + b_u + b_i + q_i . p_u                                      without mu and biases if `biased=False`
SVD++   mu + b_u + b_i + q_i . (p_u + sum of y_j over the items j of u / sqrt(how many))
NMF     q_i . p_u                                                       with mu and biases if `biased=True`
"""

from __future__ import annotations

from os import PathLike, fspath
from typing import Any

import numpy as np

from neuralcf.convert.converted import Converted, Ids, dot_product, library_ids
from neuralcf.convert.opening import is_path, unpickle
from neuralcf.errors import ArgumentError
from neuralcf.format.checks import IdList, Interactions

__all__ = ["from_surprise"]


def from_surprise(
    source: str | PathLike[str] | Any,
    *,
    ids: Ids | None = None,
    seen: Interactions | None = None,
    trust: bool = False,
) -> Converted:
    """Convert SVD, SVD++ or NMF of Surprise.

    Args:
        source: the fitted algorithm, or the file that `surprise.dump.dump` wrote, which is a pickle and needs `trust`.
        ids: the external ids in the order of Surprise's inner ids; its raw ids if None.
        seen: the interactions known at training time; those of its training set if None.
        trust: unpickle the source.

    Raises:
        ArgumentError: another algorithm, one that was not fitted, raw ids that are neither all integers nor all text,
            or a pickle without `trust`.
        ImportError: a pickle, and scikit-surprise is not installed.
        OSError: the file cannot be read.
    """
    algorithm: Any = source
    if is_path(source):
        algorithm = unpickle(source, trust=trust, library="surprise.dump")
        if isinstance(algorithm, dict):
            algorithm = algorithm.get("algo")
    where = fspath(source) if is_path(source) else "source"
    name = type(algorithm).__name__
    trainset = getattr(algorithm, "trainset", None)
    if name not in ("SVD", "SVDpp", "NMF") or trainset is None or not hasattr(algorithm, "pu"):
        raise ArgumentError(f"{where}: expected a fitted SVD, SVDpp or NMF of Surprise, got {name}")
    users = np.array(algorithm.pu, np.float64)
    if name == "SVDpp":
        for user, ratings in trainset.ur.items():
            users[user] += algorithm.yj[[item for item, _ in ratings]].sum(axis=0) / np.sqrt(len(ratings))
    biased = name == "SVDpp" or algorithm.biased
    return dot_product(
        "Surprise",
        name,
        ("pu", users),
        ("qi", algorithm.qi),
        user_biases=("bu", algorithm.bu) if biased else None,
        item_biases=("bi", algorithm.bi) if biased else None,
        bias=float(trainset.global_mean) if biased else 0.0,
        ids=ids or (_raw_ids(trainset, "user", where), _raw_ids(trainset, "item", where)),
        seen=_rated(trainset) if seen is None else seen,
    )


def _raw_ids(trainset: Any, side: str, where: str) -> IdList:
    """Return the raw ids in the order of the inner ids."""
    count = trainset.n_users if side == "user" else trainset.n_items
    to_raw = trainset.to_raw_uid if side == "user" else trainset.to_raw_iid
    return library_ids(map(to_raw, range(count)), f"{where}: raw {side} ids")


def _rated(trainset: Any) -> Interactions:
    rows = [sorted({item for item, _ in trainset.ur[user]}) for user in range(trainset.n_users)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return indptr, np.array([item for row in rows for item in row], np.int64)

"""Ranking metrics for one held-out item a user.

A rank counts the items that come before the held-out one: 0 is the best. With n ranks r:

    HR@k   = (1 / n) sum [r < k]                         the held-out item is among the first k
    NDCG@k = (1 / n) sum [r < k] / log2(r + 2)           ... and early ones count more

He et al., WWW 2017, section 4.1; NDCG is that of Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR
techniques", 2002, whose ideal is 1 where a single item is relevant.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralcf.errors import ArgumentError

__all__ = ["hit_ratio", "ndcg"]


def hit_ratio(ranks: NDArray[np.integer[Any]], k: int = 10) -> float:
    """Compute HR@k of 0-based ranks, int [n].

    Raises:
        ArgumentError: no ranks, a negative rank, or k below 1.
    """
    ranks = _checked(ranks, k)
    return float(np.mean(ranks < k))


def ndcg(ranks: NDArray[np.integer[Any]], k: int = 10) -> float:
    """Compute NDCG@k of 0-based ranks, int [n].

    Raises:
        ArgumentError: no ranks, a negative rank, or k below 1.
    """
    ranks = _checked(ranks, k)
    return float(np.mean(np.where(ranks < k, 1 / np.log2(ranks + 2.0), 0.0)))


def _checked(ranks: NDArray[np.integer[Any]], k: int) -> NDArray[np.integer[Any]]:
    ranks = np.asarray(ranks)
    if k < 1:
        raise ArgumentError(f"k: expected an integer >= 1, got {k!r}")
    if ranks.ndim != 1 or ranks.size == 0 or ranks.dtype.kind not in "iu":
        raise ArgumentError(f"ranks: expected integers [n], n >= 1, got {ranks.dtype} {list(ranks.shape)}")
    if ranks.min() < 0:
        raise ArgumentError(f"ranks: expected 0-based ranks, got {ranks.min()}")
    return ranks

"""Ranking metrics. Each returns one value per list, as means, intervals and paired tests need.

A list is one ranking, usually of one user, with a set R of held-out items. The rank r(i) of a held-out item is the
number of items before it: 0 is the best. At a cut-off k:

    HR@k      [min r(i) < k]                             whether any held-out item is among the first k
    Recall@k  |{i in R : r(i) < k}| / |R|                the share of held-out items among the first k
    MRR@k     [min r(i) < k] / (min r(i) + 1)            how early the first of them comes
    NDCG@k    DCG / ideal DCG,  DCG   = sum over i in R with r(i) < k of 1 / log2(r(i) + 2)
                                ideal = sum over j < min(|R|, k)     of 1 / log2(j + 2)

    Precision@k  |{i in R : r(i) < k}| / k               the share of held-out items of the first k
    MAP@k     1 / |R| sum over i in R with r(i) < k of |{j in R : r(j) <= r(i)}| / (r(i) + 1)
                                                         the mean over held-out items of the precision down to them
    AUC       mean over i in R of the share of the other ranked items, those not in R, that come after i

Where held-out items have gains g(i), such as weights, NDCG has g(i) in place of 1 in DCG, and in the ideal the largest
of them, descending: graded relevance.

With a single held-out item the ideal is 1, and HR and NDCG are those of He et al., WWW 2017, section 4.1. NDCG is from
Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002, with binary gains unless others
are given; MRR from Voorhees, "The TREC-8 question answering track report", 1999, cut off at k. MAP from Manning,
Raghavan and Schütze, "Introduction to information retrieval", 2008, section 8.4, cut off at k; AUC from Rendle et al.,
"BPR", UAI 2009.

Two metrics of the first k recommended items that do not depend on the held-out items:

    Coverage@k  share of the catalogue that is recommended to at least one user (Ge et al., "Beyond accuracy", RecSys
                2010)
    Novelty@k   mean of log2(U / n(i)) over a list's items, in bits, where n(i) of the U training users have item i
                (Zhou et al., "Solving the apparent diversity-accuracy dilemma", PNAS 2010); n(i) is at least 1
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralcf.errors import ArgumentError

__all__ = [
    "auc",
    "average_precision",
    "coverage",
    "hit_ratio",
    "ndcg",
    "novelty",
    "precision",
    "recall",
    "reciprocal_rank",
]

Ranks = NDArray[np.integer[Any]]
Values = NDArray[np.float64]


def hit_ratio(ranks: Ranks, k: int = 10, lists: Ranks | None = None) -> Values:
    """Compute HR@k of each list.

    Args:
        ranks: int [n], 0-based ranks of held-out items.
        k: the cut-off.
        lists: int [n], the list of each item, every one of 0 .. L - 1 at least once; None if each item has its own.

    Returns:
        float64 [L].

    Raises:
        ArgumentError: no ranks, a negative rank, a list without held-out items, lengths that differ, or k below 1.
    """
    return (_first(*_checked(ranks, k, lists)) < k).astype(np.float64)


def recall(ranks: Ranks, k: int = 10, lists: Ranks | None = None) -> Values:
    """Compute Recall@k of each list; arguments, result and errors as for `hit_ratio`."""
    ranks, lists = _checked(ranks, k, lists)
    return np.bincount(lists, weights=ranks < k) / np.bincount(lists)


def reciprocal_rank(ranks: Ranks, k: int = 10, lists: Ranks | None = None) -> Values:
    """Compute MRR@k of each list; arguments, result and errors as for `hit_ratio`."""
    first = _first(*_checked(ranks, k, lists))
    return np.where(first < k, 1 / (first + 1.0), 0.0)


def ndcg(
    ranks: Ranks, k: int = 10, lists: Ranks | None = None, gains: NDArray[np.floating[Any]] | None = None
) -> Values:
    """Compute NDCG@k of each list; other arguments, result and errors as for `hit_ratio`.

    Args:
        ranks: as for `hit_ratio`.
        k: as for `hit_ratio`.
        lists: as for `hit_ratio`.
        gains: float [n], above 0, what each held-out item is worth; None if all are worth the same.
    """
    ranks, lists = _checked(ranks, k, lists)
    if gains is not None:
        return _graded_ndcg(ranks, k, lists, np.asarray(gains, np.float64))
    found = np.bincount(lists, weights=np.where(ranks < k, 1 / np.log2(ranks + 2.0), 0.0))
    held_out = np.minimum(np.bincount(lists), k)
    ideal = np.cumsum(1 / np.log2(np.arange(held_out.max()) + 2.0))
    return np.asarray(found / ideal[held_out - 1], dtype=np.float64)


def _graded_ndcg(ranks: Ranks, k: int, lists: Ranks, gains: Values) -> Values:
    if gains.shape != ranks.shape or not (gains > 0).all():
        raise ArgumentError(f"gains: expected numbers above 0, {list(ranks.shape)}, got others or {list(gains.shape)}")
    found = np.bincount(lists, weights=np.where(ranks < k, gains / np.log2(ranks + 2.0), 0.0))
    order = np.lexsort((-gains, lists))
    starts = np.concatenate([[0], np.cumsum(np.bincount(lists))])
    place = np.arange(order.size) - starts[lists[order]]
    ideal = np.bincount(lists[order], weights=np.where(place < k, gains[order] / np.log2(place + 2.0), 0.0))
    return np.asarray(found / ideal, dtype=np.float64)


def precision(ranks: Ranks, k: int = 10, lists: Ranks | None = None) -> Values:
    """Compute Precision@k of each list; arguments, result and errors as for `hit_ratio`."""
    ranks, lists = _checked(ranks, k, lists)
    return np.bincount(lists, weights=ranks < k) / k


def average_precision(ranks: Ranks, k: int = 10, lists: Ranks | None = None) -> Values:
    """Compute the average precision of each list, whose mean is MAP@k; arguments and so on as for `hit_ratio`."""
    ranks, lists = _checked(ranks, k, lists)
    gains = np.where(ranks < k, _not_after(ranks, lists) / (ranks + 1.0), 0.0)
    return np.bincount(lists, weights=gains) / np.bincount(lists)


def auc(ranks: Ranks, sizes: Ranks, lists: Ranks | None = None) -> Values:
    """Compute the AUC of each list; 0.5 for one of held-out items alone.

    Args:
        ranks: int [n], 0-based ranks of held-out items.
        sizes: int [L], the number of ranked items of each list, held-out ones included.
        lists: int [n], as for `hit_ratio`.

    Returns:
        float64 [L].

    Raises:
        ArgumentError: as `hit_ratio`.
    """
    ranks, lists = _checked(ranks, 1, lists)
    held_out = np.bincount(lists)
    others = np.asarray(sizes) - held_out
    before = ranks - (_not_after(ranks, lists) - 1)  # other items before each one, without the held-out ones
    shares = np.where(others[lists] > 0, 1 - before / np.maximum(others[lists], 1), 0.5)
    return np.bincount(lists, weights=shares) / held_out


def _not_after(ranks: Ranks, lists: Ranks) -> NDArray[np.int64]:
    """Count for each held-out item those of its list that do not come after it, itself included."""
    order = np.lexsort((ranks, lists))
    starts = np.concatenate([[0], np.cumsum(np.bincount(lists))])
    same = np.flatnonzero(np.diff(lists[order]) | np.diff(ranks[order]))  # the last of each run of equal ranks
    ends = np.append(same, order.size - 1)
    last = ends[np.searchsorted(ends, np.arange(order.size))]
    counts = np.empty(order.size, np.int64)
    counts[order] = last - starts[lists[order]] + 1
    return counts


def coverage(recommended: NDArray[np.integer[Any]], num_items: int) -> float:
    """Compute the share of the catalogue among the recommended items, int [m, k]; -1 is padding."""
    return float(np.unique(recommended[recommended >= 0]).size / num_items)


def novelty(recommended: NDArray[np.integer[Any]], popularity: NDArray[np.integer[Any]], num_users: int) -> Values:
    """Compute the novelty of each list in bits.

    Args:
        recommended: int [m, k] items; -1 is padding. An empty list has novelty 0.
        popularity: int [I], number of training users who have each item.
        num_users: U, number of training users.

    Returns:
        float64 [m].
    """
    surprise = np.log2(num_users / np.maximum(popularity, 1))
    real = recommended >= 0
    total = np.where(real, surprise[recommended], 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(real.sum(axis=1), 1), dtype=np.float64)


def _first(ranks: Ranks, lists: Ranks) -> NDArray[np.int64]:
    """Return the best rank of each list."""
    first = np.full(lists.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, lists, ranks)
    return first


def _checked(ranks: Ranks, k: int, lists: Ranks | None) -> tuple[Ranks, Ranks]:
    ranks = np.asarray(ranks)
    if k < 1:
        raise ArgumentError(f"k: expected an integer >= 1, got {k!r}")
    if ranks.ndim != 1 or ranks.size == 0 or ranks.dtype.kind not in "iu":
        raise ArgumentError(f"ranks: expected integers [n], n >= 1, got {ranks.dtype} {list(ranks.shape)}")
    if ranks.min() < 0:
        raise ArgumentError(f"ranks: expected 0-based ranks, got {ranks.min()}")
    if lists is None:
        return ranks, np.arange(ranks.size)
    lists = np.asarray(lists)
    if lists.shape != ranks.shape or lists.dtype.kind not in "iu":
        raise ArgumentError(f"lists: expected integers {list(ranks.shape)}, got {lists.dtype} {list(lists.shape)}")
    if lists.min() < 0 or np.bincount(lists).min() == 0:
        raise ArgumentError("lists: expected each of 0 .. L - 1 at least once, got a gap or a negative number")
    return ranks, lists

"""How well a model ranks held-out items, by two protocols.

Candidates: each held-out item among some items its user does not know, 99 of them drawn at random in He et al., WWW
2017, section 4.1. Cheap and common, and dependent on the draw. Full: among the whole catalogue but the user's training
items. Krichene and Rendle, "On sampled metrics for item recommendation", KDD 2020, show that the two may order models
differently.

A rank counts the other items that score at least as high: ties count against the held-out item, so that a model that
scores everything alike gains nothing. Popularity is ranked by the same rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import Scorer
from neuralcf.data.interactions import Dataset
from neuralcf.data.negatives import draw_candidates
from neuralcf.data.rows import Rows, take_rows
from neuralcf.data.split import Split
from neuralcf.metrics import hit_ratio, ndcg

__all__ = ["Evaluation", "draw_candidates", "evaluate_candidates", "evaluate_full", "popularity_ranks"]


@dataclass(frozen=True)
class Evaluation:
    """Metrics, and how they were measured."""

    hr: float
    """HR@k."""

    ndcg: float
    """NDCG@k."""

    k: int
    """The cut-off."""

    users: int
    """How many held-out pairs were ranked, one a user."""

    protocol: str
    """What each of them was ranked against, in words."""

    @classmethod
    def from_ranks(cls, ranks: NDArray[np.int64], k: int, protocol: str) -> Evaluation:
        """Compute the metrics of 0-based ranks, int64 [m]."""
        return cls(hit_ratio(ranks, k), ndcg(ranks, k), k, len(ranks), protocol)


def evaluate_candidates(
    scorer: Scorer,
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    candidates_indptr: NDArray[np.int64],
    candidates_indices: NDArray[np.integer[Any]],
    k: int = 10,
) -> Evaluation:
    """Rank each held-out item among the candidates of its row.

    Args:
        scorer: the model.
        users: int64 [m].
        items: int64 [m], the held-out items.
        candidates_indptr: int64 [m + 1].
        candidates_indices: int [nnz], items in any order; an item twice in a row counts once, and the held-out item
        itself,
            should it be there, does not count.
        k: the cut-off.

    Raises:
        OutOfRangeError, ArgumentError, TypeError: indices that do not fit the model or one another.
    """
    ranks = scorer.rank_of(users, items, allow=(candidates_indptr, candidates_indices))
    return Evaluation.from_ranks(ranks, k, _candidates_protocol(candidates_indptr))


def evaluate_full(scorer: Scorer, split: Split, k: int = 10) -> Evaluation:
    """Rank each held-out item among the whole catalogue without the user's training items.

    Raises:
        OutOfRangeError: a split with users or items outside the model.
    """
    ranks = scorer.rank_of(split.users, split.items, exclude=take_rows(split.train.known(), split.users))
    return Evaluation.from_ranks(ranks, k, FULL_PROTOCOL)


FULL_PROTOCOL = "the whole catalogue without the user's training items; ties count against"


def popularity_ranks(
    train: Dataset, users: NDArray[np.int64], items: NDArray[np.int64], *, candidates: Rows | None = None
) -> NDArray[np.int64]:
    """Rank held-out items by how many training users have them, the same for everybody: the least a model must beat.

    Args:
        train: the training part.
        users: int64 [m].
        items: int64 [m], the held-out items.
        candidates: rows [m] as for `evaluate_candidates`; None for the full protocol.

    Returns:
        int64 [m], 0-based: other items that are at least as popular.
    """
    indptr, indices = train.known()
    popularity = np.bincount(indices, minlength=train.num_items)  # [I]
    own = popularity[items]
    if candidates is not None:
        return _count_at_least(popularity, candidates, items)
    everywhere = train.num_items - np.searchsorted(np.sort(popularity), own)  # itself among them
    return everywhere - 1 - _count_at_least(popularity, take_rows((indptr, indices), users), items)


def _count_at_least(popularity: NDArray[np.int64], rows: Rows, items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count in each row the distinct items, other than `items[row]`, that are at least as popular as that."""
    indptr, indices = rows
    row = np.repeat(np.arange(items.size), np.diff(indptr))
    keys = np.unique(row * popularity.size + indices)
    row, other = keys // popularity.size, keys % popularity.size
    counts = (popularity[other] >= popularity[items[row]]) & (other != items[row])
    return np.bincount(row[counts], minlength=items.size)


def _candidates_protocol(indptr: NDArray[np.int64]) -> str:
    lengths = np.diff(indptr)
    least, most = int(lengths.min()), int(lengths.max())
    count = str(most) if least == most else f"{least} to {most}"
    return f"1 + {count} candidates a user; ties count against"

"""Base class of the baselines: scores of all items, and the ranks and top-k lists that follow from them.

Ranks follow `Scorer.rank_of`: they count the other items that score at least as high, so ties count against an item.
Lists follow `Scorer.top_k`: equal scores are ordered by ascending item. Scores are float64, in blocks of users.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.csr import CSR, positions_of
from neuralcf.data.dataset import Dataset
from neuralcf.results import TopK

__all__ = ["Baseline", "Candidates", "Histories", "mask"]

Candidates: TypeAlias = tuple[NDArray[np.int64], NDArray[np.integer[Any]]]
"""`(indptr, indices)`, CSR rows that need not be sorted or unique."""

_BLOCK_CELLS = 4_000_000
"""Maximum number of scores per block of users; 32 MB of float64."""


class Baseline(ABC):
    """A ranker that is fitted on a training set and offers the same queries as `Scorer`.

    Args:
        train: the training set.
    """

    name: ClassVar[str]
    """Its name on the command line."""

    def __init__(self, train: Dataset) -> None:
        self.user_items = train.user_items()
        self.num_items = train.num_items
        self.pair_weights = train.pair_weights()
        """float32 [nnz], of mean 1: the weights of the interactions; None if all count alike."""
        self.popularity = np.bincount(self.user_items[1], self.pair_weights, minlength=train.num_items)
        """int64 [I]: number of interactions of each item, n(i); or float64 [I], the sum of their weights."""

    @abstractmethod
    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score all items for each user, int64 [B] -> float64 [B, I]."""

    def rank_of(
        self,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        *,
        exclude: CSR | None = None,
        allow: Candidates | None = None,
    ) -> NDArray[np.int64]:
        """Count, for each pair, the other unfiltered items that score at least as high as the pair's item, int64 [n].

        Args:
            users: int64 [n].
            items: int64 [n].
            exclude: n rows of items to leave out.
            allow: n rows of the only items to count; duplicates count once.
        """
        ranks = np.empty(users.size, dtype=np.int64)
        for block in self._blocks(users.size):
            distinct, row_of = np.unique(users[block], return_inverse=True)
            scores, rows = self.scores(distinct)[row_of], np.arange(row_of.size)
            counts = np.ones(scores.shape, dtype=bool) if allow is None else mask(allow, block, self.num_items)
            if exclude is not None:
                counts &= ~mask(exclude, block, self.num_items)
            counts[rows, items[block]] = False
            own = scores[rows, items[block]]
            ranks[block] = np.count_nonzero((scores >= own[:, None]) & counts, axis=1)
        return ranks

    def top_k(self, users: NDArray[np.int64], k: int, *, exclude: CSR | None = None) -> TopK:
        """Find the best items of each user, int64 [B]: `ids` int64 [B, k], `scores` float32 [B, k].

        A row with fewer than k items left is padded with id -1 and score negative infinity.
        """
        ids = np.full((users.size, k), -1, dtype=np.int64)
        best = np.full((users.size, k), -np.inf, dtype=np.float32)
        for block in self._blocks(users.size):
            scores = self.scores(users[block])
            if exclude is not None:
                scores[mask(exclude, block, self.num_items)] = -np.inf
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            found = np.take_along_axis(scores, order, axis=1)
            ids[block, : order.shape[1]] = np.where(found > -np.inf, order, -1)
            best[block, : order.shape[1]] = found
        return TopK(ids, best)

    def _blocks(self, count: int) -> Iterator[slice]:
        step = max(1, _BLOCK_CELLS // self.num_items)
        return (slice(start, min(start + step, count)) for start in range(0, count, step))


class Histories:
    """The items of each user as dense rows: 1 for each, or with weights sqrt(w_ui / mean w of u).

    The squares of a user's row always sum to the number of items, so only the ratios of a user's own weights count.

    Args:
        rows: U rows of items.
        num_items: I.
        weights: float32 [nnz], in the order of `rows`; None if all count alike.
    """

    def __init__(self, rows: CSR, num_items: int, weights: NDArray[np.float32] | None) -> None:
        self.rows, self.num_items = rows, num_items
        lengths = np.diff(rows[0])
        user = np.repeat(np.arange(lengths.size), lengths)
        self.sums = lengths if weights is None else np.bincount(user, weights, minlength=lengths.size)
        """int64 or float64 [U]: the number of a user's items, or the sum of their weights."""
        self.values: NDArray[np.float32] | None = None
        """float32 [nnz]: the entries; None if all are 1."""
        if weights is not None:
            mean = self.sums / np.maximum(lengths, 1)
            self.values = np.sqrt(weights / mean[user]).astype(np.float32)

    def dense(self, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows of users, int64 [B], as float32 [B, I]."""
        bounds, positions = positions_of(self.rows, users)
        dense = np.zeros((users.size, self.num_items), np.float32)
        row = np.repeat(np.arange(users.size), np.diff(bounds))
        dense[row, self.rows[1][positions]] = 1 if self.values is None else self.values[positions]
        return dense


def mask(rows: Candidates, block: slice, num_items: int) -> NDArray[np.bool_]:
    """Return the rows of a block as a boolean mask [B, I]."""
    indptr, indices = rows
    bounds = indptr[block.start : block.stop + 1]
    mask = np.zeros((bounds.size - 1, num_items), dtype=bool)
    mask[np.repeat(np.arange(bounds.size - 1), np.diff(bounds)), indices[bounds[0] : bounds[-1]]] = True
    return mask

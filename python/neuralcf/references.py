"""References: simple rankers that a neural model has to beat to be worth its training. NumPy only.

X is the binary user-item matrix [U, I] of the training part, n(i) = sum over u of X[u, i].

Popularity  score(u, i) = n(i)
ItemKNN     s[i, j] = (X'X)[i, j] / (sqrt(n(i) n(j)) + shrinkage), s[i, i] = 0: shrunk cosine;
            score(u, i) = sum of s[i, j] over the items j of u among the `neighbours` items most similar to i
            (Sarwar et al., WWW 2001; shrinkage as in Ferrari Dacrema et al., "Are we really making much progress?",
            RecSys 2019)
EASE        B = argmin |X - XB|^2 + l2 |B|^2 with diag(B) = 0, whose solution is, with P = (X'X + l2 I)^-1,
            B[i, j] = -P[i, j] / P[j, j] off the diagonal; score(u, .) = X[u] B
            (Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019, eq. 8)

Their defaults are middling values, tuned on nothing. Ranks follow the rule of `Scorer.rank_of`: the other items that
score at least as high, so that ties count against; lists follow its order: equal scores by ascending item. Scores are
float64 and computed for a block of users at a time. ItemKNN and EASE hold an [I, I] matrix of float64, and inverting
takes a few of them: 9,000 items want 2 GB and a minute, 30,000 want 30 GB.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.csr import Rows, take_rows
from neuralcf.data.dataset import Dataset
from neuralcf.errors import ArgumentError
from neuralcf.results import TopK

__all__ = ["EASE", "REFERENCES", "ItemKNN", "Popularity", "Reference"]

_Candidates: TypeAlias = tuple[NDArray[np.int64], NDArray[np.integer[Any]]]
"""Rows that need not be sorted, nor unique."""

_BLOCK_CELLS = 4_000_000
"""Scores of a block of users, at most: 32 MB of float64."""


class Reference(ABC):
    """Scores of all items from a training part, and ranks and lists made of them as `Scorer` makes them.

    Args:
        train: the training part.
    """

    name: ClassVar[str]
    """What the command line calls it."""

    def __init__(self, train: Dataset) -> None:
        self.known = train.known()
        self.num_items = train.num_items
        self.popularity = np.bincount(self.known[1], minlength=train.num_items)
        """int64 [I]: n(i)."""

    @abstractmethod
    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score all items for each user, int64 [B] -> float64 [B, I]."""

    def rank_of(
        self,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        *,
        exclude: Rows | None = None,
        allow: _Candidates | None = None,
    ) -> NDArray[np.int64]:
        """Count, for each pair, the other unfiltered items that score at least as high as the pair's item, int64 [n].

        Args:
            users: int64 [n].
            items: int64 [n].
            exclude: rows [n] of items that do not count.
            allow: rows [n] of the items that count; an item given twice counts once.
        """
        ranks = np.empty(users.size, dtype=np.int64)
        for block in self._blocks(users.size):
            scores, rows = self.scores(users[block]), np.arange(users[block].size)
            counts = np.ones(scores.shape, dtype=bool) if allow is None else _mask(allow, block, self.num_items)
            if exclude is not None:
                counts &= ~_mask(exclude, block, self.num_items)
            counts[rows, items[block]] = False
            own = scores[rows, items[block]]
            ranks[block] = np.count_nonzero((scores >= own[:, None]) & counts, axis=1)
        return ranks

    def top_k(self, users: NDArray[np.int64], k: int, *, exclude: Rows | None = None) -> TopK:
        """Find the best items of each user, int64 [B]: `ids` int64 [B, k], `scores` float32 [B, k], filled with -1."""
        ids = np.full((users.size, k), -1, dtype=np.int64)
        best = np.full((users.size, k), -np.inf, dtype=np.float32)
        for block in self._blocks(users.size):
            scores = self.scores(users[block])
            if exclude is not None:
                scores[_mask(exclude, block, self.num_items)] = -np.inf
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            found = np.take_along_axis(scores, order, axis=1)
            ids[block, : order.shape[1]] = np.where(found > -np.inf, order, -1)
            best[block, : order.shape[1]] = found
        return TopK(ids, best)

    def _blocks(self, count: int) -> Iterator[slice]:
        step = max(1, _BLOCK_CELLS // self.num_items)
        return (slice(start, min(start + step, count)) for start in range(0, count, step))


class Popularity(Reference):
    """Ranks by how many training users have an item, the same for everybody: the least a model must beat."""

    name = "popularity"

    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score all items, the same for each user."""
        return np.tile(self.popularity.astype(np.float64), (users.size, 1))

    def rank_of(
        self,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        *,
        exclude: Rows | None = None,
        allow: _Candidates | None = None,
    ) -> NDArray[np.int64]:
        """Rank as every reference does; one sort serves all users, unless both filters are given."""
        if allow is not None and exclude is not None:
            return super().rank_of(users, items, exclude=exclude, allow=allow)
        if allow is not None:
            return self._count_at_least(allow, items)
        everywhere = self.num_items - np.searchsorted(np.sort(self.popularity), self.popularity[items])
        others = everywhere - 1  # without the item itself
        return others if exclude is None else others - self._count_at_least(exclude, items)

    def _count_at_least(self, rows: _Candidates, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count in each row the distinct items, other than `items[row]`, that are at least as popular as that."""
        indptr, indices = rows
        row = np.repeat(np.arange(items.size), np.diff(indptr))
        keys = np.unique(row * self.num_items + indices)
        row, other = keys // self.num_items, keys % self.num_items
        counts = (self.popularity[other] >= self.popularity[items[row]]) & (other != items[row])
        return np.bincount(row[counts], minlength=items.size)


class _ItemToItem(Reference):
    """score(u, .) = X[u] W with item-to-item weights W."""

    weights: NDArray[np.float64]
    """float64 [I, I]: from an item of the user, row, to an item to score, column."""

    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score all items for each user."""
        have = _mask(take_rows(self.known, users), slice(0, users.size), self.num_items)
        return np.asarray(have.astype(np.float64) @ self.weights)

    def _co_occurrences(self) -> NDArray[np.float64]:
        """Compute X'X, float64 [I, I]."""
        counts = np.zeros((self.num_items, self.num_items))
        for block in self._blocks(self.known[0].size - 1):
            have = _mask(self.known, block, self.num_items).astype(np.float64)
            counts += have.T @ have
        return counts


class ItemKNN(_ItemToItem):
    """Scores an item by its nearest neighbours among the user's items.

    Args:
        train: the training part.
        neighbours: how many neighbours an item keeps; of equally similar ones the lower indices.
        shrinkage: draws similarities that rest on few users towards 0.

    Raises:
        ArgumentError: `neighbours` below 1, or a negative `shrinkage`.
    """

    name = "itemknn"

    def __init__(self, train: Dataset, *, neighbours: int = 100, shrinkage: float = 10.0) -> None:
        super().__init__(train)
        if neighbours < 1:
            raise ArgumentError(f"neighbours: expected an integer >= 1, got {neighbours!r}")
        if not shrinkage >= 0:
            raise ArgumentError(f"shrinkage: expected a number >= 0, got {shrinkage!r}")
        similarity = self._co_occurrences()
        norms = np.sqrt(self.popularity)
        for block in self._blocks(self.num_items):
            scale = norms[block, None] * norms + shrinkage
            similarity[block] /= np.where(scale > 0, scale, 1)
        np.fill_diagonal(similarity, 0)
        if neighbours < self.num_items:
            for block in self._blocks(self.num_items):
                similarity[block] = _largest(similarity[block], neighbours)
        self.weights = similarity.T  # row i held the neighbours of i, the item to score


class EASE(_ItemToItem):
    """Scores an item by the linear regression on the user's other items that no item may have on itself.

    Args:
        train: the training part.
        l2: the strength of the regularisation, lambda in the paper.

    Raises:
        ArgumentError: `l2` not above 0.
    """

    name = "ease"

    def __init__(self, train: Dataset, *, l2: float = 200.0) -> None:
        super().__init__(train)
        if not l2 > 0:
            raise ArgumentError(f"l2: expected a number > 0, got {l2!r}")
        gram = self._co_occurrences()
        gram[np.diag_indices_from(gram)] += l2
        weights = np.asarray(np.linalg.inv(gram), dtype=np.float64)
        weights /= -np.diag(weights).copy()
        np.fill_diagonal(weights, 0)
        self.weights = weights


REFERENCES: dict[str, type[Reference]] = {kind.name: kind for kind in (Popularity, ItemKNN, EASE)}
"""The references by the names that the command line knows."""


def _mask(rows: _Candidates, block: slice, num_items: int) -> NDArray[np.bool_]:
    """Give the rows of a block as booleans [B, I]."""
    indptr, indices = rows
    bounds = indptr[block.start : block.stop + 1]
    mask = np.zeros((bounds.size - 1, num_items), dtype=bool)
    mask[np.repeat(np.arange(bounds.size - 1), np.diff(bounds)), indices[bounds[0] : bounds[-1]]] = True
    return mask


def _largest(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Keep the `count` largest of each row, the first of equals, and set the others to 0."""
    threshold = np.partition(values, -count, axis=1)[:, -count, None]
    above, equal = values > threshold, values == threshold
    room = count - above.sum(axis=1, keepdims=True)
    return np.where(above | (equal & (equal.cumsum(axis=1) <= room)), values, 0.0)

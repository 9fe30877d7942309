"""Ranking by popularity: score(u, i) = n(i) = sum over u of X[u, i]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuralcf.baselines.base import Baseline, Candidates
from neuralcf.data.csr import CSR

__all__ = ["Popularity"]


class Popularity(Baseline):
    """Ranks items by their number of training users, the same for every user; any useful model beats it."""

    name = "popularity"

    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score all items, the same for each user."""
        return np.tile(self.popularity.astype(np.float64), (users.size, 1))

    def rank_of(
        self,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        *,
        exclude: CSR | None = None,
        allow: Candidates | None = None,
    ) -> NDArray[np.int64]:
        """Rank as `Baseline.rank_of` does; a single sort serves all users unless both filters are given."""
        if allow is not None and exclude is not None:
            return super().rank_of(users, items, exclude=exclude, allow=allow)
        if allow is not None:
            return self._count_at_least(allow, items)
        everywhere = self.num_items - np.searchsorted(np.sort(self.popularity), self.popularity[items])
        others = everywhere - 1  # without the item itself
        return others if exclude is None else others - self._count_at_least(exclude, items)

    def _count_at_least(self, rows: Candidates, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count in each row the distinct items, other than `items[row]`, that are at least as popular as it."""
        indptr, indices = rows
        row = np.repeat(np.arange(items.size), np.diff(indptr))
        keys = np.unique(row * self.num_items + indices)
        row, other = keys // self.num_items, keys % self.num_items
        counts = (self.popularity[other] >= self.popularity[items[row]]) & (other != items[row])
        return np.bincount(row[counts], minlength=items.size)

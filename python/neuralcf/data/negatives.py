"""Negative sampling: sample items that a user has not interacted with, uniformly and without rejection.

Let a user's items be k_0 < k_1 < ... < k_(d-1), of I items. The other items are the negatives; the r-th of them,
r = 0 .. I - d - 1, is

    r + #{j : k_j - j <= r}

because k_j - j negatives lie before k_j. So a uniform sample of the negatives takes a uniform r and one binary search,
however many items the user has. The keys `row * (I + 1) + k_j - j` ascend across all rows, so one searchsorted call
answers all samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.csr import CSR, csr_from_pairs, take_rows
from neuralcf.errors import ArgumentError

__all__ = ["NegativeSampler", "draw_candidates", "draw_negatives"]


class NegativeSampler:
    """The negative sampler: samples items that are not in a given row of `user_items`.

    Args:
        user_items: `(indptr int64 [R + 1], indices int32)`, rows sorted and unique.
        num_items: I.
    """

    def __init__(self, user_items: CSR, num_items: int) -> None:
        indptr, indices = user_items
        degrees = np.diff(indptr)
        rows = np.repeat(np.arange(degrees.size), degrees)
        position = np.arange(indices.size) - indptr[rows]  # j
        self.counts = num_items - degrees
        """int64 [R]: the number of negatives of each row, I - d."""
        self._stride = num_items + 1
        self._keys = rows * self._stride + indices - position
        self._starts = indptr

    def at(self, rows: NDArray[np.int64], ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the `ranks[n]`-th negative (from 0, ascending) of row `rows[n]`; int64 [n]."""
        before = np.searchsorted(self._keys, rows * self._stride + ranks, side="right") - self._starts[rows]
        return ranks + before

    def draw(self, rng: np.random.Generator, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sample one negative for each of `rows`, int64 [n], uniformly and independently.

        Faster if `rows` ascend.

        Raises:
            ArgumentError: a row that holds every item.
        """
        if rows.size and self.counts[rows].min() < 1:
            full = rows[np.argmin(self.counts[rows])]
            raise ArgumentError(f"negatives: user {full} has interacted with every item, so there are none to sample")
        return self.at(rows, rng.integers(0, self.counts[rows]))


def draw_negatives(
    user_items: CSR, num_items: int, users: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Sample one negative for each of `users`, int64 [n], uniformly and independently; int64 [n]."""
    return NegativeSampler(user_items, num_items).draw(rng, users)


def draw_candidates(
    user_items: CSR,
    num_items: int,
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    *,
    count: int = 99,
    seed: int = 0,
) -> CSR:
    """Sample the candidates that each held-out item is ranked among: distinct negatives other than the item itself.

    Args:
        user_items: each user's items, `Dataset.user_items()` of the training set.
        num_items: I.
        users: int64 [m].
        items: int64 [m], the held-out items.
        count: candidates per held-out item; a user with fewer negatives gets all of them.
        seed: random seed.

    Returns:
        `(indptr int64 [m + 1], indices int32)`: a row for each pair, sorted.

    Raises:
        ArgumentError: `count` below 1, or lengths that differ.
    """
    if count < 1:
        raise ArgumentError(f"count: expected at least 1 candidate, got {count}")
    if users.shape != items.shape:
        raise ArgumentError(f"users, items: expected equal lengths, got {list(users.shape)} and {list(items.shape)}")
    indptr, indices = take_rows(user_items, users)
    pairs = np.arange(users.size)
    rows = np.concatenate([np.repeat(pairs, np.diff(indptr)), pairs])
    columns = np.concatenate([indices.astype(np.int64), items])
    sampler = NegativeSampler(csr_from_pairs(rows, columns, users.size, num_items), num_items)

    ranks = _distinct_ranks(np.random.default_rng(seed), sampler.counts, count)
    drawn = np.sort(ranks, axis=1)
    real = drawn >= 0
    rows = np.broadcast_to(pairs[:, None], drawn.shape)[real]
    return csr_from_pairs(rows, sampler.at(rows, drawn[real]), users.size, num_items)


def _distinct_ranks(rng: np.random.Generator, sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Sample `count` distinct numbers below each of `sizes`, uniformly: int64 [n, count], padded with -1 if too few.

    Floyd's algorithm (Bentley, "Programming pearls: a sample of brilliance", 1987), vectorized over rows: for each t of
    the last `count` numbers, sample one of 0 .. t, and take t itself if that one is taken already.
    """
    ranks = np.full((sizes.size, count), -1, dtype=np.int64)
    for step in range(count):
        last = sizes - count + step  # t
        enough = last >= 0
        drawn = rng.integers(0, np.maximum(last, 0) + 1)
        taken = (ranks[:, :step] == drawn[:, None]).any(axis=1)
        ranks[:, step] = np.where(enough, np.where(taken, last, drawn), -1)
    return ranks

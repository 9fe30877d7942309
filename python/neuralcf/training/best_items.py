"""The best items of many users, from their scores of all items, or a teacher's: a selection without a sort of all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.csr import CSR, take_rows
from neuralcf.training.teachers import Teacher

__all__ = ["best_items", "best_new_items"]

_GROUP = 32


def best_items(scores: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the `count` best items of each row [B, I], best first, ties by lower index.

    With the items in at least `count` groups, that many groups have an item as good as the `count`-th best maximum of
    a group: what is worse is not among the best. So the maxima, and few items, are all that is sorted.

    Returns:
        Items, int64 [B, k], and their scores, float32 [B, k], with k = min(count, I).
    """
    num_rows, num_items = scores.shape
    count = min(count, num_items)
    least = np.full(num_rows, -np.inf, np.float32)
    if (groups := num_items // _GROUP) >= count:
        maxima = scores[:, : groups * _GROUP].reshape(num_rows, _GROUP, groups).max(axis=1)
        least = np.partition(maxima, groups - count, axis=1)[:, groups - count]
    at = np.flatnonzero(scores >= least[:, None])
    row, item = at // num_items, at % num_items
    found = scores.ravel()[at]
    order = np.lexsort((-found, row))
    starts = np.searchsorted(row, np.arange(num_rows))
    best = order[starts[:, None] + np.arange(count)]
    return item[best], found[best]


def best_new_items(
    teacher: Teacher, own: CSR, users: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the `count` items that a teacher scores highest for each user among those that are not the user's own.

    Args:
        teacher: scores I items.
        own: U rows of the users' own items.
        users: int64 [B].
        count: as for `best_items`.

    Returns:
        As `best_items`; a user with fewer new items has own items at the end, of score -inf.
    """
    scores = teacher.scores(users)
    known = take_rows(own, users)
    scores[np.repeat(np.arange(users.size), np.diff(known[0])), known[1]] = -np.inf
    return best_items(scores, count)

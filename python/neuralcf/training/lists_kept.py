"""What a cut keeps of its teacher's lists: the share of the teacher's 20 best items that are among the student's 20.

It tells without any held-out data which of two cuts is the better one. On MovieLens, where a user has dozens of items,
the truncated SVD keeps more of the lists; on sparse data, where its rank goes into what no list shows, least squares
does. The order of the two was that of their NDCG on held-out interactions wherever both were measured.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.csr import CSR, take_rows
from neuralcf.training.best_items import best_items
from neuralcf.training.teachers import Teacher, blocks_of

__all__ = ["LIST_LENGTH", "lists_kept"]

LIST_LENGTH: Final = 20
_SAMPLE = 1000


def lists_kept(teacher: Teacher, student: Teacher, own: CSR, users: NDArray[np.int64], seed: int) -> float:
    """Compute the mean share, from 0 to 1, over a sample of users.

    Args:
        teacher: scores I items.
        student: scores the same items.
        own: U rows of the users' own items, which are in no list.
        users: int64 [n], at least one: users to sample from.
        seed: decides the sample.
    """
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(users, min(_SAMPLE, users.size), replace=False))
    num_items = teacher.scores(sample[:1]).shape[1]
    kept = []
    for block in blocks_of(sample, num_items):
        wanted, got = (_best(scorer, own, block) for scorer in (teacher, student))
        found = (wanted[:, :, None] == got[:, None, :]).any(axis=2)
        # Users with nearly all items have shorter lists.
        real = np.arange(LIST_LENGTH)[: found.shape[1]] < (num_items - np.diff(take_rows(own, block)[0]))[:, None]
        kept.append((found & real).sum(axis=1) / np.maximum(real.sum(axis=1), 1))
    return float(np.concatenate(kept).mean())


def _best(scorer: Teacher, own: CSR, users: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give each user's best items but their own, best first, int64 [B, LIST_LENGTH]; own items fill the end."""
    scores = scorer.scores(users)
    known = take_rows(own, users)
    scores[np.repeat(np.arange(users.size), np.diff(known[0])), known[1]] = -np.inf
    return best_items(scores, LIST_LENGTH)[0]

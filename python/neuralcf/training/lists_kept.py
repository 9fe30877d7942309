"""What a cut keeps of its teacher's lists: the share of the teacher's 20 best items that are among the student's 20.

It tells without any held-out data which of two cuts is the better one. On MovieLens, where a user has dozens of items,
the truncated SVD keeps more of the lists; on sparse data, where its rank goes into what no list shows, least squares
does. The order of the two was that of their NDCG on held-out interactions wherever both were measured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.csr import CSR
from neuralcf.training.best_items import best_new_items
from neuralcf.training.teachers import Teacher, blocks_of

__all__ = ["lists_kept"]

_LENGTH, _SAMPLE = 20, 1000


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
        wanted, scores = best_new_items(teacher, own, block, _LENGTH)
        got, _ = best_new_items(student, own, block, _LENGTH)
        found = (wanted[:, :, None] == got[:, None, :]).any(axis=2)
        real = scores > -np.inf  # users with nearly all items have shorter lists
        kept.append((found & real).sum(axis=1) / np.maximum(real.sum(axis=1), 1))
    return float(np.concatenate(kept).mean())

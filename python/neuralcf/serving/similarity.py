"""Which items, or users, are alike: the correlation of their scores, not of raw embeddings.

An embedding is not what a score depends on: the output layer weights its factors, and the MLP bends them. So an item is
its logits for up to 128 users of the model, evenly spaced, and a user those of up to 128 such items, double-centred:

    x_iu = f_iu - (mean of f over the items for user u) - (mean of f over the users for item i) + (mean of all)

which leaves out that a user scores everything high and that everybody scores an item high. The similarity is the cosine
of these vectors, that is the correlation of what is left, from -1 to 1; it is 0 for an item that scores alike for all.
"""

from __future__ import annotations

from threading import Lock
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import Scorer

__all__ = ["Similarity"]

Side: TypeAlias = Literal["items", "users"]

_COORDINATES = 128
_PAIRS_TOGETHER = 1 << 22


class Similarity:
    """The similarity of a model's items and of its users, computed when it is first asked for."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._spaces: dict[Side, Scorer] = {}
        self._computing = Lock()

    def space(self, side: Side) -> Scorer:
        """Return a GMF whose users and items are both the items of the model, or its users; a logit is a cosine."""
        with self._computing:
            if side not in self._spaces:
                vectors = _unit_vectors(self._scorer, side)
                tensors = {
                    "gmf.user_embedding.weight": vectors,
                    "gmf.item_embedding.weight": vectors,
                    "output.weight": np.ones((1, vectors.shape[1]), np.float32),
                    "output.bias": np.zeros(1, np.float32),
                }
                scorer = self._scorer
                self._spaces[side] = Scorer.from_tensors(tensors, threads=scorer.threads, isa=scorer.isa)
            return self._spaces[side]

    def compute_like(self, other: Similarity) -> None:
        """Compute what another model's similarity has computed, so that no first call waits for it."""
        for side in list(other._spaces):
            self.space(side)


def _unit_vectors(scorer: Scorer, side: Side) -> NDArray[np.float32]:
    """Return the double-centred logits of each item or user, float32 `[n, D]`, of length 1 or 0."""
    sizes = (scorer.num_items, scorer.num_users) if side == "items" else (scorer.num_users, scorer.num_items)
    rows, others = sizes
    columns = np.unique(np.linspace(0, others - 1, min(others, _COORDINATES)).astype(np.int64))
    vectors = np.empty((rows, columns.size), np.float32)
    step = max(1, _PAIRS_TOGETHER // columns.size)
    for start in range(0, rows, step):
        chunk = np.arange(start, min(rows, start + step))
        own, other = np.repeat(chunk, columns.size), np.tile(columns, chunk.size)
        users, items = (other, own) if side == "items" else (own, other)
        vectors[chunk] = scorer.score_batch(users, items, logits=True).reshape(chunk.size, columns.size)
    vectors -= vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    vectors -= vectors.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    noise = 1e-5 * (lengths.max() if rows else 0.0)  # what rounding leaves of vectors that are 0
    vectors *= np.where(lengths > noise, 1 / np.maximum(lengths, 1e-30), 0.0)[:, None].astype(np.float32)
    return vectors

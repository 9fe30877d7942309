"""Teachers: what scores all items for a user, alone or summed; what a GMF is made from.

A teacher may be of any rank and need not be a model that can be served. A sum weighs teachers whose scores were brought
to one scale first, as their scales mean nothing beside one another:

    S(u, i) = sum over teachers t of w_t S_t(u, i) / sd(S_t)

with the standard deviation sd over the scores of all items for a sample of users. Scores are made for a block of users
at a time; no matrix of users x items is ever held.

A teacher also tells how its scores follow from a history (`neuralcf.training.fold_in`), so that new users get what
training would have given them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from neuralcf.baselines.base import Histories
from neuralcf.baselines.graph_filter import neighbour_scores
from neuralcf.data.csr import CSR
from neuralcf.models import GMF
from neuralcf.training.fold_in import FoldIn, LinearEncoder, regress

__all__ = ["Factors", "ItemNeighbours", "ItemWeights", "Teacher", "TeacherSum", "blocks_of", "with_estimated_users"]

_BLOCK_CELLS = 4_000_000
_SAMPLE = 1024


class Teacher(Protocol):
    """Scores all items."""

    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score all items for each user, int64 [B] -> float32 [B, I]."""

    def fold_in_scores(self, weights: NDArray[np.float32]) -> FoldIn | None:
        """Tell how scores @ weights, float32 [I, r], follow from a history; None if they do not."""


@dataclass(frozen=True, eq=False)
class Factors:
    """A teacher that is a matrix factorisation: score(u, i) = user_vectors[u] . item_vectors[i] + item_biases[i]."""

    user_vectors: NDArray[np.float32]
    """float32 [U, d]."""
    item_vectors: NDArray[np.float32]
    """float32 [I, d]."""
    item_biases: NDArray[np.float32]
    """float32 [I]."""
    fold_in: FoldIn | None = None
    """How a history becomes a user vector."""

    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score all items for each user."""
        scores = self.user_vectors[users] @ self.item_vectors.T
        scores += self.item_biases
        return np.asarray(scores)

    def fold_in_scores(self, weights: NDArray[np.float32]) -> FoldIn | None:
        """Tell how scores @ weights follow from a history."""
        return self.fold_in and self.fold_in.then(self.item_vectors.T @ weights, self.item_biases @ weights)

    def to_gmf(self, *, scale: float = 1.0, bias: float = 0.0) -> GMF:
        """Make the GMF of d + 1 factors whose logits are `scale` (above 0) times the scores plus `bias`.

        The format has no item biases: they are the last factor, whose user side is 1. The scale is shared by both
        sides, so that neither has extreme values, and the output layer's weights are 1.
        """
        root = np.float32(np.sqrt(scale))
        ones = np.ones((len(self.user_vectors), 1), np.float32)
        user = np.concatenate([self.user_vectors, ones], axis=1) * root
        item = np.concatenate([self.item_vectors, self.item_biases[:, None]], axis=1) * root
        with torch.random.fork_rng(devices=[]):  # the weights that it draws are replaced
            model = GMF(len(user), len(item), factors=user.shape[1])
        weights = {
            "gmf.user_embedding.weight": torch.from_numpy(user),
            "gmf.item_embedding.weight": torch.from_numpy(item),
            "output.weight": torch.ones(1, user.shape[1]),
            "output.bias": torch.tensor([bias], dtype=torch.float32),
        }
        model.load_state_dict(weights)
        return model.eval()


def with_estimated_users(factors: Factors, rows: CSR) -> Factors:
    """Add a fold-in to a matrix factorisation whose users' vectors do not follow from their histories.

    A new user's vector is estimated by a ridge regression over the users of `rows`, on n_u^-.5 times the sum of the
    vectors of their items.
    """
    indptr, items = rows
    sums = np.zeros_like(factors.user_vectors)
    for user in np.flatnonzero(np.diff(indptr)):
        own = factors.item_vectors[items[indptr[user] : indptr[user + 1]]]
        sums[user] = own.sum(axis=0) / np.float32(np.sqrt(len(own)))
    known = np.diff(indptr) > 0
    weights, constant = regress(factors.user_vectors[known], sums[known])
    encoder = LinearEncoder(factors.item_vectors @ weights, exponent=0.5)
    return replace(factors, fold_in=FoldIn(constant, (encoder,)))


@dataclass(frozen=True, eq=False)
class ItemWeights:
    """A teacher that sums weights of the user's items: score(u, .) = x_u W, x_u the history, W item-to-item weights."""

    histories: Histories
    """The x_u of U users."""
    weights: NDArray[np.float32]
    """float32 [I, I]."""

    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score all items for each user."""
        return np.asarray(self.histories.dense(users) @ self.weights)

    def fold_in_scores(self, weights: NDArray[np.float32]) -> FoldIn | None:
        """Tell how scores @ weights follow from a history."""
        encoder = LinearEncoder(self.weights @ weights, exponent=0)
        return FoldIn(np.zeros(weights.shape[1], np.float32), (encoder,))


@dataclass(frozen=True, eq=False)
class ItemNeighbours:
    """A teacher that sums weights of the user's items to the neighbours of each: a pruned graph filter."""

    user_items: CSR
    """U rows of items."""
    neighbours: NDArray[np.int32]
    """int32 [I, k]."""
    weights: NDArray[np.float32]
    """float32 [I, k]."""

    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score all items for each user."""
        return neighbour_scores(self.user_items, users, self.neighbours, self.weights)

    def fold_in_scores(self, weights: NDArray[np.float32]) -> FoldIn | None:
        """Tell how scores @ weights follow from a history."""
        items = np.zeros((len(self.neighbours), weights.shape[1]), np.float32)
        for neighbours, share in zip(self.neighbours.T, self.weights.T, strict=True):
            items += share[:, None] * weights[neighbours]
        return FoldIn(np.zeros(weights.shape[1], np.float32), (LinearEncoder(items, exponent=0.5),))


class TeacherSum:
    """The weighted sum of standardised teachers, itself a teacher.

    Args:
        teachers: at least one, with their weights.
        users: int64 [n], users to standardise by, of whom a sample is scored.
        seed: decides the sample.
    """

    def __init__(self, teachers: Sequence[tuple[Teacher, float]], users: NDArray[np.int64], seed: int) -> None:
        rng = np.random.default_rng(seed)
        sample = np.sort(rng.choice(users, min(_SAMPLE, users.size), replace=False))
        self._teachers = []
        for teacher, weight in teachers:
            deviation = float(teacher.scores(sample).std(dtype=np.float64))
            # One that scores all alike says nothing: its share is left out.
            self._teachers.append((teacher, np.float32(weight / deviation if deviation > 0 else 0)))

    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score all items for each user."""
        (first, weight), *others = self._teachers
        total = first.scores(users)
        total *= weight
        for teacher, weight in others:
            scores = teacher.scores(users)
            scores *= weight
            total += scores
        return total

    def fold_in_scores(self, weights: NDArray[np.float32]) -> FoldIn | None:
        """Tell how scores @ weights follow from a history, if all teachers can."""
        total = FoldIn(np.zeros(weights.shape[1], np.float32), ())
        for teacher, scale in self._teachers:
            fold_in = teacher.fold_in_scores(weights * scale)
            if fold_in is None:
                return None
            total = total + fold_in
        return total


def blocks_of(users: NDArray[np.int64], num_items: int) -> Iterator[NDArray[np.int64]]:
    """Cut users into blocks whose scores take 16 MB."""
    step = max(1, _BLOCK_CELLS // num_items)
    return (users[start : start + step] for start in range(0, users.size, step))

"""Which items, or users, are alike: the correlation of their scores, not of raw embeddings.

An embedding is not what a score depends on: the output layer weights its factors, and the MLP bends them. So an item is
its logits for up to 128 users of the model, evenly spaced, and a user those of up to 128 such items, double-centred:

    x_iu = f_iu - (mean of f over the items for user u) - (mean of f over the users for item i) + (mean of all)

which leaves out that a user scores everything high and that everybody scores an item high. The similarity is the cosine
of these vectors, that is the correlation of what is left, from -1 to 1; it is 0 for an item that scores alike for all.

The means over the items, and the items for which users are compared, are those of the model as it was loaded, so that a
changed or new item moves no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import Scorer
from neuralcf.results import ItemVectors, UserVectors

__all__ = ["Similarity"]

Side: TypeAlias = Literal["items", "users"]

_COORDINATES = 128
_PAIRS_TOGETHER = 1 << 22
_NOISE = 1e-5  # of the longest vector: what rounding leaves of vectors that are 0


class Similarity:
    """The similarity of a generation's items and of its users, computed when it is first asked for."""

    def __init__(self, scorer: Scorer) -> None:
        """Compare the items of a model as it was loaded."""
        none = np.zeros(0, np.int64)
        self._loaded = _Loaded(scorer)
        self._scorer, self._start, self._changed, self._removed = scorer, None, none, none
        self._items: Scorer | None = None
        self._computing = Lock()

    _start: Scorer | None
    """The space of an earlier generation; None for that of the model as it was loaded."""
    _changed: NDArray[np.int64]
    """The items that have changed since, new and removed ones included."""
    _removed: NDArray[np.int64]
    """Those of them that have been removed."""

    def after(self, scorer: Scorer, changed: NDArray[np.int64], removed: NDArray[np.int64]) -> Similarity:
        """Return the similarity of the next generation, in which these items have changed or are new or removed."""
        following = object.__new__(Similarity)
        following._loaded, following._scorer, following._items = self._loaded, scorer, None
        following._computing = Lock()
        if self._items is not None:
            following._start, following._removed = self._items, removed
            following._changed = np.sort(changed)
        else:
            following._start = self._start
            following._changed = np.union1d(self._changed, changed)
            following._removed = np.union1d(np.setdiff1d(self._removed, changed), removed)
        return following

    def items(self) -> Scorer:
        """Return a GMF of which the items are those of the model; the logit of an item's `vectors` is a cosine."""
        with self._computing:
            if self._items is None:
                self._items = self._with_changes(
                    self._loaded.space("items").space if self._start is None else self._start
                )
            return self._items

    def vectors(self, items: NDArray[np.int64]) -> UserVectors:
        """Return what stands for items in `items()`."""
        return UserVectors(self._loaded.space("items").unit_vectors(self._scorer, items), None)

    def users(self) -> Scorer:
        """Return a GMF of which the users and the items both are the users of the model; a logit is a cosine."""
        return self._loaded.space("users").space

    def compute_like(self, other: Similarity) -> None:
        """Compute what another model's similarity has computed, so that no first call waits for it."""
        self._loaded.compute_like(other._loaded)

    def _with_changes(self, space: Scorer) -> Scorer:
        vectors = np.zeros((self._changed.size, self._loaded.space("items").columns.size), np.float32)
        present = ~np.isin(self._changed, self._removed)
        vectors[present] = self._loaded.space("items").unit_vectors(self._scorer, self._changed[present])
        new = self._changed >= space.num_items
        if new.any():
            space = space.with_new_items(ItemVectors(vectors[new]))
        if not new.all():
            space = space.with_items(self._changed[~new], ItemVectors(vectors[~new]))
        return space.without_items(self._removed) if self._removed.size else space


class _Loaded:
    """A model as it was loaded, and its spaces, computed when they are first asked for."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._computing = Lock()
        self._spaces: dict[Side, _Space] = {}

    def space(self, side: Side) -> _Space:
        with self._computing:
            if side not in self._spaces:
                self._spaces[side] = _Space.of(self._scorer, side)
            return self._spaces[side]

    def compute_like(self, other: _Loaded) -> None:
        for side in list(other._spaces):
            self.space(side)


@dataclass(frozen=True)
class _Space:
    """The space in which items, or users, are compared."""

    side: Side
    columns: NDArray[np.int64]
    """int64 `[D]`: the users that items are scored for, or the other way round."""
    means: NDArray[np.float32]
    """float32 `[D]`: the mean logits of all items, or users."""
    noise: float
    """A vector that is no longer than this stands for 0."""
    space: Scorer
    """A GMF whose users and items are both those that are compared."""

    @classmethod
    def of(cls, scorer: Scorer, side: Side) -> _Space:
        rows, others = (scorer.num_items, scorer.num_users) if side == "items" else (scorer.num_users, scorer.num_items)
        columns = np.unique(np.linspace(0, others - 1, min(others, _COORDINATES)).astype(np.int64))
        vectors = _logits(scorer, side, np.arange(rows), columns)
        means = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        lengths = _centre(vectors, means)
        noise = _NOISE * float(lengths.max())
        _scale(vectors, lengths, noise)
        tensors = {
            "gmf.user_embedding.weight": vectors,
            "gmf.item_embedding.weight": vectors,
            "output.weight": np.ones((1, vectors.shape[1]), np.float32),
            "output.bias": np.zeros(1, np.float32),
        }
        space = Scorer.from_tensors(tensors, threads=scorer.threads, isa=scorer.isa)
        return cls(side, columns, means, noise, space)

    def unit_vectors(self, scorer: Scorer, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the double-centred logits of items or users, float32 `[n, D]`, of length 1 or 0."""
        vectors = _logits(scorer, self.side, rows, self.columns)
        _scale(vectors, _centre(vectors, self.means), self.noise)
        return vectors


def _logits(scorer: Scorer, side: Side, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
    vectors = np.empty((rows.size, columns.size), np.float32)
    step = max(1, _PAIRS_TOGETHER // columns.size)
    for start in range(0, rows.size, step):
        chunk = rows[start : start + step]
        own, other = np.repeat(chunk, columns.size), np.tile(columns, chunk.size)
        users, items = (other, own) if side == "items" else (own, other)
        logits = scorer.score_batch(users, items, logits=True)
        vectors[start : start + step] = logits.reshape(chunk.size, columns.size)
    return vectors


def _centre(vectors: NDArray[np.float32], means: NDArray[np.float32]) -> NDArray[np.float64]:
    """Centre vectors by columns and then by rows, in place; return their lengths."""
    vectors -= means
    vectors -= vectors.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)))


def _scale(vectors: NDArray[np.float32], lengths: NDArray[np.float64], noise: float) -> None:
    """Scale vectors to length 1, or to 0 if they are no longer than the noise, in place."""
    vectors *= np.where(lengths > noise, 1 / np.maximum(lengths, 1e-30), 0.0)[:, None].astype(np.float32)

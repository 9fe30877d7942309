"""Where training starts from: the vectors of a model that was trained before.

A GMF's logits are linear in the user's vector: those of a unit vector, less the bias, are a column of the items'
vectors times the output layer's weights. So the `Scorer`, the one reader of models, gives all that a start needs:

    logit(u, i) = p_u . q_i + bias,   p_u the embedding of u, q_i that of i times the output layer's weights
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import Scorer, open_model
from neuralcf.data.dataset import Dataset, ExternalIds
from neuralcf.errors import ArgumentError
from neuralcf.results import UserVectors

__all__ = ["Start"]


@dataclass(frozen=True, eq=False)
class Start:
    """The vectors of a GMF and the ids that they belong to."""

    model_id: str
    user_vectors: NDArray[np.float32]
    """float32 [U, d]."""
    item_vectors: NDArray[np.float32]
    """float32 [I, d]."""
    user_ids: ExternalIds
    """int64 [U], or U strings."""
    item_ids: ExternalIds
    """int64 [I], or I strings."""

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Start:
        """Load a model directory.

        Raises:
            ArgumentError: a model that is no GMF, or was saved without ids.
            ModelFormatError: not a model.
            OSError: the model cannot be read.
        """
        scorer, user_ids, item_ids = open_model(path)
        if scorer.kind != "gmf":
            raise ArgumentError(f"{path}: expected a GMF to start from, got a model of kind {scorer.kind}")
        if user_ids is None or item_ids is None:
            raise ArgumentError(f"{path}: expected a model with ids to start from, got one that was saved without any")
        users = scorer.user_vectors(np.arange(scorer.num_users)).gmf
        assert users is not None
        ids = tuple(each.take(np.arange(len(each))) for each in (user_ids, item_ids))
        return cls(scorer.metadata["model_id"], users, _item_vectors(scorer, users.shape[1]), *ids)

    def vectors(self, dataset: Dataset) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Give vectors of all users and items of a data set, those that the model does not know zero.

        Raises:
            ArgumentError: the data set's ids do not begin with those of the model.
        """
        padded = []
        for side, ours, theirs, vectors in (
            ("user", self.user_ids, dataset.user_ids, self.user_vectors),
            ("item", self.item_ids, dataset.item_ids, self.item_vectors),
        ):
            if len(theirs) < len(ours) or not np.array_equal(ours, theirs[: len(ours)]):
                raise ArgumentError(
                    f"{side}_ids: expected those of the model to start from, then new ones, got others; "
                    "neuralcf.data.renumbered puts them in this order"
                )
            padded.append(np.concatenate([vectors, np.zeros((len(theirs) - len(ours), vectors.shape[1]), np.float32)]))
        return padded[0], padded[1]

    def for_ials(self, dataset: Dataset, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Give vectors for iALS to start from, float32 [U, width] and [I, width], scaled as those of `spectral_start`.

        None if the interactions do not score above 0 on average.
        """
        p, q = (_resized(vectors, width) for vectors in self.vectors(dataset))
        mean = float(np.einsum("nd,nd->n", p[dataset.users], q[dataset.items]).mean(dtype=np.float64))
        if not mean > 0:
            return None
        size, balance = np.sqrt(0.7 / mean), np.sqrt(np.linalg.norm(q) / np.linalg.norm(p))
        return (p * size * balance).astype(np.float32), (q * size / balance).astype(np.float32)


def _resized(vectors: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Cut columns, or append zero ones."""
    missing = max(0, width - vectors.shape[1])
    return np.concatenate([vectors[:, :width], np.zeros((len(vectors), missing), np.float32)], axis=1)


def _item_vectors(scorer: Scorer, width: int) -> NDArray[np.float32]:
    queries = np.concatenate([np.zeros((1, width), np.float32), np.eye(width, dtype=np.float32)])
    found = scorer.top_k(UserVectors(queries, None), scorer.num_items, logits=True)
    logits = np.empty(found.scores.shape, np.float32)
    np.put_along_axis(logits, found.ids, found.scores, axis=1)
    return np.ascontiguousarray((logits[1:] - logits[0]).T)

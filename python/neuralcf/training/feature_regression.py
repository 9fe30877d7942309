"""Vectors from features by ridge regression: what a matrix factorisation would give to an entity it has not seen.

With vectors q_i [d] of the items, the rows a_i of their features and the number n_i of their interactions,

    W = argmin  sum over i of w_i |q_i - a_i W|^2 + l2 |W|^2,   w_i = n_i / (n_i + k), 0 for n_i = 0
      = (A' D A + l2 I')^-1 A' D Q,   D = diag(w)

where I' leaves out the entry that all items share (Hoerl and Kennard, Technometrics 12, 1970; as a cold start of matrix
factorisation: Gantner et al., "Learning attribute-to-feature mappings", ICDM 2010). Item biases are one more column of
Q. The same for users. An item without interactions gets a_i W, and one with few a mean of both,

    q_i' = (n_i q_i + k a_i W) / (n_i + k)

Both weights follow from one model: q_i differs from a_i W by the item's nature, of variance v, and by the noise of its
n_i interactions, of variance k v / n_i. Weights n_i without a limit would give a new item the vector of the most
popular ones of its kind, and put it before the known items.

Scale       A mean of what an item may be, a_i W is shorter than the vectors of known items, and its scores lie between
            theirs: among all items new ones would hardly be seen. The vectors of entities without interactions are
            `scale` a_i W, with the scale that `neuralcf.training.cold_scale` chooses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuralcf.attributes import FeatureMap
from neuralcf.data.features import Features

__all__ = ["FeatureRegression", "choose_l2"]

_L2 = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_SHARED_L2 = 1e-6  # keeps the equations solvable
_HELD_OUT = 5
_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class FeatureRegression:
    """The regression of one side, users or items."""

    features: Features
    map: NDArray[np.float32]
    """float32 [F, d]: W."""
    counts: NDArray[np.int64]
    """int64 [n]: how many interactions each entity has."""
    k: float
    """Of how many interactions the prediction is worth."""
    scale: float = 1.0
    """What the predictions for entities without interactions are multiplied by."""

    @classmethod
    def fit(
        cls, features: Features, vectors: NDArray[np.float32], counts: NDArray[np.int64], *, l2: float, k: float
    ) -> FeatureRegression:
        """Regress vectors, [n, d], of which only those with interactions count."""
        gram, moments = _moments(features, vectors, _weights(counts, k))
        return cls(features, _solve(gram, moments, l2).astype(np.float32), counts, k)

    def shrink(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the means of vectors and what features predict; without interactions, the prediction alone."""
        share = (1 - _weights(self.counts, self.k))[:, None].astype(np.float32)
        scale = np.where(self.counts > 0, 1, self.scale)[:, None].astype(np.float32)
        return np.asarray(vectors + share * (scale * self.features.times(self.map) - vectors), np.float32)

    def to_map(self, scale: float, width: int) -> FeatureMap:
        """Make the map from features alone to the embeddings of a model whose logits are `scale` times the scores.

        The first `width` columns are those of the GMF; what follows, if anything, are those of the MLP.
        """
        map_ = self.map * np.float32(self.scale)
        gmf, mlp = map_[:, :width] * np.float32(np.sqrt(scale)), np.ascontiguousarray(map_[:, width:])
        return FeatureMap(self.features.columns, gmf, mlp if mlp.size else None)


def choose_l2(
    features: Features,
    vectors: NDArray[np.float32],
    counts: NDArray[np.int64],
    other: NDArray[np.float32],
    seed: int,
) -> float:
    """Choose `l2` on a fifth of the entities, which are kept from the regression.

    Measured is the error of scores, sum over i of (q_i - a_i W) M (q_i - a_i W)' with M = P'P / U, P the vectors of
    the `other` side, [m, d].
    """
    known = np.flatnonzero(counts)
    held = np.random.default_rng(seed).permutation(known)[: known.size // _HELD_OUT]
    if not held.size:
        return _L2[len(_L2) // 2]
    weights = _weights(counts, 0)
    weights_held = np.zeros_like(weights)
    weights_held[held] = weights[held]
    gram, moments = _moments(features, vectors, weights - weights_held)
    metric = (other.T @ other).astype(np.float64) / len(other)

    def error(l2: float) -> float:
        wrong = vectors - features.times(_solve(gram, moments, l2))
        return float((weights_held * np.einsum("nd,de,ne->n", wrong, metric, wrong, optimize=True)).sum())

    return min(_L2, key=error)


def _weights(counts: NDArray[np.int64], k: float) -> NDArray[np.float64]:
    return np.where(counts > 0, counts / np.maximum(counts + k, 1), 0.0)


def _moments(
    features: Features, vectors: NDArray[np.float32], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute A' D A, [F, F], and A' D Q, [F, d], in blocks of entities."""
    gram, moments = np.zeros((features.width,) * 2), np.zeros((features.width, vectors.shape[1]))
    for start in range(0, len(features), _BLOCK):
        block = slice(start, start + _BLOCK)
        rows = features.dense(block).astype(np.float64)
        weighted = rows * weights[block, None]
        gram += rows.T @ weighted
        moments += weighted.T @ vectors[block]
    return gram, moments


def _solve(gram: NDArray[np.float64], moments: NDArray[np.float64], l2: float) -> NDArray[np.float64]:
    penalty = np.full(len(gram), l2)
    penalty[0] = _SHARED_L2
    return np.asarray(np.linalg.solve(gram + np.diag(penalty), moments), np.float64)

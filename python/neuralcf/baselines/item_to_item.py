"""ItemKNN and EASE: score(u, .) = X[u] W with item-to-item weights W.

X is the binary user-item matrix [U, I] of the training set, n(i) = sum over u of X[u, i]. If interactions have weights,
X[u, i] = sqrt(w_ui / w_u) with w_u the mean weight of u, user u counts w_u times as much in X'X, and n(i) is a sum of
weights, so that X'X[i, j] = sum over u of sqrt(w_ui w_uj). A user of weight 2 is the user twice.

ItemKNN     s[i, j] = (X'X)[i, j] / (sqrt(n(i) n(j)) + shrinkage), s[i, i] = 0: shrunk cosine;
            score(u, i) = sum of s[i, j] over the items j of u among the `neighbours` items most similar to i
            (Sarwar et al., WWW 2001; shrinkage as in Ferrari Dacrema et al., "Are we really making much progress?",
            RecSys 2019)
EASE        B = argmin |X - XB|^2 + l2 |B|^2 with diag(B) = 0, whose solution is, with P = (X'X + l2 I)^-1,
            B[i, j] = -P[i, j] / P[j, j] off the diagonal; score(u, .) = X[u] B
            (Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019, eq. 8)
EASE_n      EASE with a weighted regression: user u has weight n(u)^-2e, n(u) the length of the history. X'X becomes
            c sum over u of n(u)^-2e x_u' x_u, with c such that its trace stays nnz and `l2` keeps its meaning. Long
            histories then count less; e = `row_exponent` = .25 is a good value, 0 is EASE.

The defaults are middling values that were not tuned on any data. Both baselines hold a float64 [I, I] matrix, and
inverting takes a few of them: 9,000 items need 2 GB and a minute, 30,000 need 30 GB. EASE in float32 halves both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuralcf.baselines.base import Baseline, Histories
from neuralcf.data.dataset import Dataset
from neuralcf.errors import ArgumentError

__all__ = ["EASE", "ItemKNN"]


class _ItemToItem(Baseline):
    """score(u, .) = X[u] W with item-to-item weights W."""

    weights: NDArray[np.floating]
    """float64 or float32 [I, I]: from an item of the user (row) to an item to score (column)."""

    def __init__(self, train: Dataset) -> None:
        super().__init__(train)
        self.histories = Histories(self.user_items, self.num_items, self.pair_weights)
        """The rows of X."""

    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score all items for each user."""
        return np.asarray(self.histories.dense(users).astype(self.weights.dtype) @ self.weights, np.float64)

    def _user_weights(self) -> NDArray[np.float64]:
        """Give w_u, [U]: 1 without weights of interactions."""
        lengths = np.diff(self.user_items[0])
        return self.histories.sums / np.maximum(lengths, 1)

    def _co_occurrences(self, weights: NDArray[np.floating]) -> NDArray[np.floating]:
        """Compute X'WX, [I, I], W the diagonal matrix of user weights, [U], in the dtype of the weights."""
        counts = np.zeros((self.num_items, self.num_items), weights.dtype)
        root = np.sqrt(weights)[:, None]
        for block in self._blocks(weights.size):
            have = self.histories.dense(np.arange(block.start, block.stop)) * root[block]
            counts += have.T @ have
        return counts


class ItemKNN(_ItemToItem):
    """Scores an item by its nearest neighbours among the user's items.

    Args:
        train: the training set.
        neighbours: number of neighbours that each item keeps; ties go to the lower index.
        shrinkage: shrinks similarities that rest on few users towards 0.

    Raises:
        ArgumentError: `neighbours` below 1, or a negative `shrinkage`.
    """

    name = "itemknn"

    def __init__(self, train: Dataset, *, neighbours: int = 100, shrinkage: float = 10.0) -> None:
        super().__init__(train)
        if neighbours < 1:
            raise ArgumentError(f"neighbours: expected an integer >= 1, got {neighbours!r}")
        if not shrinkage >= 0:
            raise ArgumentError(f"shrinkage: expected a number >= 0, got {shrinkage!r}")
        similarity = self._co_occurrences(self._user_weights())
        norms = np.sqrt(self.popularity)
        for block in self._blocks(self.num_items):
            scale = norms[block, None] * norms + shrinkage
            similarity[block] /= np.where(scale > 0, scale, 1)
        np.fill_diagonal(similarity, 0)
        if neighbours < self.num_items:
            for block in self._blocks(self.num_items):
                similarity[block] = _largest(similarity[block], neighbours)
        self.weights = similarity.T  # row i held the neighbours of i, the item to score


class EASE(_ItemToItem):
    """Scores an item by linear regression on the user's other items; no item may predict itself.

    Args:
        train: the training set.
        l2: strength of the regularisation, lambda in the paper.
        row_exponent: e of EASE_n; 0 for EASE.
        dtype: float64 or float32; float32 halves memory and time, and scores are accurate to three or four digits.

    Raises:
        ArgumentError: `l2` not above 0, a negative `row_exponent`, or another `dtype`.
    """

    name = "ease"

    def __init__(
        self,
        train: Dataset,
        *,
        l2: float = 200.0,
        row_exponent: float = 0.0,
        dtype: type[np.float64] | type[np.float32] = np.float64,
    ) -> None:
        super().__init__(train)
        if not l2 > 0:
            raise ArgumentError(f"l2: expected a number > 0, got {l2!r}")
        if not row_exponent >= 0:
            raise ArgumentError(f"row_exponent: expected a number >= 0, got {row_exponent!r}")
        if dtype not in (np.float64, np.float32):
            raise ArgumentError(f"dtype: expected float64 or float32, got {dtype!r}")
        lengths = np.diff(self.user_items[0])
        user_weights = np.maximum(lengths, 1) ** (-2.0 * row_exponent)
        user_weights *= self._user_weights()
        user_weights *= lengths.sum() / max(1.0, lengths @ user_weights)  # keeps the trace at nnz: |x_u|^2 = n(u)
        weights = self._inverse(user_weights.astype(dtype), dtype(l2))
        weights /= -np.diag(weights).copy()
        np.fill_diagonal(weights, 0)
        self.weights = weights

    def _inverse(self, user_weights: NDArray[np.floating], l2: np.floating) -> NDArray[np.floating]:
        """Compute (X'WX + l2 I)^-1, [I, I].

        With fewer users than items, the Woodbury identity needs only the smaller inverse, [U, U]; Y = W^.5 X:
        (Y'Y + l2 I)^-1 = (I - Y'(YY' + l2 I)^-1 Y) / l2.
        """
        num_users = user_weights.size
        if num_users >= self.num_items:
            gram = self._co_occurrences(user_weights)
            gram[np.diag_indices_from(gram)] += l2
            return np.asarray(np.linalg.inv(gram))
        y = self.histories.dense(np.arange(num_users)) * np.sqrt(user_weights)[:, None]
        gram = y @ y.T
        gram[np.diag_indices_from(gram)] += l2
        inverse = y.T @ (np.linalg.inv(gram) @ y)
        inverse /= -l2
        inverse[np.diag_indices_from(inverse)] += 1 / l2
        return np.asarray(inverse)


def _largest(values: NDArray[np.floating], count: int) -> NDArray[np.floating]:
    """Keep the `count` largest values of each row, ties by lower index, and set all others to 0."""
    threshold = np.partition(values, -count, axis=1)[:, -count, None]
    above, equal = values > threshold, values == threshold
    room = count - above.sum(axis=1, keepdims=True)
    return np.where(above | (equal & (equal.cumsum(axis=1) <= room)), values, 0.0)

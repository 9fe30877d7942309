"""iALS: matrix factorisation by alternating least squares, score(u, i) = p_u . q_i.

X is the binary user-item matrix [U, I] of the training set, nnz its number of interactions, n(u) and n(i) its row and
column sums.

Loss            sum over (u, i) in X of w_ui (1 - s_ui)^2  +  a0 sum over all (u, i) of s_ui^2
                + l2 [sum over u of (n(u) + a0 I) |p_u|^2 + sum over i of (n(i) + a0 U) |q_i|^2],   s_ui = p_u . q_i
                (Hu, Koren, Volinsky, ICDM 2008; form of the loss and frequency-scaled regularisation as in Rendle,
                Krichene, Zhang, Koren, "Revisiting the performance of iALS on item recommendation benchmarks",
                RecSys 2022, eq. 4 and 5 with nu = 1)
Weights         w_ui = 1, or the weight of the interaction; then n(u), n(i) and nnz are sums of weights, so that weight
                2 is the interaction twice.
Unobserved      a0 = unobserved nnz / (U I): all cells together weigh `unobserved` times as much as the interactions, so
                a value means the same on sparse and on dense data.
Warm start      The truncated SVD of A = D_u^-.5 X D_i^-.4, with D_u and D_i the diagonal matrices of n(u) and n(i), by
                two rounds of subspace iteration with 24 oversampling vectors (Halko, Martinsson, Tropp, SIAM Review 53,
                2011, algorithm 4.4): P = A V, Q = D_i^.4 V, scaled so that interactions score .7 on average.
Sweeps          Solve for users with items fixed, then for items with users fixed, by `solve_rows` of
                `neuralcf.baselines.least_squares`. Four sweeps from the warm start match a dozen from random vectors.

Quality is sensitive to `unobserved` and `l2` jointly. The defaults suit MovieLens-1M; on other data search `unobserved`
from 1 to 30 and `l2` from .001 to .05, where good values were found.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuralcf.baselines.base import Baseline
from neuralcf.baselines.least_squares import Rows, solve_rows
from neuralcf.data.csr import transposed, transposing_order
from neuralcf.data.dataset import Dataset
from neuralcf.errors import ArgumentError
from neuralcf.seeds import Stream, derive

__all__ = ["IALS", "both_sides", "spectral_start", "sweep"]

_EXTRA, _ROUNDS = 24, 2
_STEPS = 2


class IALS(Baseline):
    """Matrix factorisation by alternating least squares; the score is the dot product of a user and an item vector.

    Users and items without interactions get zero vectors.

    Args:
        train: the training set.
        factors: d, the width of the vectors.
        unobserved: weight of all cells together, relative to that of all interactions.
        l2: strength of the regularisation.
        sweeps: number of times that users and items are solved for.
        seed: random seed of the subspace iteration.
        start: vectors to start from in place of the SVD, float32 [U, d] and [I, d].

    Raises:
        ArgumentError: a setting out of range, or a start of the wrong shape.
    """

    name = "ials"

    def __init__(
        self,
        train: Dataset,
        *,
        factors: int = 128,
        unobserved: float = 7.0,
        l2: float = 0.007,
        sweeps: int = 4,
        seed: int = 0,
        start: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    ) -> None:
        super().__init__(train)
        for setting, value in (("factors", factors), ("sweeps", sweeps)):
            if value < 1:
                raise ArgumentError(f"{setting}: expected an integer >= 1, got {value!r}")
        for setting, number in (("unobserved", unobserved), ("l2", l2)):
            if not 0 < number < np.inf:
                raise ArgumentError(f"{setting}: expected a finite number > 0, got {number!r}")
        shapes = (train.num_users, factors), (train.num_items, factors)
        if start is not None and (start[0].shape, start[1].shape) != shapes:
            raise ArgumentError(f"start: expected shapes {shapes}, got {start[0].shape} and {start[1].shape}")
        users, items = both_sides(train, factors)
        p, q = spectral_start(users, items, factors, seed) if start is None else start
        for _ in range(sweeps):
            p, q = sweep(users, items, p, q, unobserved=unobserved, l2=l2)
        self.a0 = _cell_weight(users, unobserved, train.num_items)
        """The weight of every cell."""
        self.user_vectors = p
        """float32 [U, d]."""
        self.item_vectors = q
        """float32 [I, d]."""

    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score all items for each user."""
        return (self.user_vectors[users] @ self.item_vectors.T).astype(np.float64)


def both_sides(train: Dataset, factors: int) -> tuple[Rows, Rows]:
    """Give the items of each user and the users of each item, for vectors of width `factors`."""
    rows, weights = train.user_items(), train.pair_weights()
    turned = None if weights is None else weights[transposing_order(rows)]
    users = Rows(rows, train.num_items, factors, weights=weights)
    return users, Rows(transposed(rows, train.num_items), train.num_users, factors, weights=turned)


def sweep(
    users: Rows,
    items: Rows,
    p: NDArray[np.float32],
    q: NDArray[np.float32],
    *,
    unobserved: float,
    l2: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Solve for all users with items fixed, then for all items with users fixed.

    Args:
        users: the items of each user, U rows.
        items: the users of each item, I rows.
        p: float32 [U, d], the current user vectors.
        q: float32 [I, d], the current item vectors.
        unobserved: as for `IALS`.
        l2: as for `IALS`.

    Returns:
        The new user vectors, float32 [U, d], and item vectors, float32 [I, d].
    """
    num_users, num_items = users.lengths.size, items.lengths.size
    a0 = _cell_weight(users, unobserved, num_items)
    p, q = solve_rows(users, p, q, a0=a0, l2=l2 * (users.sums + a0 * num_items), steps=_STEPS)
    q, p = solve_rows(items, q, p, a0=a0, l2=l2 * (items.sums + a0 * num_users), steps=_STEPS)
    return p, q


def _cell_weight(users: Rows, unobserved: float, num_items: int) -> float:
    return unobserved * float(users.sums.sum()) / (users.lengths.size * num_items)


def spectral_start(
    users: Rows, items: Rows, factors: int, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute user and item vectors from the truncated SVD of the normalised interactions.

    Args:
        users: the items of each user, U rows.
        items: the users of each item, I rows.
        factors: d. Columns beyond the rank of the matrix are zero.
        seed: random seed of the initial subspace.

    Returns:
        float32 [U, d] and float32 [I, d], of equal norms; interactions score .7 on average.
    """
    user_scale = _positive(users.sums)[:, None].astype(np.float32) ** -0.5
    item_scale = _positive(items.sums)[:, None].astype(np.float32) ** -0.4
    rng = np.random.default_rng(derive(seed, Stream.INITIALISATION))
    v = rng.standard_normal((items.lengths.size, factors + _EXTRA), dtype=np.float32)
    for _ in range(_ROUNDS):
        left = _orthonormal(user_scale * users.sum(item_scale * v))
        v = _orthonormal(item_scale * items.sum(user_scale * left))
    image = user_scale * users.sum(item_scale * v)  # A V; its SVD is that of A within the subspace
    _, axes = np.linalg.eigh(image.T.astype(np.float64) @ image)
    leading = axes[:, ::-1][:, :factors].astype(np.float32)
    p, q = image @ leading, (v @ leading) / item_scale
    # The scores of all interactions sum to the sum over u of p_u . (sum of q_i over the items of u).
    total, interactions = float(np.vdot(p, users.sum(q))), float(users.sums.sum())
    if not total > 0:
        return np.zeros_like(p), np.zeros_like(q)  # no interactions
    size = np.sqrt(0.7 * interactions / total)
    balance = np.sqrt(np.linalg.norm(q) / np.linalg.norm(p))
    return (p * size * balance).astype(np.float32), (q * size / balance).astype(np.float32)


def _positive(sums: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.int64] | NDArray[np.float64]:
    """Put 1 for the sum of an empty row."""
    return np.where(sums > 0, sums, 1)


def _orthonormal(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Orthonormalise the columns through their Gram matrix; columns beyond its rank are zero."""
    values, axes = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    kept = values > 1e-7 * max(values[-1], 0)
    scale = np.where(kept, np.where(kept, values, 1) ** -0.5, 0)
    return vectors @ (axes * scale).astype(np.float32)

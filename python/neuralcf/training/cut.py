"""From any teacher to one matrix factorisation of a given rank: the truncated SVD of its scores.

S [U, I] are the teacher's scores of the users with a history. With the row means taken out, which no ranking notices,
and mu the column means of what is left, which become item biases,

    S0 = S - row means - mu,   S0'S0 = V diag(s^2) V',   P = S0 V_r,   Q = V_r,   score(u, i) = p_u . q_i + mu_i

V_r holds the r leading eigenvectors: the best approximation of rank r in the sum of squares (Eckart and Young,
Psychometrika 1, 1936). The eigenvectors come from subspace iteration, whose error is far below what the cut itself
costs.

Many users      Two passes over blocks of users: one for S0'S0 [I, I], one for P.
Few users       Where there are fewer users than items, S0 itself is the smaller matrix: it is held, and the leading
                eigenvectors U_r of S0 S0' [n, n] give P = U_r diag(s) and V_r = S0'U_r diag(1 / s).

P is linear in S, so that the vector of a new user follows from a history as the teacher's scores do: taking out the row
means is a product with I - 11'/I, and p_u = (S_u (I - 11'/I) - mu) V_r.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuralcf.training.fold_in import FoldIn
from neuralcf.training.teachers import Factors, Teacher, blocks_of

__all__ = ["cut_by_svd"]

_EXTRA, _ROUNDS = 24, 8


def cut_by_svd(
    teacher: Teacher, users: NDArray[np.int64], *, num_users: int, num_items: int, rank: int, seed: int
) -> tuple[Factors, float]:
    """Cut a teacher to `rank` factors and item biases.

    Args:
        teacher: what to approximate.
        users: int64 [n], at least one: those to approximate it for. The others get zeros, that is the item biases.
        num_users: U.
        num_items: I; [min(n, I), I] floats are held.
        rank: r, at most; no more than n or I are given.
        seed: decides the start of the subspace iteration.

    Returns:
        The factors, and the share of the sum of squares of S0 that they hold.
    """
    if users.size < num_items:
        p, v, mu, share = _cut_few_users(teacher, users, num_items, rank, seed)
    else:
        p, v, mu, share = _cut_many_users(teacher, users, num_items, rank, seed)
    vectors = np.zeros((num_users, p.shape[1]), np.float32)
    vectors[users] = p
    fold_in = teacher.fold_in_scores(v - v.mean(axis=0))
    return Factors(vectors, v, mu, fold_in and fold_in + FoldIn(-mu @ v, ())), share


_Cut: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], float]
"""P [n, r], V_r [I, r], mu [I], and the share of the sum of squares that they hold."""


def _cut_many_users(teacher: Teacher, users: NDArray[np.int64], num_items: int, rank: int, seed: int) -> _Cut:
    gram = np.zeros((num_items, num_items), np.float32)
    sums = np.zeros(num_items)
    for block in blocks_of(users, num_items):
        scores = _without_row_means(teacher.scores(block))
        gram += scores.T @ scores
        sums += scores.sum(axis=0, dtype=np.float64)
    mu = (sums / users.size).astype(np.float32)
    gram -= np.outer(mu, mu * np.float32(users.size))
    v, squares = _leading_eigenvectors(gram, min(rank, num_items), seed)
    p = [(_without_row_means(teacher.scores(block)) - mu) @ v for block in blocks_of(users, num_items)]
    return np.concatenate(p), v, mu, _share(squares, gram)


def _cut_few_users(teacher: Teacher, users: NDArray[np.int64], num_items: int, rank: int, seed: int) -> _Cut:
    scores = np.concatenate([_without_row_means(teacher.scores(block)) for block in blocks_of(users, num_items)])
    mu = scores.mean(axis=0, dtype=np.float64).astype(np.float32)
    scores -= mu
    gram = scores @ scores.T
    u, squares = _leading_eigenvectors(gram, min(rank, users.size), seed)
    s = np.sqrt(squares).astype(np.float32)
    held = s > 1e-6 * s.max(initial=0)  # beyond the rank of S0 there are no directions
    v = scores.T @ (u * np.divide(1, s, out=np.zeros_like(s), where=held))
    return u * np.where(held, s, 0), v, mu, _share(squares, gram)


def _share(squares: NDArray[np.float64], gram: NDArray[np.float32]) -> float:
    trace = float(np.trace(gram, dtype=np.float64))
    return min(1.0, float(squares.sum()) / trace) if trace > 0 else 1.0


def _without_row_means(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(scores - scores.mean(axis=1, keepdims=True))


def _leading_eigenvectors(
    gram: NDArray[np.float32], count: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Give orthonormal leading eigenvectors, [I, count], and their eigenvalues, largest first."""
    width = min(count + _EXTRA, len(gram))
    basis = np.random.default_rng(seed).standard_normal((len(gram), width), dtype=np.float32)
    for _ in range(_ROUNDS):
        basis, _ = np.linalg.qr(gram @ basis)
    values, axes = np.linalg.eigh((basis.T @ (gram @ basis)).astype(np.float64))
    leading = axes[:, ::-1][:, :count].astype(np.float32)
    return basis @ leading, np.maximum(values[::-1][:count], 0)

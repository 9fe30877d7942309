"""From a teacher of a large catalogue to one matrix factorisation: weighted least squares on the teacher's best items.

A truncated SVD (`neuralcf.training.cut`) spends its rank on all cells alike; with tens of thousands of items, what
decides a short list drowns in the billion others. Here the few best items of each user count as much as a hundred
thousand of the rest. With T_u the teacher's `listed` best items for user u that are not u's own, of scores
t_1 >= t_2 >= ..., and t_last the score of the item after them, minimise over p_u and q_i

    sum over u, and i of u or in T_u, of w_ui (y_ui - p_u . q_i)^2  +  a0 sum over all (u, i) of (p_u . q_i)^2
    + l2 [sum over u of (n(u) + a0 I) |p_u|^2 + sum over i of (n(i) + a0 U) |q_i|^2]

    y_ui = 1 for the user's own items,   y_ui = .4 + .6 (t_ui - t_last) / (t_1 - t_last) for T_u

with w_ui the weight of an interaction, else 1, and n(u) and n(i) the sums of w_ui: the loss of iALS
(`neuralcf.baselines.ials`) with more cells and graded targets, and the same sweeps of `solve_rows`. Learning from the
top of a teacher's list is ranking distillation (Tang and Wang, KDD 2018); least squares solves it without gradients.

Start       Vectors of the same scale: those of an iALS cut to the rank (`leading`), so that two or three sweeps do.
New users   have no T_u. The half-step on their own items gives z_u, and a ridge regression over some users of training
            p_u = z_u W + c, which makes up for what the teacher's lists add.
Blocks      The teacher scores a block of users at a time; of a block only the lists are kept.
Memory      16 bytes for each of the nnz + U x listed cells, and the vectors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuralcf.baselines.least_squares import Rows, solve_rows
from neuralcf.data.csr import CSR, take_rows
from neuralcf.training.best_items import best_new_items
from neuralcf.training.fold_in import FoldIn, half_step, regress
from neuralcf.training.teachers import Factors, Teacher, blocks_of

__all__ = ["cut_by_least_squares", "leading"]

_LOWEST = 0.4
_REGRESSED, _EXACT_STEPS = 4096, 12


def cut_by_least_squares(
    teacher: Teacher,
    own: CSR,
    start: tuple[NDArray[np.float32], NDArray[np.float32]],
    *,
    listed: int,
    unobserved: float,
    l2: float,
    sweeps: int,
    steps: int = 2,
    weights: NDArray[np.float32] | None = None,
) -> Factors:
    """Cut a teacher to the width of the vectors to start from.

    Args:
        teacher: what to approximate.
        own: U rows of the users' own items; a user without any gets a zero vector.
        start: float32 [U, d] and [I, d], whose products are about 1 for a user's own items.
        listed: how many of the teacher's best items of each user count.
        unobserved: weight of all cells together, in weights of all own items.
        l2: strength of the regularisation.
        sweeps: number of times that users and items are solved for; users are solved for once more in the end.
        steps: number of conjugate-gradient steps of each.
        weights: float32 [nnz], of mean 1: how much each of the own items counts; all 1 if None. Listed items count 1.

    Returns:
        The factors, without item biases.
    """
    p, q = start
    num_users, num_items = len(p), len(q)
    a0 = unobserved * own[1].size / (num_users * num_items)
    users, items, targets = _cells(teacher, own, num_items, listed)
    if weights is not None:
        weights = np.concatenate([weights, np.ones(users.size - weights.size, np.float32)])
    by_user = _rows(users, items, (num_users, num_items), p.shape[1], targets, weights)
    by_item = _rows(items, users, (num_items, num_users), p.shape[1], targets, weights)
    user_l2, item_l2 = l2 * (by_user.sums + a0 * num_items), l2 * (by_item.sums + a0 * num_users)
    for _ in range(sweeps):
        p, q = solve_rows(by_user, p, q, a0=a0, l2=user_l2, steps=steps)
        q, p = solve_rows(by_item, q, p, a0=a0, l2=item_l2, steps=steps)
    p, q = solve_rows(by_user, p, q, a0=a0, l2=user_l2, steps=steps)
    return Factors(p, q, np.zeros(num_items, np.float32), _fold_in(p, q, own, a0=a0, l2=l2))


def leading(
    p: NDArray[np.float32], q: NDArray[np.float32], rank: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keep the `rank` directions in which vectors [U, d] and [I, d] are largest, [U, r] and [I, r]; r is at most d."""
    gram = sum((x.T.astype(np.float64) @ x) / max(float(np.vdot(x, x)), 1e-30) for x in (p, q))
    _, axes = np.linalg.eigh(gram)
    kept = axes[:, ::-1][:, :rank].astype(np.float32)
    return p @ kept, q @ kept


def _fold_in(p: NDArray[np.float32], q: NDArray[np.float32], own: CSR, *, a0: float, l2: float) -> FoldIn:
    """Tell how a history becomes a user vector: the half-step on own items alone, z, then p = z W + c."""
    lengths = np.diff(own[0])
    some = np.flatnonzero(lengths)
    some = some[:: max(1, some.size // _REGRESSED)]
    rows = Rows(take_rows(own, some), len(q), q.shape[1])
    z, basis = solve_rows(rows, p[some], q, a0=a0, l2=l2 * (lengths[some] + a0 * len(q)), steps=_EXACT_STEPS)
    return half_step(basis, a0=a0, l2=l2).then(*regress(p[some], z))


def _cells(
    teacher: Teacher, own: CSR, num_items: int, listed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Give users, items and targets, [n], of the cells that count: own ones, then listed ones."""
    lengths = np.diff(own[0])
    users, items = [np.repeat(np.arange(lengths.size), lengths)], [own[1].astype(np.int64)]
    targets = [np.ones(own[1].size, np.float32)]
    for block in blocks_of(np.flatnonzero(lengths), num_items):
        best, values = best_new_items(teacher, own, block, listed + 1)
        real = values > -np.inf
        last = np.where(real, values, np.inf).min(axis=1, keepdims=True)
        spread = values[:, :1] - last
        place = np.divide(values - last, spread, out=np.zeros_like(values), where=real & (spread > 0))
        real[:, listed:] = False
        users.append(np.broadcast_to(block[:, None], best.shape)[real])
        items.append(best[real])
        targets.append((_LOWEST + (1 - _LOWEST) * place)[real])
    return np.concatenate(users), np.concatenate(items), np.concatenate(targets)


def _rows(
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    shape: tuple[int, int],
    width: int,
    targets: NDArray[np.float32],
    weights: NDArray[np.float32] | None,
) -> Rows:
    """Collect cells, [n], into rows to solve for."""
    order = np.argsort(row, kind="stable")
    indptr = np.zeros(shape[0] + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=shape[0]), out=indptr[1:])
    rows = indptr, column[order].astype(np.int32)
    return Rows(rows, shape[1], width, targets[order], None if weights is None else weights[order])

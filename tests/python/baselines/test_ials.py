"""iALS: each solver against straightforward linear algebra, and edge cases of the data."""

import numpy as np
import pytest

from matrices import dataset_of, matrix_with_edges
from neuralcf import ArgumentError
from neuralcf.baselines import IALS
from neuralcf.baselines.ials import spectral_start
from neuralcf.baselines.least_squares import Rows, solve_rows
from neuralcf.data.csr import csr_from_pairs


@pytest.fixture
def matrix():
    return matrix_with_edges()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Use several blocks, some of them with a single row that exceeds the block size."""
    monkeypatch.setattr("neuralcf.baselines.least_squares._BLOCK_FLOATS", 64)


def objective(matrix, p, q, a0, l2):
    """Compute the loss of the module's docstring cell by cell."""
    scores, (u, i) = p.astype(float) @ q.T.astype(float), matrix.shape
    fit = (matrix * (1 - scores) ** 2).sum() + a0 * (scores**2).sum()
    users = (matrix.sum(axis=1) + a0 * i) @ (p.astype(float) ** 2).sum(axis=1)
    items = (matrix.sum(axis=0) + a0 * u) @ (q.astype(float) ** 2).sum(axis=1)
    return fit + l2 * (users + items)


@pytest.mark.parametrize("with_targets", [False, True])
def test_many_steps_solve_the_normal_equations(matrix, with_targets):
    rng = np.random.default_rng(1)
    rows = csr_from_pairs(*np.nonzero(matrix), *matrix.shape)
    targets = rng.random(rows[1].size).astype(np.float32) if with_targets else None
    wanted = np.zeros_like(matrix)
    wanted[np.nonzero(matrix)] = 1 if targets is None else targets
    q, start = (rng.standard_normal((n, 6)).astype(np.float32) for n in matrix.shape[::-1])
    l2 = rng.uniform(0.5, 1, len(matrix))
    solved, turned = solve_rows(Rows(rows, 17, 6, targets), start, q, a0=0.2, l2=l2, steps=12)
    expected = np.zeros((len(matrix), 17))
    for user, have in enumerate(matrix):
        left = (q.T * have) @ q + 0.2 * q.T @ q + l2[user] * np.eye(6)
        expected[user] = q @ np.linalg.solve(left, q.T @ wanted[user])
    assert solved @ turned.T == pytest.approx(expected, abs=1e-5)
    assert turned @ turned.T == pytest.approx(q @ q.T, abs=1e-4)  # only rotated


def test_sweeps_decrease_the_loss_and_converge_to_a_stationary_point(matrix):
    a0 = 3 * matrix.sum() / matrix.size
    losses = []
    for sweeps in (1, 2, 3, 300):
        model = IALS(dataset_of(matrix), factors=4, unobserved=3, l2=0.05, sweeps=sweeps)
        losses.append(objective(matrix, model.user_vectors, model.item_vectors, a0, 0.05))
    assert losses == sorted(losses, reverse=True)
    p, q = model.user_vectors.astype(float), model.item_vectors.astype(float)
    error = matrix * (p @ q.T - 1) + a0 * p @ q.T
    gradient = error @ q + 0.05 * (matrix.sum(axis=1) + a0 * 17)[:, None] * p
    assert np.abs(gradient).max() < 1e-3 * np.abs(error @ q).max()
    assert not p[-1].any()
    assert not q[-1].any()


def test_the_warm_start_is_the_truncated_svd(matrix):
    rows = csr_from_pairs(*np.nonzero(matrix), 30, 17)
    columns = csr_from_pairs(*np.nonzero(matrix.T), 17, 30)
    p, q = spectral_start(Rows(rows, 17, 3), Rows(columns, 30, 3), 3)
    by_user, by_item = (np.maximum(matrix.sum(axis=axis), 1) for axis in (1, 0))
    left, values, right = np.linalg.svd(by_user[:, None] ** -0.5 * matrix * by_item**-0.4)
    expected = (left[:, :3] * values[:3]) @ right[:3] * by_item**0.4
    expected *= 0.7 / expected[matrix > 0].mean()
    assert p @ q.T == pytest.approx(expected, abs=1e-4)
    assert np.linalg.norm(p) == pytest.approx(np.linalg.norm(q), rel=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (3, 2)])
@pytest.mark.parametrize("full", [True, False])
def test_tiny_and_empty_data(shape, full):
    """One user or one item, all interactions or none, more factors than users or items."""
    model = IALS(dataset_of(np.full(shape, float(full))), factors=8)
    scores = model.scores(np.arange(shape[0]))
    assert scores.shape == shape
    assert np.isfinite(scores).all()
    assert (scores > 0.05).all() == full


def test_equal_seeds_give_equal_bits_and_wrong_settings_are_rejected(matrix):
    train = dataset_of(matrix)
    first, second = IALS(train, factors=4, seed=3), IALS(train, factors=4, seed=3)
    assert first.item_vectors.tobytes() == second.item_vectors.tobytes()
    half = IALS(train, factors=4, seed=3, sweeps=2)
    start = half.user_vectors, half.item_vectors
    whole = IALS(train, factors=4, start=start, sweeps=2)
    assert whole.scores(np.arange(30)) == pytest.approx(first.scores(np.arange(30)), abs=1e-4)
    for wrong in ({"factors": 0}, {"sweeps": 0}, {"unobserved": 0.0}, {"l2": float("nan")}):
        with pytest.raises(ArgumentError, match=f"{next(iter(wrong))}: expected"):
            IALS(train, **wrong)
    with pytest.raises(ArgumentError, match="start: expected shapes"):
        IALS(train, factors=5, start=start)

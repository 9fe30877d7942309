"""Weights of interactions: 1 everywhere changes no bit, 2 is the interaction twice, each against dense float64."""

from dataclasses import replace

import numpy as np
import pytest

from neuralcf.baselines import EASE, IALS, ItemKNN, Popularity
from neuralcf.baselines.base import Histories
from neuralcf.baselines.least_squares import Rows, solve_rows
from neuralcf.data import Dataset, decayed, leave_last_out
from neuralcf.data.csr import csr_from_pairs
from neuralcf.evaluation import evaluate_full


def dataset(matrix, weights=None):
    users, items = np.nonzero(matrix)
    return Dataset(users, items, None, np.arange(matrix.shape[0]), np.arange(matrix.shape[1]), weights=weights)


@pytest.fixture
def matrix():
    """Binary interactions; the last user and the last item have none."""
    matrix = (np.random.default_rng(0).random((40, 12)) < 0.4).astype(float)
    matrix[-1] = matrix[:, -1] = 0
    return matrix


@pytest.fixture
def weights(matrix):
    """Weights of mean 1, one for each interaction."""
    drawn = np.random.default_rng(1).uniform(0.2, 3, int(matrix.sum()))
    return (drawn / drawn.mean()).astype(np.float32)


def fitted(train):
    yield from (IALS(train, factors=5), Popularity(train), ItemKNN(train, neighbours=4))
    yield from (EASE(train, l2=3.0), EASE(train, l2=3.0, row_exponent=0.25, dtype=np.float32))


@pytest.mark.parametrize("weight", [1, 4])
def test_equal_weights_are_no_weights(matrix, weight):
    plain, users = dataset(matrix), np.arange(len(matrix))
    weighted = replace(plain, weights=np.full(len(plain), weight))
    for ours, theirs in zip(fitted(weighted), fitted(plain), strict=True):
        assert ours.scores(users).tobytes() == theirs.scores(users).tobytes(), ours.name


def test_weighted_rows_solve_the_weighted_normal_equations(matrix, weights):
    rng, rows = np.random.default_rng(2), csr_from_pairs(*np.nonzero(matrix), *matrix.shape)
    targets = rng.random(weights.size).astype(np.float32)
    w, t = np.zeros_like(matrix), np.zeros_like(matrix)
    w[np.nonzero(matrix)], t[np.nonzero(matrix)] = weights, targets
    q, start = (rng.standard_normal((n, 6)).astype(np.float32) for n in matrix.shape[::-1])
    l2 = rng.uniform(0.5, 1, len(matrix))
    solved, turned = solve_rows(Rows(rows, 12, 6, targets, weights), start, q, a0=0.2, l2=l2, steps=12)
    expected = [
        q @ np.linalg.solve((q.T * w[u]) @ q + 0.2 * q.T @ q + l2[u] * np.eye(6), q.T @ (w[u] * t[u]))
        for u in range(len(matrix))
    ]
    np.testing.assert_allclose(solved @ turned.T, expected, atol=1e-5)


def test_ials_minimises_the_weighted_loss(matrix, weights):
    """Its gradient by float64 vanishes, with regularisation and a0 that count weights for interactions."""
    w = np.zeros_like(matrix)
    w[np.nonzero(matrix)] = weights
    model = IALS(dataset(matrix, weights), factors=4, unobserved=3, l2=0.05, sweeps=300)
    p, q, a0 = model.user_vectors.astype(float), model.item_vectors.astype(float), 3 * w.sum() / w.size
    error = w * (p @ q.T - 1) + a0 * p @ q.T
    for gradient, scale in (
        (error @ q + 0.05 * (w.sum(axis=1) + a0 * 12)[:, None] * p, error @ q),
        (error.T @ p + 0.05 * (w.sum(axis=0) + a0 * 40)[:, None] * q, error.T @ p),
    ):
        assert np.abs(gradient).max() < 1e-3 * np.abs(scale).max()


@pytest.mark.parametrize("num_users", [40, 8], ids=["many users", "few users"])
@pytest.mark.parametrize("exponent", [0.0, 0.25])
def test_ease_regresses_weighted_histories(matrix, num_users, exponent):
    matrix = matrix[:num_users]
    weights = np.random.default_rng(1).uniform(0.2, 3, int(matrix.sum()))
    w = np.zeros_like(matrix)
    w[np.nonzero(matrix)] = weights / weights.mean()
    lengths = np.maximum(matrix.sum(axis=1), 1)
    user = w.sum(axis=1) / lengths
    x = np.sqrt(w / np.where(user > 0, user, 1)[:, None])
    user = user * lengths ** (-2 * exponent)
    user *= matrix.sum() / (matrix.sum(axis=1) @ user)
    inverse = np.linalg.inv((x.T * user) @ x + 3 * np.eye(12))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    model = EASE(dataset(matrix, weights), l2=3.0, row_exponent=exponent)
    np.testing.assert_allclose(model.scores(np.arange(num_users)), x @ expected, atol=1e-5)


def test_a_user_of_weight_two_is_the_user_twice(matrix):
    """But for EASE's scale, which keeps the trace, so `l2` grows in the same proportion."""
    twice = np.concatenate([matrix, matrix[:3]])
    weights = np.where(np.nonzero(matrix)[0] < 3, 2.0, 1.0)
    users, l2 = np.arange(len(matrix)), 3 * matrix.sum() / twice.sum()
    ours, theirs = EASE(dataset(matrix, weights), l2=l2), EASE(dataset(twice), l2=3.0)
    np.testing.assert_allclose(ours.scores(users), theirs.scores(users), atol=1e-5)
    ours, theirs = Popularity(dataset(matrix, weights)), Popularity(dataset(twice))
    np.testing.assert_allclose(ours.popularity * weights.mean(), theirs.popularity, rtol=1e-5)


def test_similarity_is_the_cosine_of_weighted_columns(matrix, weights):
    w = np.zeros_like(matrix)
    w[np.nonzero(matrix)] = weights
    norms = np.sqrt(w.sum(axis=0))
    expected = np.sqrt(w).T @ np.sqrt(w) / (norms[:, None] * norms + 1)
    np.fill_diagonal(expected, 0)
    model = ItemKNN(dataset(matrix, weights), neighbours=12, shrinkage=1)
    np.testing.assert_allclose(model.weights, expected, atol=1e-5)


def test_histories_have_the_squares_of_unweighted_ones(matrix, weights):
    rows = csr_from_pairs(*np.nonzero(matrix), *matrix.shape)
    dense = Histories(rows, 12, weights).dense(np.arange(len(matrix)))
    np.testing.assert_allclose((dense**2).sum(axis=1), matrix.sum(axis=1), rtol=1e-5)
    assert ((dense > 0) == (matrix > 0)).all()
    np.testing.assert_array_equal(Histories(rows, 12, None).dense(np.array([3, 0])), matrix[[3, 0]])


@pytest.mark.parametrize("model", [EASE, IALS, ItemKNN])
def test_decay_helps_where_recent_taste_counts(model):
    """Each user takes twelve items of one genre, and then six of another; the last one is held out."""
    rng = np.random.default_rng(0)
    genres = np.arange(120) // 20  # of the items
    users, items = [], []
    for user in range(150):
        before, after = rng.choice(6, 2, replace=False)
        users += [user] * 18
        items += [*rng.choice(np.flatnonzero(genres == before), 12, replace=False)]
        items += [*rng.choice(np.flatnonzero(genres == after), 6, replace=False)]
    days = np.tile(np.arange(18) * 86400 * 10, 150)
    split = leave_last_out(Dataset(np.array(users), np.array(items), days, np.arange(150), np.arange(120)))
    plain = evaluate_full(model(split.train), split, 10).means["NDCG@10"]
    recent = evaluate_full(model(decayed(split.train, 20)), split, 10).means["NDCG@10"]
    assert recent > 1.2 * plain

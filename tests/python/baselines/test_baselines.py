"""Baselines: scores against their definitions; ranks and lists by the same rules as `Scorer`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrices import dataset_of
from neuralcf import ArgumentError, Scorer
from neuralcf.baselines import BASELINES, EASE, Baseline, ItemKNN, Popularity
from reference import Shape, random_tensors


def random_matrix(users=40, items=17, seed=0):
    """Random binary interactions; the last item has none, and item 3 is a copy of item 2."""
    matrix = (np.random.default_rng(seed).random((users, items)) < 0.3).astype(float)
    matrix[:, -1] = 0
    matrix[:, 3] = matrix[:, 2]
    return matrix


def rows(mask):
    return np.concatenate([[0], mask.sum(axis=1).cumsum()]), np.nonzero(mask)[1].astype(np.int32)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Small data use several blocks, too, the last of them partial."""
    monkeypatch.setattr("neuralcf.baselines.base._BLOCK_CELLS", 55)


def test_popularity_counts_users():
    matrix = random_matrix()
    assert (Popularity(dataset_of(matrix)).scores(np.array([3, 0])) == matrix.sum(axis=0)).all()


def test_item_knn_by_hand():
    """Two users have items 0 and 1, one of them item 2 too; nobody has item 3."""
    train = dataset_of(np.array([[1, 1, 0, 0], [1, 1, 1, 0]]))
    cosine = 1 / np.sqrt(2)
    scores = ItemKNN(train, neighbours=3, shrinkage=0).scores(np.array([0, 1]))
    assert scores == pytest.approx(np.array([[1, 1, 2 * cosine, 0], [1 + cosine, 1 + cosine, 2 * cosine, 0]]))
    nearest = ItemKNN(train, neighbours=1, shrinkage=0).scores(np.array([0, 1]))
    assert nearest == pytest.approx(np.array([[1, 1, cosine, 0]] * 2))  # a tie: item 2 keeps item 0, not item 1
    shrunk = ItemKNN(train, neighbours=1, shrinkage=2).scores(np.array([0]))
    assert shrunk[0, 0] == pytest.approx(2 / (2 + 2))


@pytest.mark.parametrize("neighbours", [1, 4, 16, 100])
def test_item_knn_against_loops(neighbours):
    matrix = random_matrix()
    num_items = matrix.shape[1]
    similarity = np.zeros((num_items, num_items))
    for i in range(num_items):
        for j in set(range(num_items)) - {i}:
            both = matrix[:, i] @ matrix[:, j]
            similarity[i, j] = both / (np.sqrt(matrix[:, i].sum() * matrix[:, j].sum()) + 5)
    expected = np.zeros_like(matrix)
    for i in range(num_items):
        for j in sorted(range(num_items), key=lambda j: (-similarity[i, j], j))[:neighbours]:
            expected[:, i] += matrix[:, j] * similarity[i, j]
    got = ItemKNN(dataset_of(matrix), neighbours=neighbours, shrinkage=5).scores(np.arange(len(matrix)))
    assert got == pytest.approx(expected)


@pytest.mark.parametrize("users", [40, 11])
def test_ease_solves_its_constrained_problem(users):
    """Column j of B is the ridge regression of item j on all other items; here each one is solved separately."""
    matrix, l2 = random_matrix(users), 7.0
    weights = np.zeros((matrix.shape[1],) * 2)
    for j in range(matrix.shape[1]):
        others = np.delete(np.arange(matrix.shape[1]), j)
        x = matrix[:, others]
        weights[others, j] = np.linalg.solve(x.T @ x + l2 * np.eye(len(others)), x.T @ matrix[:, j])
    got = EASE(dataset_of(matrix), l2=l2)
    assert got.weights == pytest.approx(weights, abs=1e-10)
    assert got.scores(np.array([5, 2])) == pytest.approx(matrix[[5, 2]] @ weights)


def test_ease_n_weighs_users_by_the_length_of_their_histories():
    matrix, l2 = random_matrix(), 7.0
    matrix[4] = 0  # a user without interactions has no weight
    lengths = matrix.sum(axis=1)
    weighted = matrix * np.where(lengths > 0, lengths, 1)[:, None] ** -0.25
    gram = weighted.T @ weighted
    gram *= matrix.sum() / np.trace(gram)
    inverse = np.linalg.inv(gram + l2 * np.eye(matrix.shape[1]))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    got = EASE(dataset_of(matrix), l2=l2, row_exponent=0.25)
    assert got.weights == pytest.approx(expected, abs=1e-10)
    integers = EASE(dataset_of(matrix), l2=7, row_exponent=0)
    assert np.array_equal(integers.weights, EASE(dataset_of(matrix), l2=l2).weights)
    half = EASE(dataset_of(matrix), l2=l2, row_exponent=0.25, dtype=np.float32)
    assert half.weights.dtype == np.float32
    assert half.weights == pytest.approx(expected, abs=1e-5)


class Known(Baseline):
    """A baseline with given scores."""

    name = "known"

    def __init__(self, scores):
        super().__init__(dataset_of(np.ones(scores.shape)))
        self.given = scores

    def scores(self, users):
        return self.given[users].astype(np.float64)


@given(st.integers(0, 2**32 - 1))
def test_ranks_and_lists_equal_those_of_scorer(seed):
    """Few distinct logits, hence many ties; all filters, which may include the ranked item."""
    rng = np.random.default_rng(seed)
    tensors = {
        "gmf.user_embedding.weight": rng.integers(-1, 2, (6, 2)),
        "gmf.item_embedding.weight": rng.integers(-1, 2, (23, 2)),
        "output.weight": np.ones((1, 2)),
        "output.bias": np.zeros(1),
    }
    scorer = Scorer.from_tensors({name: value.astype(np.float32) for name, value in tensors.items()})
    ours = Known(tensors["gmf.user_embedding.weight"] @ tensors["gmf.item_embedding.weight"].T)
    users, items = rng.integers(0, 6, 14), rng.integers(0, 23, 14)
    some, others = rows(rng.random((14, 23)) < 0.4), rows(rng.random((14, 23)) < 0.4)
    unsorted = (2 * some[0], np.concatenate([np.tile(some[1][a:b], 2) for a, b in zip(some[0], some[0][1:])]))  # noqa: B905
    for filters in ({}, {"exclude": some}, {"allow": unsorted}, {"exclude": some, "allow": others}):
        assert ours.rank_of(users, items, **filters).tolist() == scorer.rank_of(users, items, **filters).tolist()
    for exclude in (None, some):
        best, expected = ours.top_k(users, 30, exclude=exclude), scorer.top_k(users, 30, exclude=exclude, logits=True)
        assert best.ids.tolist() == expected.ids.tolist()
        assert best.scores.tolist() == expected.scores.tolist()


def test_ranks_equal_those_of_scorer_for_a_neumf():
    """Logits of a NeuMF with 101 items, computed by score_batch."""
    scorer = Scorer.from_tensors(random_tensors(Shape(users=9, items=101, g=5, mlp=(3, 6), layers=(7, 4))))
    users, items = (index.ravel() for index in np.indices((9, 101)))
    ours = Known(scorer.score_batch(users, items, logits=True).reshape(9, 101))
    assert ours.rank_of(users, items).tolist() == scorer.rank_of(users, items).tolist()


@pytest.mark.parametrize("filters", [(), ("exclude",), ("allow",), ("exclude", "allow")])
def test_popularity_ranks_equal_those_of_its_scores(filters):
    matrix, rng = random_matrix(), np.random.default_rng(1)
    popularity = Popularity(dataset_of(matrix))
    users, items = rng.integers(0, 40, 60), rng.integers(0, 17, 60)
    given_rows = {name: rows(rng.random((60, 17)) < 0.4) for name in filters}
    expected = Known(popularity.scores(np.arange(40))).rank_of(users, items, **given_rows)
    assert popularity.rank_of(users, items, **given_rows).tolist() == expected.tolist()


def test_names_and_wrong_settings():
    train = dataset_of(random_matrix())
    assert list(BASELINES) == ["popularity", "itemknn", "ease", "ials", "graph"]
    with pytest.raises(ArgumentError, match="neighbours: expected"):
        ItemKNN(train, neighbours=0)
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ArgumentError, match="shrinkage: expected"):
            ItemKNN(train, shrinkage=wrong)
        with pytest.raises(ArgumentError, match="l2: expected"):
            EASE(train, l2=wrong)
        with pytest.raises(ArgumentError, match="row_exponent: expected"):
            EASE(train, row_exponent=wrong)
    with pytest.raises(ArgumentError, match="dtype: expected"):
        EASE(train, dtype=np.int64)

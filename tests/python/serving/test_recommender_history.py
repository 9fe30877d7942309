"""Lists and vectors for users who are not in the model, from the items that they have."""

import numpy as np
import pyarrow as pa
import pytest

import neuralcf
from neuralcf import ArgumentError, Recommender, UnknownItemError
from reference import Shape, random_history, random_tensors

USERS, ITEMS, WIDTH = 6, 90, 18
HISTORIES = [[3, 5, 60], [0], [89, 1, 2, 3, 4, 5, 6, 7, 8, 9, 40, 41], [5, 3, 60]]


@pytest.fixture(scope="module", params=["int", "str"])
def model(request, tmp_path_factory):
    items = np.random.default_rng(2).permutation(900)[:ITEMS] - 400
    ids = (list(range(USERS)), items.tolist())
    if request.param == "str":
        ids = ([f"u{n}" for n in ids[0]], [f"u{n}" for n in ids[1]])
    path = tmp_path_factory.mktemp("model") / request.param
    seen = np.arange(USERS + 1) * 2, np.arange(2 * USERS)
    tensors = random_tensors(Shape(USERS, ITEMS, g=WIDTH))
    neuralcf.save(tensors, path, kind="gmf", ids=ids, seen=seen, history=random_history(ITEMS, WIDTH))
    return Recommender.load(path), ids[1]


def in_ids(items, histories=HISTORIES):
    return [[items[i] for i in history] for history in histories]


def test_lists_are_those_of_the_scorer(model):
    recommender, items = model
    rows = np.cumsum([0, *map(len, HISTORIES)]), np.concatenate(HISTORIES)
    vectors = recommender.scorer.fold_in(rows)
    assert recommender.user_vectors_for(in_ids(items)).gmf.tobytes() == vectors.gmf.tobytes()
    expected = recommender.scorer.top_k(vectors, 7, exclude=rows, deny=[20])
    found = recommender.recommend_for_history(in_ids(items), 7, deny=[items[20]])
    assert found.ids.tolist() == [[items[i] for i in row] for row in expected.ids]
    assert found.scores.tobytes() == expected.scores.tobytes()
    assert found.counts.tolist() == [7] * 4
    assert found.known.all()
    assert found.ids[0].tolist() == found.ids[3].tolist()  # the order of a history does not matter
    everything = recommender.recommend_for_history(in_ids(items), ITEMS, exclude_seen=False)
    assert everything.counts.tolist() == [ITEMS] * 4


def test_one_history_drops_a_dimension(model):
    recommender, items = model
    batch = recommender.recommend_for_history(in_ids(items), 5)
    for row, history in enumerate(in_ids(items)):
        single = recommender.recommend_for_history(history, 5)
        assert single.ids.tolist() == batch.ids[row].tolist()
        assert single.scores.tobytes() == batch.scores[row].tobytes()
    assert recommender.user_vectors_for(in_ids(items)[0]).gmf.shape == (1, WIDTH)
    assert recommender.user_vectors_for([]).gmf.shape == (1, WIDTH)
    nothing = recommender.recommend_for_history([], 3)
    assert (nothing.known, nothing.counts) == (False, 3)


def test_histories_come_in_any_form(model):
    recommender, items = model
    expected = recommender.recommend_for_history(in_ids(items), 5)
    pandas, polars = (pytest.importorskip(name) for name in ("pandas", "polars"))
    forms = (
        tuple(in_ids(items)),
        [np.array(row) for row in in_ids(items)],
        [set(row) for row in in_ids(items)],
        pa.array(in_ids(items)),
        pandas.Series(in_ids(items)),
        polars.Series(in_ids(items)),
        iter(in_ids(items)),
    )
    for form in forms:
        assert recommender.recommend_for_history(form, 5).ids.tolist() == expected.ids.tolist()
    one = in_ids(items)[0]
    for form in (np.array(one), pa.array(one), pandas.Series(one), dict.fromkeys(one).keys()):
        assert recommender.recommend_for_history(form, 5).ids.tolist() == expected.ids[0].tolist()
    matrix = np.array(in_ids(items, [[1, 2], [3, 4]]))
    assert recommender.recommend_for_history(matrix, 5).ids.shape == (2, 5)


def test_a_weight_counts_as_so_many_items(model):
    recommender, items = model
    tensors = random_history(ITEMS, WIDTH)
    history, weights = np.array([3, 5, 60, 61]), np.array([2.0, 1.0, 0.5, 3.0])
    wide = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    n, expected = weights.sum(), wide["bias"].copy()
    for k in range(2):
        rows = wide[f"linear.{k}.items"][history]
        expected += n ** -wide[f"linear.{k}.exponent"][0] * (weights @ rows)
    h = wide["ridge.0.items"][history]
    normal = (h.T * weights) @ h + np.diag(wide["ridge.0.diagonal"] + wide["ridge.0.l2"][0] + n * wide["ridge.0.l2"][1])
    expected += np.linalg.solve(normal, h.T @ weights) @ wide["ridge.0.output"]
    ids = in_ids(items, [history])[0]
    np.testing.assert_allclose(
        recommender.user_vectors_for(ids, weights=weights).gmf[0], expected, rtol=1e-5, atol=1e-6
    )
    many = np.arange(40)  # more than the regression is wide
    h = wide["ridge.0.items"][many]
    twice = recommender.user_vectors_for(in_ids(items, [many])[0], weights=[2] * 40).gmf[0]
    repeated = recommender.user_vectors_for(in_ids(items, [many])[0] * 2, weights=[1] * 80).gmf[0]
    assert twice.tobytes() == repeated.tobytes()
    ones = recommender.user_vectors_for(in_ids(items), weights=[np.ones(len(row)) for row in HISTORIES])
    assert ones.gmf.tobytes() == recommender.user_vectors_for(in_ids(items)).gmf.tobytes()


def test_unknown_items_of_a_history(model):
    recommender, items = model
    stranger = "nothing" if isinstance(items[0], str) else 10**6
    with pytest.raises(UnknownItemError, match="items: not in the model"):
        recommender.recommend_for_history([items[0], stranger])
    mixed = [[items[3], stranger, items[5]], [stranger], [items[0]]]
    weights = [[1, 7, 2], [5], [4]]
    skipped = recommender.recommend_for_history(mixed, 4, weights=weights, on_unknown="skip")
    assert skipped.known.tolist() == [True, False, True]
    assert skipped.counts.tolist() == [4, 4, 4]
    expected = recommender.recommend_for_history([items[3], items[5]], 4, weights=[1, 2])
    assert skipped.ids[0].tolist() == expected.ids.tolist()
    assert skipped.ids[1].tolist() == recommender.recommend_for_history([], 4).ids.tolist()
    popular = recommender.recommend_for_history(mixed, 4, weights=weights, on_unknown="popular")
    assert popular.ids[1].tolist() == recommender.recommend(stranger, 4, on_unknown="popular").ids.tolist()
    assert popular.ids[[0, 2]].tolist() == skipped.ids[[0, 2]].tolist()


BAD = [
    ([[3, 5], [4]], [[1, 1]], ArgumentError, "weights: expected 2, a list for each history, got 1"),
    ([[3, 5], [4]], [[1], [1, 1]], ArgumentError, r"weights\[0\]: expected 2, one for each item, got 1"),
    ([[3, 5], [4]], [1, 1, 1], ArgumentError, r"weights\[0\]: expected 2, one for each item, got 3"),
    ([3, 5], [1], ArgumentError, "weights: expected 2, one for each item, got 1"),
    ([3, 5], [1, 0], ArgumentError, r"weights\[1\]: expected a finite number above 0, got 0"),
    ([3, 5], [1, -1], ArgumentError, r"weights\[1\]: expected a finite number above 0, got -1"),
    ([3, 5], [1, np.nan], ArgumentError, r"weights\[1\]: expected a finite number above 0, got NaN"),
    ([3, 5], ["a", "b"], TypeError, "weights: expected numbers"),
]


@pytest.mark.parametrize(("history", "weights", "error", "message"), BAD, ids=[str(row[1]) for row in BAD])
def test_bad_weights_are_refused(model, history, weights, error, message):
    recommender, items = model
    ids = in_ids(items, history) if isinstance(history[0], list) else in_ids(items, [history])[0]
    with pytest.raises(error, match=message):
        recommender.recommend_for_history(ids, weights=weights)


def test_bad_histories_are_refused(model):
    recommender, items = model
    wrong = 7 if isinstance(items[0], str) else "7"
    for history in ([wrong], [[wrong]], wrong, None, [[items[0]], items[0]]):
        with pytest.raises(TypeError, match="items"):
            recommender.recommend_for_history(history)

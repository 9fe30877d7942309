"""Similar items and users, explanations and ranks, in ids."""

import numpy as np
import pytest

import neuralcf
from neuralcf import ArgumentError, Recommender, UnknownItemError, UnknownUserError
from reference import Shape, random_history, random_tensors, ranks

USERS, ITEMS = 30, 70
SHAPES = [
    Shape(USERS, ITEMS, g=6),
    Shape(USERS, ITEMS, mlp=(5, 4), layers=(8, 3)),
    Shape(USERS, ITEMS, g=3, mlp=(4, 5), layers=(6,)),
]


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def model(request, tmp_path_factory):
    shape = request.param
    rng = np.random.default_rng(4)
    users, items = [f"u{n}" for n in rng.permutation(USERS)], rng.permutation(1000)[:ITEMS].tolist()
    seen = [rng.choice(ITEMS, 8, replace=False) for _ in range(USERS)]
    path = tmp_path_factory.mktemp("model") / "m"
    history = random_history(ITEMS, shape.g + shape.mlp[0]) if shape.kind == "gmf" else None
    rows = np.arange(USERS + 1) * 8, np.concatenate(seen)
    neuralcf.save(random_tensors(shape), path, kind=shape.kind, ids=(users, items), seen=rows, history=history)
    recommender = Recommender.load(path)
    pairs = np.repeat(np.arange(USERS), ITEMS), np.tile(np.arange(ITEMS), USERS)
    logits = recommender.scorer.score_batch(*pairs, logits=True).reshape(USERS, ITEMS)
    return recommender, users, items, logits, seen


def naive_cosines(logits):
    """Double-centred, for each row (all columns are among the 128)."""
    x = logits.astype(np.float64)
    x = x - x.mean(axis=0) - x.mean(axis=1, keepdims=True) + x.mean()
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def test_similar_items_are_those_of_the_documented_space(model):
    recommender, _, items, logits, _ = model
    cosines = naive_cosines(logits.T)
    found = recommender.similar_items(items[:9], 12)
    for row, n in enumerate(found.ids.tolist()):
        assert items[row] not in n
        np.testing.assert_allclose(found.scores[row], [cosines[row, items.index(id_)] for id_ in n], atol=2e-5)
        others = np.delete(cosines[row], row)
        np.testing.assert_allclose(found.scores[row], np.sort(others)[::-1][:12], atol=2e-5)
    one = recommender.similar_items(items[3], 5, deny=[found.ids[3, 0]], min_score=0.0)
    assert one.ids.tolist()[: one.counts] == [id_ for id_, s in found[3].to_list()[1:6] if s >= 0]
    with pytest.raises(UnknownItemError):
        recommender.similar_items(-5)
    skipped = recommender.similar_items([-5, items[0]], 3, on_unknown="skip")
    assert skipped.known.tolist() == [False, True]
    assert skipped.counts.tolist() == [0, 3]


def test_similar_users(model):
    recommender, users, _, logits, _ = model
    cosines = naive_cosines(logits)
    found = recommender.similar_users(users[:4], 5)
    for row in range(4):
        expected = np.sort(np.delete(cosines[row], row))[::-1][:5]
        np.testing.assert_allclose(found.scores[row], expected, atol=2e-5)
        assert users[row] not in found.ids[row]
    assert recommender.similar_users(users[2], 5).ids.tolist() == found.ids[2].tolist()
    with pytest.raises(UnknownUserError):
        recommender.similar_users("nobody")


def test_items_that_score_alike_for_all_are_similar_to_none(tmp_path):
    tensors = {
        "gmf.user_embedding.weight": np.array([[1, 1], [1, 2], [1, -3]], np.float32),
        "gmf.item_embedding.weight": np.array([[5, 0], [1, 0], [1, 1], [0, 1]], np.float32),
        "output.weight": np.ones((1, 2), np.float32),
        "output.bias": np.zeros(1, np.float32),
    }
    neuralcf.save(tensors, tmp_path / "m", kind="gmf", ids=([1, 2, 3], [1, 2, 3, 4]))
    found = Recommender.load(tmp_path / "m").similar_items([1, 3], 3)
    assert found.ids[1].tolist()[0] == 4  # both depend on the second factor alone
    np.testing.assert_allclose(found.scores[1, 0], 1, atol=1e-6)


def test_the_terms_sum_to_the_logit(model):
    recommender, users, items, logits, _ = model
    tensors = random_tensors(Shape(USERS, ITEMS, g=6))
    for user, item in ((0, 0), (7, 20), (29, 69)):
        why = recommender.explain(users[user], items[item])
        assert (why.user, why.item, why.generation) == (users[user], items[item], 1)
        total = why.bias
        for term in [*why.gmf.tolist(), *why.mlp.tolist()]:
            total += term
        assert np.float32(total) == why.logit == logits[user, item]
        assert why.probability == recommender.score_batch(users[user], [items[item]])[0]
    if recommender.scorer.kind == "gmf":
        weight = tensors["output.weight"][0].astype(np.float64)
        p, q = (tensors[f"gmf.{side}_embedding.weight"][row] for side, row in (("user", 29), ("item", 69)))
        np.testing.assert_allclose(why.gmf, weight * p * q, atol=1e-5)
        assert why.mlp.size == 0


def test_reasons_are_what_the_logit_loses_without_an_item(model):
    recommender, users, items, _, seen = model
    scorer, user, item = recommender.scorer, 5, 33
    history = np.sort(seen[user][seen[user] != item])
    with_all = scorer.fold_in(([0, len(history)], history))
    full = scorer.score_batch(with_all, [item], logits=True)[0]
    falls = {}
    for left_out in history:
        rest = history[history != left_out]
        without = scorer.score_batch(scorer.fold_in(([0, len(rest)], rest)), [item], logits=True)[0]
        falls[items[left_out]] = float(full) - float(without)
    expected = sorted(((id_, fall) for id_, fall in falls.items() if fall > 0), key=lambda pair: -pair[1])
    why = recommender.explain(users[user], items[item], reasons=3)
    assert why.reasons == expected[:3]
    assert recommender.explain(users[user], items[item], reasons=0).reasons == []
    with pytest.raises(ArgumentError, match="reasons: expected an integer of at least 0, got -1"):
        recommender.explain(users[user], items[item], reasons=-1)
    with pytest.raises(UnknownUserError, match="user: not in the model: 'nobody'"):
        recommender.explain("nobody", items[0])
    with pytest.raises(TypeError, match="item: this model's ids are int64"):
        recommender.explain(users[0], "7")


def test_ranks(model):
    recommender, users, items, logits, seen = model
    kept = np.ones((USERS, ITEMS), bool)
    kept[np.arange(USERS)[:, None], np.array(seen)] = False
    kept[:, 7] = False
    chosen = np.arange(USERS) * 2
    found = recommender.rank_of(users, [items[n] for n in chosen], deny=[items[7]])
    assert found.tolist() == ranks(logits, kept, chosen).tolist()
    one = recommender.rank_of(users[3], items, exclude_seen=False)
    everything = np.ones((ITEMS, ITEMS), bool)
    assert one.tolist() == ranks(np.tile(logits[3], (ITEMS, 1)), everything, np.arange(ITEMS)).tolist()
    with pytest.raises(UnknownItemError):
        recommender.rank_of(users[0], [-5])

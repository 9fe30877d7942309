"""Filters in ids: named sets and their expressions as Python's sets, lists for each user, the least score."""

import random
import re

import numpy as np
import pytest

import neuralcf
from neuralcf import ArgumentError, Recommender, UnknownItemError
from neuralcf._core import ItemSet, ItemSets
from reference import Shape, best, random_tensors

USERS, ITEMS = 7, 150
KINDS = ["int", "str"]


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    shape = Shape(USERS, ITEMS, g=6, mlp=(5, 7), layers=(8, 4))
    rng = np.random.default_rng(3)
    users, items = (np.random.default_rng(seed).permutation(900)[:n] - 400 for seed, n in ((1, USERS), (2, ITEMS)))
    ids = (users, items) if request.param == "int" else ([f"u{n}" for n in users], [f"i{n}" for n in items])
    seen = [rng.choice(ITEMS, rng.integers(0, 40), replace=False) for _ in range(USERS)]
    path = tmp_path_factory.mktemp("model") / request.param
    rows = np.cumsum([0, *map(len, seen)]), np.concatenate(seen)
    neuralcf.save(random_tensors(shape), path, kind="neumf", ids=ids, seen=rows)
    recommender = Recommender.load(path)
    logits = recommender.scorer.score_batch(
        np.repeat(np.arange(USERS), ITEMS), np.tile(np.arange(ITEMS), USERS), logits=True
    )
    seen_mask = np.zeros((USERS, ITEMS), bool)
    for row, items_of in zip(seen_mask, seen, strict=True):
        row[items_of] = True
    return recommender, [list(part) for part in ids], logits.reshape(USERS, ITEMS), seen_mask


def random_expression(rng: random.Random, names: list[str], depth: int = 3) -> str:
    if depth == 0 or rng.random() < 0.3:
        return rng.choice(names)
    left, right = (random_expression(rng, names, depth - 1) for _ in range(2))
    text = f"{left}{rng.choice(['', ' '])}{rng.choice('-&^|')} {right}"
    return f"({text})" if rng.random() < 0.4 else text


def test_an_expression_means_what_it_means_for_pythons_sets():
    rng = random.Random(0)
    sets, expected = ItemSets(130), {}
    for name in ("a", "b_1", "C", "ü"):
        expected[name] = set(rng.sample(range(130), rng.randrange(130)))
        sets = sets.with_set(name, ItemSet(130, sorted(expected[name])))
    sizes = set()
    for _ in range(500):
        expression = random_expression(rng, list(expected))
        found = sets.evaluate(expression)
        assert found.indices().tolist() == sorted(eval(expression, {}, expected)), expression
        sizes.add(len(found))
    assert len(sizes) > 50
    assert sets.names == sorted(expected)
    assert sets.without("a").names == sorted(expected.keys() - {"a"})
    assert "a" in sets.names
    assert sets.without("d") is None
    assert sets.get("d") is None


def test_filters_are_those_of_a_naive_ranking(model):
    recommender, (users, items), logits, seen = model
    rng = np.random.default_rng(5)
    sets = {}
    for name in ("in_stock", "shoes", "adult"):
        sets[name] = set(rng.choice(ITEMS, 80, replace=False).tolist())
        recommender.set_items(name, [items[i] for i in sets[name]])
    assert recommender.item_sets == dict.fromkeys(sorted(sets), 80)
    expressions = [None, "in_stock & shoes - adult", "shoes | adult ^ in_stock", "adult"]
    lengths = set()
    for trial in range(60):
        rows = rng.choice(USERS, rng.integers(1, 5))
        allow, deny = (expressions[rng.integers(len(expressions))] for _ in range(2))
        listed = None if trial % 3 else rng.choice(ITEMS, 60, replace=False)
        lists = None if trial % 2 else [rng.choice(ITEMS, rng.integers(0, 30)) for _ in rows]
        kept = np.ones((len(rows), ITEMS), bool)
        exclude_seen = bool(rng.integers(2))
        if exclude_seen:
            kept &= ~seen[rows]
        for row, excluded in enumerate(lists or []):
            kept[row, excluded] = False
        for ids, keeps in ((allow, True), (deny, False)):
            if ids is not None:
                inside = np.isin(np.arange(ITEMS), list(eval(ids, {}, sets)))
                kept &= inside if keeps else ~inside
        if listed is not None:
            kept &= np.isin(np.arange(ITEMS), listed) if allow is None else True
            allow = [items[i] for i in listed] if allow is None else allow
        least = float(rng.choice(logits[rows].ravel()))
        kept &= logits[rows] >= least
        found = recommender.recommend(
            [users[row] for row in rows],
            12,
            exclude_seen=exclude_seen,
            exclude=lists if lists is None else [[items[i] for i in row] for row in lists],
            allow=allow,
            deny=deny,
            min_score=least,
            logits=True,
        )
        indices, scores = best(logits[rows], kept, 12)
        expected = [[items[i] if i >= 0 else None for i in row] for row in indices]
        got = [row[:n] + [None] * (12 - n) for row, n in zip(found.ids.tolist(), found.counts, strict=True)]
        assert got == expected
        assert np.array_equal(found.scores, scores)
        assert found.counts.tolist() == (indices >= 0).sum(axis=1).tolist()
        lengths.update(found.counts.tolist())
    assert {0, 12} < lengths


def test_sets_change_as_a_whole_and_generations_tell(model):
    recommender, (users, items), _, _ = model
    before = recommender.generation
    recommender.set_items("some", items[:5])
    recommender.change_items("some", add=items[3:8], remove=[items[0], items[20], items[7]])
    assert recommender.generation == before + 2
    answer = recommender.recommend(users[0], ITEMS, exclude_seen=False, allow="some")
    assert answer.generation == before + 2
    assert set(answer.ids[: answer.counts].tolist()) == set(items[1:7])
    nothing = recommender.recommend(users[0], 3, exclude_seen=False, allow="some - some")
    assert nothing.counts == 0
    recommender.drop_items("some")
    with pytest.raises(ArgumentError, match='allow: no set is named "some"'):
        recommender.recommend(users[0], allow="some")
    stranger = "nothing" if isinstance(items[0], str) else 10**6
    recommender.set_items("others", [stranger, items[0]], on_unknown="skip")
    assert recommender.item_sets["others"] == 1
    recommender.drop_items("others")


def test_popular_items_are_for_unknown_users(model):
    recommender, (users, items), _, seen = model
    stranger = "nobody" if isinstance(users[0], str) else 10**6
    counts = seen.sum(axis=0)
    order = np.lexsort((np.arange(ITEMS), -counts))
    denied = [items[order[0]]]
    excluded = [[], [items[order[2]]], []]
    found = recommender.recommend(
        [users[0], stranger, users[1]], 5, deny=denied, exclude=excluded, on_unknown="popular"
    )
    assert found.known.tolist() == [True, False, True]
    assert found.counts.tolist() == [5, 5, 5]
    assert found.ids[1].tolist() == [items[i] for i in order[[1, 3, 4, 5, 6]]]
    np.testing.assert_allclose(found.scores[1], (counts[order[[1, 3, 4, 5, 6]]] + 0.5) / (USERS + 1), rtol=1e-6)
    alone = recommender.recommend(users[0], 5, deny=denied)
    assert found.ids[0].tolist() == alone.ids.tolist()
    single = recommender.recommend(stranger, 2, on_unknown="popular")
    assert (single.known, single.counts) == (False, 2)


def test_results_unpack_and_have_rows(model):
    recommender, (users, items), _, seen = model
    result = recommender.recommend(users[:3], 130)
    ids, scores = result
    assert ids is result.ids
    assert scores is result.scores
    assert len(result) == 3
    lists = result.to_list()
    assert [len(row) for row in lists] == result.counts.tolist() == [min(130, n) for n in (~seen[:3]).sum(axis=1)]
    assert lists[1][0] == (ids[1].tolist()[0], float(scores[1, 0]))
    assert result[1].to_list() == lists[1]
    assert {type(id_) for id_, _ in lists[0]} == {type(items[0]) if isinstance(items[0], str) else int}


BAD = [
    ({"allow": "in_stock &"}, ArgumentError, r'allow: "in_stock &": expected the name of a set or .* at position 10'),
    ({"deny": "nope"}, ArgumentError, r'deny: no set is named "nope"'),
    ({"min_score": float("nan")}, ArgumentError, "min_score: expected a number, got nan"),
    ({"min_score": "0.5"}, TypeError, "min_score: expected a number, got str"),
    ({"min_score": True}, TypeError, "min_score: expected a number, got bool"),
    ({"exclude": [[], []]}, ArgumentError, "exclude: expected a list of ids for each of 3 users, got 2"),
    ({"exclude": []}, ArgumentError, "exclude: expected a list of ids for each of 3 users, got one list of ids"),
    ({"on_unknown": "ignore"}, ArgumentError, 'on_unknown: expected "raise" or "skip" or "popular"'),
    ({"k": 0}, ArgumentError, "k: expected an integer of at least 1"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD, ids=[str(row[0]) for row in BAD])
def test_bad_filters_are_refused(model, options, error, message):
    recommender, (users, items), _, _ = model
    recommender.set_items("in_stock", items)
    with pytest.raises(error, match=message):
        recommender.recommend(users[:3], **options)


def test_bad_sets_are_refused(model):
    recommender, (users, items), _, _ = model
    generation = recommender.generation
    wrong = 7 if isinstance(items[0], str) else "7"
    stranger = "nothing" if isinstance(items[0], str) else 10**6
    for name in ("", "in stock", "a-b", "a|b", "(a)"):
        with pytest.raises(ArgumentError, match=re.escape("name: expected letters, digits, '_', '.' and ':'")):
            recommender.set_items(name, items)
    with pytest.raises(TypeError, match="items: this model's ids are"):
        recommender.set_items("a", [wrong])
    with pytest.raises(UnknownItemError, match="items: not in the model"):
        recommender.set_items("a", [stranger])
    with pytest.raises(ArgumentError, match="name: no set is named 'a'; known: "):
        recommender.change_items("a", add=items[:1])
    with pytest.raises(ArgumentError, match="name: no set is named 'a'; known: "):
        recommender.drop_items("a")
    with pytest.raises(ArgumentError, match='on_unknown: expected "raise" or "skip", got \'popular\''):
        recommender.set_items("a", items, on_unknown="popular")
    with pytest.raises(TypeError, match=r"exclude\[1\]: expected a list of ids, got"):
        recommender.recommend(users[:2], exclude=[[items[0]], items[0]])
    assert recommender.generation == generation


def test_popular_needs_interactions(tmp_path):
    neuralcf.save(random_tensors(Shape(2, 3, g=2)), tmp_path / "m", kind="gmf", ids=([1, 2], [1, 2, 3]))
    recommender = Recommender.load(tmp_path / "m")
    with pytest.raises(ArgumentError, match='on_unknown: "popular" needs stored interactions'):
        recommender.recommend(1, exclude_seen=False, on_unknown="popular")

"""At most so many items of a group, and the next page: what walking down the whole ranking gives."""

import numpy as np
import pytest

import neuralcf
from neuralcf import ArgumentError, Recommender, Scorer
from neuralcf._core import Groups
from reference import Shape, random_tensors, ruler

USERS, ITEMS = 5, 160
SHAPES = [Shape(USERS, ITEMS, g=7), Shape(USERS, ITEMS, g=3, mlp=(4, 5), layers=(6, 3))]


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def model(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m"
    rng = np.random.default_rng(1)
    items = [f"i{n}" for n in rng.permutation(ITEMS)]
    tensors = random_tensors(request.param)
    for name in tensors:
        if "item_embedding" in name:
            tensors[name][::5] = tensors[name][0]  # many ties
    rows = np.arange(USERS + 1) * 20, np.concatenate([rng.choice(ITEMS, 20, replace=False) for _ in range(USERS)])
    neuralcf.save(tensors, path, kind=request.param.kind, ids=(list(range(USERS)), items), seen=rows)
    recommender = Recommender.load(path)
    brands, authors = (rng.integers(-1, n, ITEMS) for n in (6, 40))
    recommender.set_groups("brand", items, [None if n < 0 else f"b{n}" for n in brands])
    recommender.set_groups("author", items, np.where(authors < 0, -7, authors))
    authors[authors < 0] = 99  # -7 is a group like any other
    return recommender, items, brands, authors


def naive_walk(ranking, limits):
    """Walk down a ranking of indices; a group of -1 has no limit."""
    taken, kept = [{} for _ in limits], []
    for item in ranking:
        groups = [groups[item] for groups, _ in limits]
        if any(g >= 0 and t.get(g, 0) >= most for g, t, (_, most) in zip(groups, taken, limits, strict=True)):
            continue
        for g, t in zip(groups, taken, strict=True):
            t[g] = t.get(g, 0) + 1
        kept.append(item)
    return kept


@pytest.mark.parametrize("logits", [True, False])
def test_pages_are_the_walk_down_the_whole_ranking(model, logits):
    recommender, items, brands, authors = model
    index = {id_: n for n, id_ in enumerate(items)}
    rng = np.random.default_rng(2)
    lengths = set()
    for _ in range(25):
        limits = [[], [("brand", 2)], [("author", 1)], [("brand", 3), ("author", 1)]][rng.integers(4)]
        arrays = {"brand": brands, "author": authors}
        options = {"exclude_seen": bool(rng.integers(2)), "logits": logits}
        if rng.integers(2):
            options["deny"] = [items[n] for n in rng.choice(ITEMS, 50, replace=False)]
        users, k = rng.choice(USERS, 2, replace=False).tolist(), int(rng.integers(1, 14))
        whole = recommender.recommend(users, ITEMS, **options)
        kept = [
            naive_walk([index[id_] for id_ in row[:n].tolist()], [(arrays[name], most) for name, most in limits])
            for row, n in zip(whole.ids, whole.counts, strict=True)
        ]
        ends, at = None, 0
        for _ in range(4):
            page = recommender.recommend(users, k, max_per_group=dict(limits) or None, after=ends, **options)
            for row, expected, everything in zip(page.to_list(), kept, whole.to_list(), strict=True):
                assert [id_ for id_, _ in row] == [items[n] for n in expected[at : at + k]]
                assert set(row) <= set(everything)
                lengths.add(len(row))
            at += k
            if None in page.end:
                break
            ends = page.end
    assert len(lengths) > 10


def test_one_user_and_histories_page_alike(model):
    recommender, items, _, _ = model
    first = recommender.recommend(3, 4, max_per_group={"brand": 1})
    second = recommender.recommend(3, 4, max_per_group={"brand": 1}, after=first.end)
    assert (
        first.ids.tolist() + second.ids.tolist()[: second.counts]
        == (recommender.recommend(3, 8, max_per_group={"brand": 1}).ids.tolist()[: 4 + second.counts])
    )
    assert first.generation == second.generation
    history = [items[3], items[50]]
    first = recommender.recommend_for_history(history, 4)
    second = recommender.recommend_for_history(history, 4, after=first.end)
    assert first.ids.tolist() + second.ids.tolist() == recommender.recommend_for_history(history, 8).ids.tolist()
    some = recommender.recommend([3, 4], 4, after=[recommender.recommend(3, 4).end, None])
    assert some.ids[0].tolist() == recommender.recommend(3, 8).ids[4:].tolist()
    assert some.ids[1].tolist() == recommender.recommend(4, 4).ids.tolist()


def test_a_page_end_that_is_gone_is_a_score():
    scores = np.array([[5, 4, 4, 3, 3, 1]], np.float32)
    scorer = Scorer.from_tensors(ruler(scores))

    def page(score, item, **options):
        return scorer.top_k([0], 6, after=(np.array([score]), [item]), **options).ids[0].tolist()

    assert page(4.0, 1, logits=True) == [2, 3, 4, 5, -1, -1]
    assert page(4.0, 2, logits=True) == [3, 4, 5, -1, -1, -1]
    for gone in (-1, 0, 5):  # unknown, or with another score by now
        assert page(4.0, gone, logits=True) == [3, 4, 5, -1, -1, -1]
    assert page(4.5, -1, logits=True) == [1, 2, 3, 4, 5, -1]
    assert page(np.inf, -1, logits=True) == [0, 1, 2, 3, 4, 5]
    assert page(1.0, 5, logits=True) == [-1] * 6
    probabilities = scorer.top_k([0], 6).scores[0]
    assert page(probabilities[1], 1) == [2, 3, 4, 5, -1, -1]
    assert page(probabilities[1], -1) == [3, 4, 5, -1, -1, -1]
    assert page(1.5, -1) == [0, 1, 2, 3, 4, 5]
    assert page(0.0, -1) == [-1] * 6


def test_probabilities_that_saturate_still_page():
    scorer = Scorer.from_tensors(ruler(np.array([[200, 190, 180, 170]], np.float32)))
    probabilities = scorer.top_k([0], 4).scores
    assert (probabilities == 1).all()
    assert scorer.top_k([0], 2, after=(probabilities[0, 1:2], [1])).ids[0].tolist() == [2, 3]


BAD = [
    (
        {"max_per_group": {"colour": 1}},
        ArgumentError,
        "max_per_group: no groups are named 'colour'; known: author, brand",
    ),
    ({"max_per_group": {"brand": 0}}, ArgumentError, "max_per_group: expected an integer of at least 1, got 0"),
    ({"max_per_group": {"brand": 1.5}}, TypeError, "max_per_group: expected an integer, got float"),
    ({"max_per_group": 2}, TypeError, "max_per_group: expected a dictionary"),
    ({"after": (0.5, "i1")}, ArgumentError, r"after: expected \(score, id\) for each of 2 users, got 1"),
    ({"after": [(0.5, "i1"), "i1"]}, TypeError, r"after\[1\]: expected \(score, id\), got 'i1'"),
    ({"after": [(float("nan"), "i1"), None]}, ArgumentError, r"after\[0\]: expected a score, got NaN"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD, ids=[str(row[0]) for row in BAD])
def test_bad_walks_are_refused(model, options, error, message):
    recommender, *_ = model
    with pytest.raises(error, match=message):
        recommender.recommend([0, 1], 3, **options)


def test_bad_groups_are_refused(model):
    recommender, items, _, _ = model
    with pytest.raises(ArgumentError, match="groups: expected one for each of 3 items, got 2"):
        recommender.set_groups("a", items[:3], ["x", "y"])
    with pytest.raises(TypeError, match="name: expected a str, got int"):
        recommender.set_groups(3, items[:1], ["x"])
    with pytest.raises(ArgumentError, match="name: no groups are named 'a'; known: author, brand"):
        recommender.drop_groups("a")
    with pytest.raises(neuralcf.UnknownItemError):
        recommender.set_groups("a", ["nothing"], ["x"])
    recommender.set_groups("a", ["nothing", items[0]], ["x", "y"], on_unknown="skip")
    recommender.drop_groups("a")
    with pytest.raises(neuralcf.OutOfRangeError, match=r"groups\[1\]: expected -1 to 4294967294, got -2"):
        Groups([0, -2])
    with pytest.raises(ArgumentError, match="groups: expected one for each of 160 items, got 2"):
        recommender.scorer.top_k(0, 3, max_per_group=[(Groups([0, 1]), 1)])

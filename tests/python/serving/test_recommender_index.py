"""Approximate search by a `Recommender`: the scorer's lists in external ids, with all options, and shared calls."""

from pathlib import Path

import numpy as np
import pytest

import neuralcf
from neuralcf import ArgumentError, ItemVectors, ModelFormatError, Recommender, Scorer
from neuralcf.serving.recommendations import Recommendations
from neuralcf.serving.requests import RecommendRequest, recommend_requests
from reference import Shape, random_tensors

SHAPE = Shape(50, 1200, g=12)
USERS = [f"u{user}" for user in range(SHAPE.users)]
NEAR = {"search": "approximate", "recall": 0.9}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model"
    random = np.random.default_rng(0)
    seen = (
        np.arange(SHAPE.users + 1) * 4,
        np.concatenate([np.sort(random.choice(SHAPE.items, 4, replace=False)) for _ in range(SHAPE.users)]),
    )
    ids = (USERS, [10 * item for item in range(SHAPE.items)])
    neuralcf.save(random_tensors(SHAPE), path, kind="gmf", ids=ids, seen=seen)
    Scorer.load(path).build_index(lists=60).save_index()
    return path


@pytest.fixture
def recommender(model: Path) -> Recommender:
    return Recommender.load(model)


def assert_same(found: Recommendations, ids: np.ndarray, scores: np.ndarray) -> None:
    assert np.array_equal(found.ids, np.where(ids >= 0, 10 * ids, -1))
    assert found.scores.tobytes() == scores.tobytes()


@pytest.mark.parametrize("how", [NEAR, {"search": "approximate", "probes": 3}, {"search": "approximate"}])
def test_lists_are_those_of_the_scorer(recommender: Recommender, how: dict) -> None:
    scorer, users = recommender.scorer, np.arange(SHAPE.users)
    assert_same(recommender.recommend(USERS, 7, **how), *scorer.top_k(users, 7, exclude="seen", **how))
    recommender.set_items("few", range(0, 6000, 10))
    allow = np.arange(600)
    found = recommender.recommend(USERS, 7, allow="few", exclude_seen=False, logits=True, **how)
    assert_same(found, *scorer.top_k(users, 7, allow=allow, logits=True, **how))
    histories = [[10, 20, 500], [40]]
    vectors = recommender.user_vectors_for(histories)
    excluded = (np.array([0, 3, 4]), np.array([1, 2, 50, 4]))
    found = recommender.recommend_for_history(histories, 7, **how)
    assert_same(found, *scorer.top_k(vectors, 7, exclude=excluded, **how))
    lists = list(recommender.recommend_all(7, batch_size=20, **how))
    assert np.array_equal(np.concatenate([one.ids for one in lists]), recommender.recommend(USERS, 7, **how).ids)


def test_it_is_approximate_and_not_the_default(recommender: Recommender) -> None:
    exact = recommender.recommend(USERS, 20)
    few = recommender.recommend(USERS, 20, search="approximate", probes=1)
    assert (exact.ids != few.ids).any()
    assert np.array_equal(exact.ids, recommender.recommend(USERS, 20, search="exact").ids)


def test_unknown_users_get_popular_items_by_the_exact_search(recommender: Recommender) -> None:
    users = ["nobody", "u3"]
    found = recommender.recommend(users, 5, on_unknown="popular", **NEAR)
    assert np.array_equal(found.ids[0], recommender.recommend(users, 5, on_unknown="popular").ids[0])
    assert np.array_equal(found.ids[1], recommender.recommend("u3", 5, **NEAR).ids)


def test_requests_that_share_a_call_get_what_each_would_alone(recommender: Recommender) -> None:
    ways: list[dict] = [NEAR, {"search": "approximate", "recall": 0.99}, {"search": "approximate", "probes": 2}, {}]
    requests = [RecommendRequest([user], k=4 + at % 3, **ways[at % 4]) for at, user in enumerate(USERS)]
    for request, answer in zip(requests, recommend_requests(recommender, requests), strict=True):
        assert isinstance(answer, Recommendations)
        how = {"search": request.search, "recall": request.recall, "probes": request.probes}
        alone = recommender.recommend(request.users, request.k, **how)
        assert np.array_equal(answer.ids, alone.ids)
        assert answer.scores.tobytes() == alone.scores.tobytes()


def test_changes_of_items_are_followed(recommender: Recommender) -> None:
    best = recommender.recommend("u1", 3, exclude_seen=False)
    top = recommender.scorer.user_vectors([1])
    recommender.remove_items(best.ids[:1])
    recommender.add_items([7], vectors=ItemVectors(gmf=top.gmf * np.sign(random_tensors(SHAPE)["output.weight"]) * 50))
    found = recommender.recommend("u1", 5, exclude_seen=False, **NEAR)
    assert found.ids[0] == 7
    assert best.ids[0] not in found.ids
    assert recommender.scorer.index_recall().unlisted == 1


def test_refusals(model: Path, recommender: Recommender, tmp_path: Path) -> None:
    for how, sentence in [
        ({"search": "fast"}, "search: expected"),
        ({"recall": 0.9}, 'recall: only for search="approximate"'),
        ({"search": "approximate", "recall": 1}, "recall: expected more than 0 and at most 0.999, got 1"),
        ({**NEAR, "after": (0.5, 10)}, "does not take max_per_group or after"),
    ]:
        with pytest.raises(ArgumentError, match=sentence):
            recommender.recommend("u1", **how)
    neuralcf.save(random_tensors(SHAPE), tmp_path / "plain", kind="gmf", ids=(USERS, list(range(SHAPE.items))))
    plain = Recommender.load(tmp_path / "plain")
    with pytest.raises(ArgumentError, match="needs an index, and this model has none"):
        plain.recommend("u1", exclude_seen=False, **NEAR)
    (tmp_path / "plain" / "index.safetensors").write_bytes((model / "index.safetensors").read_bytes())
    assert plain.reload() is False  # an index that is refused changes nothing
    with pytest.raises(ModelFormatError, match=r"index\.safetensors: files of different models"):
        Recommender.load(tmp_path / "plain").recommend("u1", exclude_seen=False, **NEAR)

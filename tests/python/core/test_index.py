"""Approximate search: exact scores in THE order, no filtered item, no duplicate, and the recall that was promised."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

import neuralcf
from neuralcf import ArgumentError, ItemVectors, Scorer
from neuralcf.results import TopK, UserVectors
from reference import Shape, random_tensors

ITEMS = 6000
USERS = 700
SHAPES = {
    "gmf": Shape(USERS, ITEMS, g=24),  # scanned in four bits
    "mlp": Shape(USERS, ITEMS, mlp=(12, 12), layers=(32, 16)),  # no GMF block
    "neumf": Shape(USERS, ITEMS, g=8, mlp=(16, 16), layers=(32, 16, 8)),  # int16 or int8
    "shallow": Shape(USERS, ITEMS, g=4, mlp=(8, 8), layers=(8,)),  # float32
    "tiny": Shape(3, 20, g=4),
}


@cache
def tensors_of(name: str) -> dict[str, np.ndarray]:
    return random_tensors(SHAPES[name], seed=7)


@cache
def indexed(name: str, **options: str | int) -> Scorer:
    return Scorer.from_tensors(tensors_of(name), **options).build_index(seed=3)


@pytest.fixture(params=SHAPES)
def scorer(request: pytest.FixtureRequest) -> Scorer:
    return indexed(request.param)


def newcomers(scorer: Scorer, count: int) -> UserVectors:
    """Users who had no part in building or calibrating: mixtures of users of the model."""
    random = np.random.default_rng(11)
    vectors = scorer.user_vectors(np.arange(scorer.num_users))
    mix = random.dirichlet(np.full(scorer.num_users, 3 / scorer.num_users), count) * 1.5
    return UserVectors(*(None if table is None else (mix @ table).astype(np.float32) for table in vectors))


def rows_of(users: UserVectors, rows: np.ndarray) -> UserVectors:
    return UserVectors(*(None if table is None else table[rows] for table in users))


def assert_same(found: TopK, expected: TopK) -> None:
    assert np.array_equal(found.ids, expected.ids)
    assert found.scores.tobytes() == expected.scores.tobytes()


def check(scorer: Scorer, users: UserVectors, found: TopK, allowed: np.ndarray) -> None:
    """Check each list: allowed items only, none twice, exact scores, THE order, and full unless nothing is left."""
    rows, k = found.ids.shape
    for row in range(rows):
        ids, scores = found.ids[row], found.scores[row]
        real = int((ids >= 0).sum())
        assert real == min(k, int(allowed[row].sum()))
        assert (ids[real:] == -1).all()
        assert np.isneginf(scores[real:]).all()
        ids, scores = ids[:real], scores[:real]
        assert allowed[row][ids].all(), "a filtered item"
        assert len(set(ids.tolist())) == real, "a duplicate"
        one = UserVectors(
            *(None if table is None else np.repeat(table[row : row + 1], real, axis=0) for table in users)
        )
        assert scorer.score_batch(one, ids, logits=True).tobytes() == scores.tobytes(), "a wrong bit"
        assert np.array_equal(np.lexsort((ids, -scores)), np.arange(real)), "another order"


@pytest.mark.parametrize("share", [1.0, 0.5, 0.05, 0.004, 0.0])
def test_no_filtered_item_no_duplicate_and_no_wrong_bit(scorer: Scorer, share: float) -> None:
    users = newcomers(scorer, 12)
    random = np.random.default_rng(int(1000 * share))
    allow = random.random(scorer.num_items) < share if share < 1 else None
    best = scorer.top_k(users, 5, logits=True).ids
    excluded = (np.arange(13) * 5, np.where(best >= 0, best, 0).ravel())
    allowed = np.tile(np.ones(scorer.num_items, bool) if allow is None else allow, (12, 1))
    np.put_along_axis(allowed, best, False, axis=1)
    for k, effort in [(1, {"probes": 1}), (10, {"recall": 0.9}), (100, {"recall": 0.999}), (7000, {"recall": 0.5})]:
        found = scorer.top_k(users, k, exclude=excluded, allow=allow, search="approximate", logits=True, **effort)
        check(scorer, users, found, allowed)


@pytest.mark.parametrize("share", [None, 0.5, 0.1])
def test_the_promised_recall_is_reached_by_fresh_users(scorer: Scorer, share: float | None) -> None:
    users = newcomers(scorer, 300)
    allow = None if share is None else np.random.default_rng(1).random(scorer.num_items) < share
    for k in (10, 100):
        exact = scorer.top_k(users, k, allow=allow).ids
        for recall in (0.9, 0.99):
            found = scorer.top_k(users, k, allow=allow, search="approximate", recall=recall).ids
            shares = [
                len(np.intersect1d(a[a >= 0], b)) / max(1, (a >= 0).sum()) for a, b in zip(exact, found, strict=True)
            ]
            error = np.std(shares) / len(shares) ** 0.5
            print(f"k {k}, promised {recall}, measured {np.mean(shares):.4f} +- {error:.4f}")
            assert np.mean(shares) + 3 * error + 0.005 >= recall


LARGE = {"gmf": Shape(400, 20_000, g=16), "neumf": Shape(400, 20_000, g=4, mlp=(8, 8), layers=(16, 8))}


@cache
def large(name: str) -> Scorer:
    return Scorer.from_tensors(random_tensors(LARGE[name], seed=2)).build_index(lists=300)


@pytest.mark.parametrize("chosen", ["at random", "the least liked"])
@pytest.mark.parametrize("share", [0.5, 0.01, 0.0001])
@pytest.mark.parametrize("name", LARGE)
def test_the_promised_recall_is_reached_with_allowed_items(name: str, share: float, chosen: str) -> None:
    scorer, count = large(name), max(1, round(share * LARGE[name].items))
    users = newcomers(scorer, 200)
    if chosen == "at random":
        items = np.random.default_rng(3).permutation(scorer.num_items)[:count]
    else:
        best = scorer.top_k(np.arange(0, scorer.num_users, 20), scorer.num_items).ids
        items = np.argsort(np.argsort(best, axis=1).mean(axis=0))[-count:]
    allowed = np.zeros((200, scorer.num_items), bool)
    allowed[:, items] = True
    exact = scorer.top_k(users, 10, allow=items)
    for recall in (0.9, 0.99):
        found = scorer.top_k(users, 10, allow=items, search="approximate", recall=recall, logits=True)
        check(scorer, users, found, allowed)
        shares = [len(np.intersect1d(a[a >= 0], b)) / min(10, count) for a, b in zip(exact.ids, found.ids, strict=True)]
        error = np.std(shares) / len(shares) ** 0.5
        print(f"promised {recall}, measured {np.mean(shares):.4f} +- {error:.4f}")
        assert np.mean(shares) + 3 * error + 0.005 >= recall


def test_recall_is_measured_as_the_items_are_now() -> None:
    scorer = indexed("gmf")
    calibrated = {(level.k, level.recall): level.measured for level in scorer.index.levels}
    before = scorer.index_recall(10, 0.9)
    assert before.calibrated == calibrated[10, 0.9]
    assert before.measured == pytest.approx(before.calibrated, abs=1e-9)  # the same users, and the same items
    assert (before.k, before.recall, before.unlisted, before.advice) == (10, 0.9, 0, None)

    users = newcomers(scorer, 60)
    found = scorer.index_recall(20, 0.95, users=users)
    exact, near = scorer.top_k(users, 20).ids, scorer.top_k(users, 20, search="approximate", recall=0.95).ids
    shares = [len(np.intersect1d(a, b)) / 20 for a, b in zip(exact, near, strict=True)]
    assert found.measured == pytest.approx(np.mean(shares))
    assert found.error == pytest.approx(np.std(shares) / 60**0.5)
    assert found.users == 60
    assert found.calibrated == calibrated[10, 0.95]  # the nearest k

    rows = tensors_of("gmf")["gmf.item_embedding.weight"]
    changed = scorer.without_items([5, 6]).with_items([7], ItemVectors(gmf=rows[:1]))
    assert changed.index_recall().unlisted == 1
    assert changed.index_recall().measured + 0.01 >= 0.99
    grown = scorer.with_new_items(ItemVectors(gmf=np.tile(rows, (2, 1))))
    assert grown.index_recall().unlisted == 2 * ITEMS
    assert f"each search scores {2 * ITEMS} changed items besides" in grown.index_recall().advice

    # Users whom the model does not know the like of: the promise was not made for them.
    strangers = UserVectors(np.eye(24, dtype=np.float32) * 4, None)
    measured = [scorer.index_recall(10, recall, users=strangers) for recall in (0.9, 0.99, 0.999)]
    for one in measured:
        assert (one.advice is not None) == (one.measured + 2 * one.error < one.recall)
        assert one.advice is None or f"and {one.recall} was promised" in one.advice


def test_the_users_of_an_index_are_known() -> None:
    sample = indexed("gmf").index_sample()
    assert sample.dtype == np.int64
    assert np.array_equal(sample, np.arange(USERS))  # a model of few users needs them all
    many = Scorer.from_tensors(random_tensors(Shape(9000, 64, g=2), seed=1)).build_index(seed=1)
    sample = many.index_sample()
    assert np.array_equal(sample, np.unique(sample))
    assert 4096 < len(sample) <= 4096 + 1024
    assert not np.array_equal(sample, np.arange(len(sample)))


def test_all_lists_together_give_the_exact_result(scorer: Scorer) -> None:
    summary = scorer.index
    assert summary is not None
    users = newcomers(scorer, 20)
    for k in (1, 10, 100):
        exact = scorer.top_k(users, k)
        found = scorer.top_k(users, k, search="approximate", probes=summary.lists)
        assert_same(found, exact)


@pytest.mark.parametrize("name", ["gmf", "neumf"])
def test_threads_instruction_sets_and_batches_do_not_matter(name: str) -> None:
    users = newcomers(indexed(name), 40)
    expected = indexed(name).top_k(users, 10, search="approximate")
    for options in ({"threads": 1}, {"threads": 3}, {"isa": "portable"}):
        other = indexed(name, **options)
        assert [level[:2] for level in other.index.levels] == [level[:2] for level in indexed(name).index.levels]
        found = other.top_k(users, 10, search="approximate")
        assert_same(found, expected)
    for row in range(0, 40, 7):
        one = rows_of(users, np.array([row]))
        assert np.array_equal(indexed(name).top_k(one, 10, search="approximate").ids[0], expected.ids[row])


def test_an_index_follows_changes_of_items() -> None:
    scorer = indexed("neumf")
    users = newcomers(scorer, 12)
    best = scorer.top_k(users, 3).ids
    changed, removed = np.unique(best[:, 0]), np.setdiff1d(best[:, 1], best[:, 0])
    tensors = tensors_of("neumf")
    vectors = ItemVectors(
        gmf=tensors["gmf.item_embedding.weight"][changed][::-1], mlp=tensors["mlp.item_embedding.weight"][changed][::-1]
    )
    new = ItemVectors(gmf=vectors.gmf[:2], mlp=vectors.mlp[:2])
    later = scorer.with_items(changed, vectors).without_items(removed).with_new_items(new)
    lists = later.index.lists
    for k in (5, 100):
        exact, found = (
            later.top_k(users, k, logits=True),
            later.top_k(users, k, search="approximate", probes=lists, logits=True),
        )
        assert_same(found, exact)
    allowed = np.ones((12, later.num_items), bool)
    allowed[:, removed] = False
    check(later, users, later.top_k(users, 20, search="approximate", recall=0.9, logits=True), allowed)


def test_building_reports_progress_and_an_exception_of_the_report_ends_it() -> None:
    shares: list[float] = []
    Scorer.from_tensors(tensors_of("gmf")).build_index(progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0

    def give_up(share: float) -> None:
        raise LookupError(f"at {share}")

    with pytest.raises(LookupError, match="at 0"):
        Scorer.from_tensors(tensors_of("gmf")).build_index(progress=give_up)


def test_a_stop_token_stops_the_building() -> None:
    scorer = Scorer.from_tensors(tensors_of("gmf"))
    with neuralcf.StopToken() as token, pytest.raises(neuralcf.StoppedError):
        scorer.build_index(progress=lambda _: token.stop())


REFUSED: list[tuple[Callable[[Scorer], object], type[Exception], str]] = [
    (lambda s: s.top_k(0, search="approximate", recall=1.0), ArgumentError, "at most 0.999, got 1"),
    (lambda s: s.top_k(0, search="approximate", recall=float("nan")), ArgumentError, "recall: expected more than 0"),
    (lambda s: s.top_k(0, search="approximate", recall="all"), TypeError, "recall: expected a number, got"),
    (lambda s: s.top_k(0, search="approximate", probes=0), ArgumentError, "probes: expected"),
    (lambda s: s.top_k(0, search="approximate", probes=1, recall=0.9), ArgumentError, "recall or probes, got both"),
    (lambda s: s.top_k(0, recall=0.9), ArgumentError, 'recall: only for search="approximate"'),
    (lambda s: s.top_k(0, search="approximate", after=(np.array([0.5]), [0])), ArgumentError, "not take max_per"),
    (lambda s: s.build_index(lists=10**6), ArgumentError, "lists: expected 1 to 20, the number of items; got 1000000"),
    (lambda s: s.build_index(seed=-1), ArgumentError, "seed: expected an integer from 0"),
    (lambda s: s.without_items([0]).build_index(), ArgumentError, "as they were at load"),
    (lambda s: s.__reduce__(), TypeError, "an index made by build_index cannot be pickled"),
    (lambda s: s.index_recall(10, 1.0), ArgumentError, "recall: expected more than 0 and at most 0.999, got 1"),
    (lambda s: s.index_recall(0), ArgumentError, "k: expected"),
    (lambda s: s.index_recall(users=[]), ArgumentError, "users: expected at least one, got none"),
    (lambda s: s.index_recall(recall="all"), TypeError, "recall: expected a number, got"),
    (lambda _: Scorer.from_tensors(tensors_of("tiny")).index_recall(), ArgumentError, "needs an index"),
    (lambda _: Scorer.from_tensors(tensors_of("tiny")).index_sample(), ArgumentError, "needs an index"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_bad_arguments_are_refused(call: Callable[[Scorer], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(indexed("tiny"))

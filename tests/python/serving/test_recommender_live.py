"""Items that are added, changed and removed while a recommender serves."""

import copy
import os
import pickle
import threading
import time

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import neuralcf
from neuralcf import ArgumentError, ItemVectors, OutOfRangeError, Recommender, Scorer, UnknownItemError
from neuralcf.attributes import FeatureColumn, FeatureMap
from neuralcf.data.features import feature_tensors
from reference import Shape, random_history, random_tensors

USERS = 12
MODELS = {
    "float32": Shape(USERS, 150, g=5),
    "float32, MLP": Shape(USERS, 150, mlp=(4, 5), layers=(7, 3)),
    "int4": Shape(USERS, 2100, g=24),
    "int8 or int16": Shape(USERS, 2100, g=6, mlp=(8, 9), layers=(32, 32, 5)),
}
GMF, MLP = "gmf.item_embedding.weight", "mlp.item_embedding.weight"


class Catalogue:
    """What a model is saved from; changed as a recommender is, so that a fresh one can be compared with it."""

    def __init__(self, shape, *, strings=False, history=False, seed=0):
        rng = np.random.default_rng(seed)
        self.shape, self.rng, self.strings = shape, rng, strings
        self.tensors = random_tensors(shape)
        for name in self.tensors:
            if "item_embedding" in name:  # lengths like those of trained items, and ties
                self.tensors[name] *= rng.lognormal(-1, 0.7, (shape.items, 1)).astype(np.float32)
                self.tensors[name][::7] = self.tensors[name][0]
        self.ids = [self.id(n) for n in rng.permutation(shape.items * 3)[: shape.items].tolist()]
        self.seen = [rng.choice(shape.items, 20, replace=False) for _ in range(USERS)]
        self.seen = [[self.ids[n] for n in row] for row in self.seen]
        self.history = random_history(shape.items, shape.g + shape.mlp[0]) if history else None
        self.known = set(self.ids)  # to the history
        self.next = shape.items * 3

    def id(self, n):
        return f"item {n}" if self.strings else n - 100

    def save(self, path, **options):
        index = {id_: n for n, id_ in enumerate(self.ids)}
        rows = [[index[id_] for id_ in row if id_ in index] for row in self.seen]
        seen = np.cumsum([0, *map(len, rows)]), np.concatenate([[], *rows]).astype(np.int64)
        neuralcf.save(
            self.tensors,
            path,
            kind=self.shape.kind,
            ids=(list(range(USERS)), self.ids),
            seen=seen,
            history=self.history,
        )
        return Recommender.load(path, **options)

    def vectors(self, n):
        names = [name for name in (GMF, MLP) if name in self.tensors]
        some = self.rng.choice(len(self.ids), (2, n))
        return {name: ((self.tensors[name][some[0]] + self.tensors[name][some[1]]) * np.float32(0.7)) for name in names}

    def add(self, recommender, n):
        ids, vectors = [self.id(self.next + m) for m in range(n)], self.vectors(n)
        self.next += n
        recommender.add_items(ids, vectors=ItemVectors(vectors.get(GMF), vectors.get(MLP)))
        self.ids = self.ids + ids
        for name, rows in vectors.items():
            self.tensors[name] = np.concatenate([self.tensors[name], rows])
        if self.history is not None:  # which does not know them
            self.history = {
                name: np.concatenate([array, np.zeros((n, array.shape[1]), np.float32)]) if "items" in name else array
                for name, array in self.history.items()
            }

    def update(self, recommender, n):
        chosen, vectors = self.rng.choice(len(self.ids), n, replace=False), self.vectors(n)
        vectors[next(iter(vectors))][: n // 2] *= 3  # beyond what the tiles were quantized for
        ids = [self.ids[at] for at in chosen]
        recommender.update_items(ids, vectors=ItemVectors(vectors.get(GMF), vectors.get(MLP)))
        for name, rows in vectors.items():
            self.tensors[name] = self.tensors[name].copy()
            self.tensors[name][chosen] = rows

    def remove(self, recommender, n):
        chosen = self.rng.choice(len(self.ids), n, replace=False)
        recommender.remove_items([self.ids[at] for at in chosen])
        kept = np.setdiff1d(np.arange(len(self.ids)), chosen)
        self.ids = [self.ids[at] for at in kept]
        for name in self.tensors:
            if "item_embedding" in name:
                self.tensors[name] = self.tensors[name][kept]
        if self.history is not None:
            self.history = {name: array[kept] if "items" in name else array for name, array in self.history.items()}


def same(got, expected):
    assert got.ids.tolist() == expected.ids.tolist()
    assert got.scores.tobytes() == expected.scores.tobytes()
    assert got.counts.tolist() == expected.counts.tolist()
    assert got.known.tolist() == expected.known.tolist()


def compare(changed, fresh, catalogue, rng):
    """Compare the answers of a recommender whose items were changed with those of one that was saved with them."""
    ids, users = catalogue.ids, list(range(USERS))
    assert changed.num_items == fresh.num_items == len(ids)
    some = [ids[n] for n in rng.choice(len(ids), len(ids) // 3, replace=False)]
    few = [ids[n] for n in rng.choice(len(ids), 20, replace=False)]
    for recommender in (changed, fresh):
        recommender.set_items("some", some)
        recommender.set_items("few", few)
        recommender.set_groups("brand", ids, [n % 9 for n in range(len(ids))])
    calls = [
        {"users": users, "k": 10},
        {"users": users[:2], "k": 10, "logits": True},
        {"users": users, "k": len(ids) + 5, "exclude_seen": False},
        {"users": 3, "k": 7, "allow": "some - few"},
        {"users": users, "k": 7, "allow": "few"},
        {"users": users, "k": 7, "deny": some, "threads": 2},
        {"users": users, "k": 9, "allow": some, "max_per_group": {"brand": 2}},
        {"users": users, "k": 5, "exclude": [some] * USERS, "min_score": 0.5},
        {"users": [1, 99], "k": 9, "on_unknown": "popular"},
    ]
    for call in calls:
        same(changed.recommend(**call), fresh.recommend(**call))
    ends = changed.recommend(users, 6).end
    same(changed.recommend(users, 6, after=ends), fresh.recommend(users, 6, after=ends))
    for got, expected in zip(changed.recommend_all(4, batch_size=5), fresh.recommend_all(4, batch_size=5), strict=True):
        same(got, expected)
    for user in users[:3]:
        every = changed.score_batch(user, ids)
        assert every.tobytes() == fresh.score_batch(user, ids).tobytes()
        assert changed.rank_of(user, some).tolist() == fresh.rank_of(user, some).tolist()
        whole = changed.recommend(user, len(ids), exclude_seen=False)
        assert sorted(whole.scores.tolist()) == sorted(every.tolist())
        got, expected = (recommender.explain(user, few[0]) for recommender in (changed, fresh))
        assert (got.logit, got.reasons) == (expected.logit, expected.reasons)
        assert got.gmf.tobytes() + got.mlp.tobytes() == expected.gmf.tobytes() + expected.mlp.tobytes()
    old = [id_ for id_ in some if id_ in catalogue.known]
    histories = [old[:4], few if catalogue.history is None else old[7:30], []]
    same(changed.recommend_for_history(histories, 8), fresh.recommend_for_history(histories, 8))


@pytest.mark.parametrize("precision", MODELS)
@pytest.mark.parametrize("history", [False, True])
def test_answers_are_those_of_a_model_that_was_saved_so(precision, history, tmp_path):
    catalogue = Catalogue(MODELS[precision], strings=history, history=history)
    recommender = catalogue.save(tmp_path / "model")
    if recommender.scorer.isa != "portable":
        assert recommender.scorer.scan_precision in precision
    rng = np.random.default_rng(5)
    steps = [("update", 40), ("add", 3), ("remove", 30), ("update", 61), ("add", 70), ("remove", 50), ("update", 9)]
    for n, (step, size) in enumerate(steps):
        before, generation = recommender.snapshot(), recommender.generation
        expected = before.recommend(list(range(USERS)), 10).scores.tobytes()
        getattr(catalogue, step)(recommender, size)
        assert recommender.generation == generation + 1
        assert before.recommend(list(range(USERS)), 10).scores.tobytes() == expected
        if n % 3 == 0:
            fresh = catalogue.save(tmp_path / f"fresh{n}", isa="portable" if n == 3 else None)
            compare(recommender, fresh, catalogue, rng)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_the_changes_and_makes_others(tmp_path):
    catalogue = Catalogue(MODELS["int4"])
    recommender = catalogue.save(tmp_path / "model", threads=2)
    users = list(range(USERS)) * 300  # so many that several threads work
    catalogue.update(recommender, 300)
    catalogue.remove(recommender, 200)
    expected = recommender.recommend(users, 10).scores
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            same_scores = recommender.recommend(users, 10).scores.tobytes() == expected.tobytes()
            catalogue.remove(recommender, 1)
            os.write(writing, f"{same_scores} {recommender.num_items} {recommender.generation}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"True 1899 4"
    assert (recommender.num_items, recommender.generation) == (1900, 3)


def test_a_catalogue_can_change_as_a_whole(tmp_path):
    catalogue = Catalogue(MODELS["int4"])
    recommender = catalogue.save(tmp_path / "model")
    recommender.remove_items(catalogue.ids)
    nothing = recommender.recommend([0, 1], 3, exclude_seen=False)
    assert (recommender.num_items, nothing.counts.tolist()) == (0, [0, 0])
    assert recommender.recommend_for_history([], 3).counts == 0
    vectors = ItemVectors(catalogue.tensors[GMF])
    recommender.add_items(catalogue.ids, vectors=vectors)
    compare(recommender, catalogue.save(tmp_path / "fresh"), catalogue, np.random.default_rng(1))


def test_an_item_that_is_back_is_the_one_that_it_was(tmp_path):
    catalogue = Catalogue(MODELS["float32"], history=True)
    recommender = catalogue.save(tmp_path / "model")
    recommender.set_items("set", catalogue.ids[:20])
    recommender.set_groups("brand", catalogue.ids, [0] * len(catalogue.ids))
    catalogue.add(recommender, 4)
    gone = [catalogue.ids[at] for at in (152, 3, 10, 151)]
    recommender.remove_items(gone)
    assert recommender.item_sets == {"set": 18}
    rows = catalogue.tensors[GMF][[3, 151, 152, 10]]
    recommender.add_items([*(gone[n] for n in (1, 3, 0, 2)), 9999], vectors=ItemVectors(np.vstack([rows, rows[:1]])))
    assert recommender.item_sets == {"set": 18}
    limited = recommender.recommend(0, 200, max_per_group={"brand": 1}, exclude_seen=False)
    assert {*gone, 9999, catalogue.ids[150]} <= set(limited.ids.tolist())  # in no group
    catalogue.tensors[GMF] = np.vstack([catalogue.tensors[GMF], rows[:1]])
    catalogue.ids = [*catalogue.ids, 9999]
    catalogue.history = None
    fresh = catalogue.save(tmp_path / "fresh")
    catalogue.history = {}
    same(recommender.recommend(list(range(USERS)), 200), fresh.recommend(list(range(USERS)), 200))
    same(recommender.recommend([0, 77], 200, on_unknown="popular"), fresh.recommend([0, 77], 200, on_unknown="popular"))


def test_similar_items_follow_the_changes(tmp_path):
    catalogue = Catalogue(MODELS["float32, MLP"])
    recommender = catalogue.save(tmp_path / "model")
    users = list(range(USERS))
    means = np.mean([recommender.score_batch(user, catalogue.ids, logits=True) for user in users], axis=1)
    lazy = catalogue.save(tmp_path / "same")
    for n, (step, size) in enumerate([("update", 30), ("add", 20), ("remove", 40), ("add", 9), ("update", 5)]):
        state = copy.deepcopy(catalogue)
        getattr(catalogue, step)(recommender, size)
        getattr(state, step)(lazy, size)
        if n in (2, 3):  # one of them makes the space step by step, the other of all changes at once
            recommender.similar_items(catalogue.ids[0])
    vectors = np.array([recommender.score_batch(user, catalogue.ids, logits=True) for user in users]).T - means
    vectors -= vectors.mean(axis=1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    whole = recommender.similar_items(catalogue.ids, len(catalogue.ids))
    assert whole.counts.tolist() == [len(catalogue.ids) - 1] * len(catalogue.ids)
    index = {id_: at for at, id_ in enumerate(catalogue.ids)}
    for at in range(len(catalogue.ids)):
        row = whole[at]
        expected = [cosines[at, index[id_]] for id_ in row.ids[: row.counts].tolist()]
        np.testing.assert_allclose(row.scores[: row.counts], expected, atol=2e-5)
    same(lazy.similar_items(catalogue.ids, 10), recommender.similar_items(catalogue.ids, 10))


def test_what_was_removed_never_comes_back(tmp_path):
    catalogue = Catalogue(MODELS["int4"])
    recommender = catalogue.save(tmp_path / "model")
    best = recommender.recommend(0, 3, exclude_seen=False).ids.tolist()
    gone, other, index = best[0], best[1], int(recommender.item_ids.find(best[:1])[0])
    page = recommender.recommend(0, 1, exclude_seen=False).end
    generation = recommender.remove_items([gone])
    assert generation == recommender.generation == 2
    calls = [
        lambda: recommender.score_batch(0, [gone]),
        lambda: recommender.rank_of(0, [gone]),
        lambda: recommender.explain(0, gone),
        lambda: recommender.similar_items(gone),
        lambda: recommender.recommend_for_history([gone]),
        lambda: recommender.user_vectors_for([[gone]]),
        lambda: recommender.recommend(0, allow=[gone]),
        lambda: recommender.recommend(0, exclude=[gone]),
        lambda: recommender.set_items("set", [gone]),
        lambda: recommender.set_groups("brand", [gone], ["b"]),
        lambda: recommender.update_items([gone], vectors=ItemVectors(catalogue.tensors[GMF][:1])),
        lambda: recommender.remove_items([gone]),
    ]
    for call in calls:
        with pytest.raises(UnknownItemError, match=str(gone)):
            call()
    assert recommender.remove_items([gone], on_unknown="skip") == 2
    scorer = recommender.scorer
    for call in (
        lambda: scorer.score_batch(0, [index]),
        lambda: scorer.rank_of([0], [index]),
        lambda: scorer.explain([0], [index]),
        lambda: scorer.fold_in(([0, 1], [index])),
        lambda: scorer.without_items([index]),
        lambda: recommender.item_ids.take([index]),
    ):
        with pytest.raises(OutOfRangeError, match="has been removed"):
            call()
    for options in ({}, {"allow": [index]}, {"allow": ([0, 2], [index, 5])}, {"allow": np.arange(2100) != 7}):
        assert index not in scorer.top_k([0], 2100, **options).ids[0]
    assert index not in scorer.seen_items(range(USERS))[1]
    after = recommender.recommend(0, 3, after=page, exclude_seen=False)
    assert after.ids.tolist()[:2] == best[1:]
    for listed in (recommender.similar_items(other, 2100), recommender.recommend_for_history([other], 2100)):
        assert (listed.counts, gone in listed.ids) == (2098, False)
    reasons = [recommender.explain(user, other, reasons=99).reasons for user in range(USERS)]
    assert sum(map(len, reasons)) > 10
    assert gone not in [id_ for row in reasons for id_, _ in row]
    assert recommender.reload() is False  # the same directory: still gone
    assert gone not in recommender.recommend(0, 2100, exclude_seen=False).ids
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(recommender)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(scorer)
    assert copy.copy(recommender) is recommender
    catalogue.tensors[GMF] = catalogue.tensors[GMF] * np.float32(0.5)
    catalogue.save(tmp_path / "model")
    assert recommender.reload() is True  # the new directory has it
    assert gone in recommender.recommend(0, 2100, exclude_seen=False).ids
    assert pickle.loads(pickle.dumps(recommender)).num_items == 2100


def test_bad_input_changes_nothing(tmp_path):
    catalogue = Catalogue(MODELS["int8 or int16"])
    recommender = catalogue.save(tmp_path / "model")
    some, shape = catalogue.ids[:2], catalogue.shape
    gmf, mlp = np.zeros((2, shape.g), np.float32), np.zeros((2, shape.mlp[1]), np.float32)
    good = ItemVectors(gmf, mlp)
    infinite, huge = mlp.copy(), gmf.copy()
    infinite[1, 3], huge[0, 0] = np.inf, 3e38
    table = [
        ("update", some[:1], good, ArgumentError, "vectors.gmf: expected rows for 1 items, got 2"),
        ("update", some, ItemVectors(gmf), ArgumentError, "vectors.mlp: expected .2, 9. values, got None"),
        ("update", some, ItemVectors(gmf[:, :-1], mlp), ArgumentError, "vectors.gmf: expected .2, 6. values"),
        ("update", some, ItemVectors(gmf, infinite), ArgumentError, "vectors.mlp: expected finite values, got inf"),
        ("update", some, ItemVectors(huge, mlp), ArgumentError, "output.weight.*for item vectors"),
        ("update", some, (gmf, mlp), TypeError, "expected neuralcf.ItemVectors"),
        ("update", some, ItemVectors(gmf.astype(np.int64), mlp), TypeError, "vectors.gmf"),
        ("update", [some[0]] * 2, good, ArgumentError, "expected each once, got"),
        ("update", ["x", "y"], good, TypeError, "ids: this model's ids are int64"),
        ("update", some[0], good, TypeError, "ids: expected a list of ids, got int"),
        ("update", [99999, some[0]], good, UnknownItemError, "99999"),
        ("add", some, good, ArgumentError, f"in the model already: {some[0]}; update_items"),
        ("add", [99999, 99999], good, ArgumentError, "ids: expected each once, got 99999 twice"),
        ("add", ["x", "y"], good, TypeError, "ids: this model's ids are int64"),
        ("add", [99999, 2**70], good, OutOfRangeError, "int64"),
    ]
    for method, ids, vectors, error, text in table:
        with pytest.raises(error, match=text):
            getattr(recommender, f"{method}_items")(ids, vectors=vectors)
    with pytest.raises(ArgumentError, match="expected each once"):
        recommender.remove_items([some[0]] * 2)
    assert recommender.generation == 1
    assert recommender.add_items([], vectors=ItemVectors(gmf[:0], mlp[:0])) == 1
    recommender.update_items(some, vectors=good)
    assert recommender.generation == 2


def test_memory_is_told_and_shared():
    items, width = 40_000, 32
    rng = np.random.default_rng(0)
    tensors = random_tensors(Shape(3, items, g=width))
    scorer = Scorer.from_tensors(tensors)
    before = scorer.nbytes
    changed = scorer.with_items(rng.choice(items, 500, replace=False), ItemVectors(tensors[GMF][:500]))
    grown = {part: changed.nbytes[part] - before[part] for part in before}
    # Places of all items, and two blocks of 256 rows and tiles.
    assert items * 4 < grown.pop("item_rows") < items * 4 + 4 * 256 * width * 4
    assert 500 * width * 4 < grown.pop("item_tiles") < 4 * 256 * width * 4 + items
    assert set(grown.values()) == {0}


def test_readers_see_all_of_a_change_or_nothing(tmp_path):
    """The vectors of a change all have one length, its number, so that a mixed answer is found out."""
    items, users = 3000, 8
    tensors = random_tensors(Shape(users, items, g=16))
    tensors["gmf.user_embedding.weight"][:] = 1
    tensors["gmf.item_embedding.weight"][:] = 1
    tensors["output.weight"][:] = 1
    tensors["output.bias"][:] = 0
    neuralcf.save(tensors, tmp_path / "model", kind="gmf", ids=(list(range(users)), list(range(items))))
    recommender = Recommender.load(tmp_path / "model", threads=1)
    stop, failures, counts = threading.Event(), [], [0] * users

    def read(user):
        last = 0
        while not stop.is_set():
            best = recommender.recommend(user, 40, exclude_seen=False, logits=True)
            # Generation g has 20 items of score 16 g, for g > 1; the others score less.
            expected = 16.0 * best.generation
            if best.generation < last or (best.generation > 1 and (best.scores == expected).sum() != 20):
                failures.append((best.generation, best.scores.tolist()))
            last, counts[user] = best.generation, counts[user] + 1

    threads = [threading.Thread(target=read, args=(user,)) for user in range(users)]
    for thread in threads:
        thread.start()
    ended, rng = time.monotonic() + 2, np.random.default_rng(4)
    while time.monotonic() < ended:
        vectors = ItemVectors(np.full((20, 16), recommender.generation + 1, np.float32))
        recommender.update_items(rng.choice(items, 20, replace=False).tolist(), vectors=vectors)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert recommender.generation > 5
    assert min(counts) > 5


def test_attributes_become_vectors(tmp_path):
    catalogue = Catalogue(MODELS["float32, MLP"])
    rng = np.random.default_rng(6)
    columns = (
        FeatureColumn("genres", "multi", ("comedy", "war", "western")),
        FeatureColumn("year", "number", (), 1980.0, 10.0),
        FeatureColumn("country", "category", ("de", "fr")),
    )
    weights = rng.standard_normal((7, catalogue.shape.mlp[1])).astype(np.float32)
    neuralcf.save(
        catalogue.tensors,
        tmp_path / "model",
        kind="mlp",
        ids=(list(range(USERS)), catalogue.ids),
        features=feature_tensors({"item": FeatureMap(columns, None, weights)}),
    )
    table = {
        "genres": [["comedy", "war"], "war|western|war", None, "", "unknown"],
        "year": [1990, "1975", None, float("nan"), 1980.0],
        "country": ["de", None, "fr", "", "atlantis"],
    }
    shared, comedy, war, western, year, de, fr = weights.astype(np.float64)
    vectors = [shared + comedy + war + year + de, shared + war + western - 0.5 * year, shared + fr, shared, shared]
    expected, new = catalogue.save(tmp_path / "same"), range(9000, 9005)
    expected.add_items(new, vectors=ItemVectors(None, np.array(vectors, np.float32)))
    columns_of_one_type = {
        "genres": ["comedy|war", "war | western", None, "", "unknown"],
        "year": [1990.0, 1975.0, None, float("nan"), 1980.0],
        "country": table["country"],
    }
    frames = (pd.DataFrame, pl.DataFrame, pa.table)
    for form in (table, *(frame(columns_of_one_type) for frame in frames)):
        recommender = Recommender.load(tmp_path / "model")
        recommender.add_items(new, attributes=form)
        assert recommender.score_batch(0, new).tolist() == expected.score_batch(0, new).tolist()
    assert recommender.update_items(catalogue.ids[:1], attributes={}) == 3
    assert recommender.score_batch(3, catalogue.ids[:1]) == expected.score_batch(3, [9003])
    for bad, error, text in [
        ({"genre": ["x"]}, ArgumentError, "no column 'genre'; known: genres, year, country"),
        ({"year": [1, 2]}, ArgumentError, r"attributes\['year'\]: expected a value for each of 1 items, got 2"),
        ({"year": ["new"]}, ArgumentError, "new"),
        ([1], TypeError, "expected a dictionary of columns or a table, got list"),
        (None, TypeError, "expected either vectors or attributes"),
    ]:
        with pytest.raises(error, match=text):
            recommender.add_items([7777], attributes=bad)
    with pytest.raises(ArgumentError, match="trained without features of items"):
        expected.add_items([7777], attributes={})
    assert pickle.loads(pickle.dumps(Recommender.load(tmp_path / "model"))).add_items([7777], attributes={}) == 2

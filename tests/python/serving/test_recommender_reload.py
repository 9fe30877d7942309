"""Hot swap: a new directory is loaded beside the old model and exchanged; a broken one is refused."""

import logging
import pickle
import threading
import time

import numpy as np
import pytest

import neuralcf
from neuralcf import ArgumentError, ModelFormatError, Recommender
from neuralcf.serving.watcher import Changes, Watcher

VALUES = [3.0, 5.0, 1.0, 4.0]


def save(path, factor=1.0, items=("a", "b", "c", "d"), seen=True):
    tensors = {
        "gmf.user_embedding.weight": np.ones((2, 1), np.float32),
        "gmf.item_embedding.weight": np.array(VALUES[: len(items)], np.float32)[:, None] * np.float32(factor),
        "output.weight": np.ones((1, 1), np.float32),
        "output.bias": np.zeros(1, np.float32),
    }
    rows = (np.array([0, 1, 1]), np.array([0])) if seen else None
    neuralcf.save(tensors, path, kind="gmf", ids=([1, 2], list(items)), seen=rows)


@pytest.fixture
def path(tmp_path):
    save(tmp_path / "model")
    return tmp_path / "model"


def breakages(path):
    """Yield ways to break the directory that is there."""
    weights = path / "model.safetensors"
    data = weights.read_bytes()
    yield lambda: weights.write_bytes(data[:-1])
    yield lambda: weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    yield lambda: (path / "config.json").write_text("{")
    yield (path / "ids.safetensors").unlink


def test_reload_exchanges_the_model(path):
    recommender = Recommender.load(path)
    recommender.set_items("some", ["a", "d"])
    recommender.set_groups("kind", ["a", "b", "d"], ["x", "x", "y"])
    before, snapshot = recommender.recommend(2, 2, logits=True), recommender.snapshot()
    assert recommender.reload() is False
    assert recommender.generation == 3
    save(path, -1.0, ("d", "e", "a", "b"))
    assert recommender.reload() is True
    after = recommender.recommend(2, 4, logits=True)
    assert (before.generation, after.generation) == (3, 4)
    assert after.to_list() == [("a", -1.0), ("d", -3.0), ("b", -4.0), ("e", -5.0)]
    allowed = recommender.recommend(2, 4, allow="some", logits=True)
    assert allowed.to_list() == [("a", -1.0), ("d", -3.0)]  # by id, though the indices have changed
    limited = recommender.recommend(2, 4, max_per_group={"kind": 1}, logits=True)
    assert limited.to_list() == [("a", -1.0), ("d", -3.0), ("e", -5.0)]
    assert snapshot.recommend(2, 2, logits=True).to_list() == before.to_list()
    assert recommender.recommend(99, 1, on_unknown="popular").ids.tolist() == ["d"]  # the first index is popular now


def test_a_broken_directory_is_refused(path):
    recommender = Recommender.load(path)
    expected = recommender.recommend(2, 4).to_list()
    for n, break_it in enumerate(breakages(path)):
        save(path, 2.0 + n)
        break_it()
        with pytest.raises((ModelFormatError, OSError)):
            recommender.reload()
        assert recommender.recommend(2, 4).to_list() == expected
        assert recommender.generation == 1
    neuralcf.save(
        {
            "gmf.user_embedding.weight": np.ones((2, 1), np.float32),
            "gmf.item_embedding.weight": np.ones((4, 1), np.float32),
            "output.weight": np.ones((1, 1), np.float32),
            "output.bias": np.zeros(1, np.float32),
        },
        path,
        kind="gmf",
    )
    with pytest.raises(ArgumentError, match="saved without ids"):
        recommender.reload()
    save(path, 7.0)
    assert recommender.reload()
    assert recommender.recommend(2, 1, logits=True).to_list() == [("b", 35.0)]


def test_prepare_checks_a_new_model_and_sets_its_sets(path):
    recommender = Recommender.load(path)
    recommender.set_items("some", ["a", "d"])
    recommender.set_items("other", ["b"])
    recommender.set_groups("kind", ["a"], ["x"])
    recommender.similar_items("a", 1)
    save(path, 2.0, ("a", "b", "c", "e"))

    def refuse(new):
        assert (new.item_sets, new.recommend(2, 1, logits=True).to_list()) == ({}, [("b", 10.0)])
        raise RuntimeError("not this one")

    with pytest.raises(RuntimeError, match="not this one"):
        recommender.reload(prepare=refuse)
    assert (recommender.generation, recommender.item_sets) == (4, {"other": 1, "some": 2})

    def prepare(new):
        new.set_items("some", ["e"])
        new.set_groups("kind", ["b", "e"], ["x", "y"])

    assert recommender.reload(prepare=prepare)
    assert recommender.generation == 5
    assert recommender.item_sets == {"other": 1, "some": 1}
    assert recommender.item_groups == {"kind": 2}
    assert recommender.recommend(2, 4, allow="some | other").ids.tolist() == ["b", "e", None, None]
    assert list(recommender._current.similarity._loaded._spaces) == ["items"]  # no first call computes them


def test_ids_of_another_type_are_refused(path):
    recommender = Recommender.load(path)
    save(path, items=(1, 2, 3, 4))
    with pytest.raises(ArgumentError, match="item_ids: expected str, as in the model in use, got int64"):
        recommender.reload()
    assert recommender.recommend(2, 1).ids.tolist() == ["b"]


def test_another_path_and_no_path(path, tmp_path):
    save(tmp_path / "other", 3.0)
    recommender = Recommender.load(path)
    assert recommender.reload(tmp_path / "other")
    assert recommender.recommend(2, 1, logits=True).to_list() == [("b", 15.0)]
    scorer = neuralcf.Scorer.from_tensors(
        {
            "gmf.user_embedding.weight": np.ones((2, 1), np.float32),
            "gmf.item_embedding.weight": np.ones((4, 1), np.float32),
            "output.weight": np.ones((1, 1), np.float32),
            "output.bias": np.zeros(1, np.float32),
        }
    )
    made = Recommender(scorer, recommender.user_ids, recommender.item_ids)
    with pytest.raises(ArgumentError, match="path: expected one, because the model was not loaded from a directory"):
        made.reload()
    assert made.reload(path)


def test_a_pickle_holds_the_current_model(path):
    recommender = Recommender.load(path, popular=False)
    save(path, 2.0)
    recommender.reload()
    again = pickle.loads(pickle.dumps(recommender))
    assert again.recommend(2, 2).to_list() == recommender.recommend(2, 2).to_list()
    with pytest.raises(ArgumentError, match="popular"):
        again.recommend(2, on_unknown="popular")
    save(path, 3.0)
    with pytest.raises(ModelFormatError, match="has changed since it was pickled"):
        pickle.loads(pickle.dumps(recommender))


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def test_watch_swaps_under_readers_and_refuses_what_is_broken(path):
    recommender = Recommender.load(path)
    reloaded, errors, torn, stop = [], [], [], threading.Event()
    factors = {1: 1.0}

    def read():
        while not stop.is_set():
            answer = recommender.recommend([1, 2], 2, exclude_seen=False, logits=True)
            factor = answer.scores[0, 0] / 5.0
            if answer.to_list() != [[("b", 5.0 * factor), ("d", 4.0 * factor)]] * 2:
                torn.append(answer.to_list())

    readers = [threading.Thread(target=read) for _ in range(3)]
    [reader.start() for reader in readers]
    with recommender.watch(every=0.01, on_reload=reloaded.append, on_error=errors.append) as watcher:
        assert isinstance(watcher, Watcher)
        for n in range(2, 12):
            factors[n] = float(n)
            if n % 4 == 0:
                seen = len(errors)
                (path / "model.safetensors").write_bytes(b"broken")
                until(lambda seen=seen: len(errors) > seen)
            save(path, factors[n])
            until(lambda n=n: len(reloaded) >= n - 1)
    stop.set()
    [reader.join() for reader in readers]
    assert torn == []
    assert reloaded == list(range(2, 12))
    assert recommender.recommend(2, 1, logits=True).to_list() == [("b", 55.0)]
    assert all(isinstance(error, ModelFormatError | OSError) for error in errors)


def test_a_change_is_told_once_and_when_the_files_stand_still(path):
    changes = Changes(path, known=True)
    assert not changes.settled()
    save(path, 2.0)  # as it may happen while the model is loaded
    assert [changes.settled() for _ in range(3)] == [False, True, False]
    (path / "config.json").unlink()
    assert not changes.settled()
    (path / "README.md").unlink()
    assert [changes.settled() for _ in range(3)] == [False, True, False]
    one = path / "model.safetensors"
    assert [Changes(one, known=known).settled() for known in (True, False)] == [False, True]


def test_a_watcher_logs_and_stops(path, caplog):
    recommender = Recommender.load(path)
    save(path, 2.0)
    with caplog.at_level(logging.ERROR, "neuralcf"):
        watcher = recommender.watch(every=0.01)
        until(lambda: recommender.generation == 2)  # changed before it was watched
        (path / "config.json").unlink()
        until(lambda: caplog.records)
        watcher.stop()
    assert "the new model is refused, the old one stays" in caplog.text
    save(path, 3.0)
    time.sleep(0.05)
    assert recommender.generation == 2
    with pytest.raises(ArgumentError, match="every: expected seconds above 0, got 0"):
        recommender.watch(every=0)

"""Ray on this machine: the engine's bits from actors and shards, actors that die, and the example for Ray Serve."""

import json
import os
import shutil
import signal
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray

import neuralcf
from neuralcf.batch.ray import recommend
from neuralcf.batch.shards import split

USERS, ITEMS = 3000, 500
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(
        num_cpus=8,  # by name alone: those of the shards of two results, and of readers
        object_store_memory=100 << 20,
        include_dashboard=False,
        runtime_env={"env_vars": {"PYTHONPATH": f"{ROOT / 'python'}:{ROOT / 'examples'}"}},
    )
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A NeuMF with int ids, the same with str ids, and the shards of both."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    tensors = {
        "gmf.user_embedding.weight": normal(USERS, 8),
        "gmf.item_embedding.weight": normal(ITEMS, 8),
        "mlp.user_embedding.weight": normal(USERS, 8),
        "mlp.item_embedding.weight": normal(ITEMS, 8),
        "mlp.layers.0.weight": normal(16, 16),
        "mlp.layers.0.bias": normal(16),
        "output.weight": normal(1, 24),
        "output.bias": normal(1),
    }
    seen = np.arange(USERS + 1) * 5, np.concatenate([np.sort(rng.choice(ITEMS, 5, False)) for _ in range(USERS)])
    ids = np.arange(USERS) * 7, np.arange(ITEMS) + 10_000
    folder = tmp_path_factory.mktemp("models")
    neuralcf.save(tensors, folder / "int", kind="neumf", ids=ids, seen=seen)
    texts = tuple([f"{what}{id_}" for id_ in side] for what, side in zip("ui", ids, strict=True))
    neuralcf.save(tensors, folder / "str", kind="neumf", ids=texts, seen=seen)
    for kind in ("int", "str"):
        split(folder / kind, folder / f"{kind} in shards", 3)
    return folder


def rows_of(dataset, user="user"):
    table = pa.concat_tables([part for part in ray.get(dataset.to_arrow_refs()) if part.num_rows])
    assert table.column_names == [user, "items", "scores", "known"]
    return list(zip(*table.to_pydict().values(), strict=True))


def expected(model, users, k=10, sets=None, **filters):
    recommender = neuralcf.Recommender.load(model)
    for name, items in (sets or {}).items():
        recommender.set_items(name, items)
    found = recommender.recommend(users, k, on_unknown="skip", **filters)
    rows = zip(users, found.ids, found.scores, found.counts, found.known, strict=True)
    return [(user, ids[:count].tolist(), scores[:count].tolist(), known) for user, ids, scores, count, known in rows]


@pytest.mark.parametrize("shards", ["", " in shards"])
@pytest.mark.parametrize("kind", ["int", "str"])
def test_same_bits_whatever_the_blocks(models, kind, shards):
    users = [7 * at for at in range(0, USERS, 2)] + [5]
    if kind == "str":
        users = [f"u{user}" for user in users]
    wanted = expected(models / kind, users)
    assert wanted[-1][1:] == ([], [], False)
    for blocks, batch_size in ((1, 4096), (7, 100)):
        dataset = ray.data.from_arrow(pa.table({"user": users, "x": range(len(users))})).repartition(blocks)
        found = recommend(dataset, f"{models / kind}{shards}", actors=2, batch_size=batch_size)
        assert rows_of(found) == wanted
        del found  # with it the actors of shards end


@pytest.mark.parametrize("shards", ["", " in shards"])
def test_filters_and_null_users(models, shards):
    users = [0, 7, 14, 3]
    lists = [[10_001, 10_002], None, [], [10_003]]
    table = pa.table({"who": [*users, None], "not_these": [*lists, [1]]})
    sets = {"even": list(range(10_000, 10_500, 2)), "few": list(range(10_000, 10_400))}
    filters = {"allow": "even & few", "deny": [10_004], "logits": True, "k": 190}
    found = rows_of(
        recommend(
            ray.data.from_arrow(table),
            f"{models / 'int'}{shards}",
            user="who",
            exclude="not_these",
            sets=sets,
            actors=1,
            **filters,
        ),
        "who",
    )
    assert found.pop() == (None, [], [], False)
    wanted = expected(models / "int", users, sets=sets, exclude=[items or [] for items in lists], **filters)
    assert found == wanted
    assert len(wanted[0][1]) == 190


def test_approximate_search(models, tmp_path):
    model = shutil.copytree(models / "int", tmp_path / "model")
    users = [7 * at for at in range(0, USERS, 3)]
    dataset = ray.data.from_arrow(pa.table({"user": users})).repartition(3)
    for path in (model, models / "int in shards"):
        with pytest.raises(neuralcf.ArgumentError, match="needs an index"):
            recommend(dataset, path, search="approximate")
    neuralcf.Scorer.load(model).build_index(lists=40).save_index()
    for how in ({"search": "approximate", "recall": 0.9}, {"search": "approximate", "probes": 2}):
        wanted = expected(model, users, **how)
        assert "recall" in how or wanted != expected(model, users)
        assert rows_of(recommend(dataset, model, actors=1, **how)) == wanted


@pytest.mark.parametrize("shards", ["", " in shards"])
def test_every_user_exactly_once_though_actors_die(models, shards):
    """Kill an actor that computes, twice, while a job runs: one that holds the model, or one that holds a shard."""
    count, name = 60, "_Shard" if shards else "_Lister"
    users = np.tile(np.arange(USERS) * 7, count)
    dataset = ray.data.from_arrow(pa.table({"user": users})).repartition(30)
    killed, done = [], threading.Event()

    def kill():
        before = cpu_of_actors(name)
        while not done.wait(0.1) and len(killed) < 2:
            now = cpu_of_actors(name)
            busy = [pid for pid, ticks in now.items() if ticks - before.get(pid, ticks) >= 4]
            before = now
            for pid in busy[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = recommend(dataset, f"{models / 'int'}{shards}", actors=2, batch_size=1000)
        table = pa.concat_tables(ray.get(found.to_arrow_refs()))
    finally:
        done.set()
        killer.join()
    assert killed, "no actor was killed"
    wanted = neuralcf.Recommender.load(models / "int").recommend(np.arange(USERS) * 7)
    np.testing.assert_array_equal(table["user"].to_numpy(), users)
    items, scores = (table[name].combine_chunks() for name in ("items", "scores"))
    assert set(np.diff(items.offsets.to_numpy())) == {10}
    np.testing.assert_array_equal(items.flatten().to_numpy().reshape(-1, 10), np.tile(wanted.ids, (count, 1)))
    np.testing.assert_array_equal(scores.flatten().to_numpy().reshape(-1, 10), np.tile(wanted.scores, (count, 1)))


def cpu_of_actors(name):
    """The processor time so far of each actor of a class: ticks by pid."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                # Ray names an actor's process after its class, and what it does, as in ray::MapWorker(...).submit
                title = (folder / "cmdline").read_bytes().decode()
                if title.startswith("ray::") and name in title:
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                    found[int(folder.name)] = int(fields[11]) + int(fields[12])
            except (OSError, ValueError):
                continue
    return found


def test_errors(models):
    dataset = ray.data.from_arrow(pa.table({"user": [1], "name": ["a"]}))
    for model in (models / "int", models / "int in shards"):
        for arguments, kind, message in [
            ({"k": 0}, neuralcf.ArgumentError, "k: expected"),
            ({"allow": "no"}, neuralcf.ArgumentError, "no"),
            ({"deny": [1]}, neuralcf.UnknownItemError, "deny: not in the model: 1"),
            ({"sets": {"a": [10_000, 2]}}, neuralcf.UnknownItemError, "not in the model: 2"),
        ]:
            with pytest.raises(kind, match=message):
                recommend(dataset, model, **arguments)
        with pytest.raises(Exception, match="user: name: expected integers, as the model's ids, got string"):
            recommend(dataset, model, user="name", actors=1).take_all()
    with pytest.raises(FileNotFoundError):
        recommend(dataset, models / "none")


def test_the_example_for_ray_serve(models, monkeypatch):
    from ray import serve

    monkeypatch.setenv("NEURALCF_MODEL", str(models / "int"))
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    sys.modules.pop("ray_serve", None)
    import ray_serve

    serve.start(http_options={"host": "127.0.0.1", "port": 8765})
    serve.run(ray_serve.app)
    try:

        def ask(body):
            request = urllib.request.Request("http://127.0.0.1:8765/", json.dumps(body).encode())
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)

        wanted = neuralcf.Recommender.load(models / "int").recommend([7, 14], 5).to_list()
        assert ask({"users": [7, 14], "k": 5}) == [[[id_, score] for id_, score in row] for row in wanted]
        assert "5" in ask({"users": [5]})["error"]
    finally:
        serve.shutdown()
        time.sleep(0.1)

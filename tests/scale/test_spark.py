"""Spark on this machine: the engine's bits whatever the partitions, filters, unknown users, and workers that die."""

import os
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from local_spark import session as local_session
from pyspark.sql import SparkSession
from pyspark.sql.functions import col

import neuralcf
from neuralcf.batch import spark as on_spark

USERS, ITEMS = 3000, 500


@pytest.fixture(scope="module")
def spark():
    more = {"spark.sql.shuffle.partitions": "3", "spark.sql.execution.arrow.maxRecordsPerBatch": "500"}
    session = local_session(SparkSession.builder.master("local[2,8]"), more)  # two workers; a task may fail seven times
    yield session
    session.stop()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A NeuMF with int ids, and the same with str ids."""
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
    return folder


def rows_of(df, user="user"):
    """Collect a result by user; every user is there exactly once."""
    table = df.toArrow().to_pydict()
    assert len(set(table[user])) == len(table[user])
    return {row[0]: row[1:] for row in zip(table[user], table["items"], table["scores"], table["known"], strict=True)}


def expected(model, users, k=10, **filters):
    found = neuralcf.Recommender.load(model).recommend(users, k, on_unknown="skip", **filters)
    return {
        user: (ids[:count].tolist(), scores[:count].tolist(), known)
        for user, ids, scores, count, known in zip(
            users, found.ids, found.scores, found.counts, found.known, strict=True
        )
    }


@pytest.mark.parametrize("kind", ["int", "str"])
def test_same_bits_whatever_the_partitions(spark, models, kind):
    users = [7 * at for at in range(0, USERS, 2)] + [5]
    if kind == "str":
        users = [f"u{user}" for user in users]
    df = spark.createDataFrame(
        [(user, 1.5) for user in users], f"user {'string' if kind == 'str' else 'long'}, x double"
    )
    wanted = expected(models / kind, users)
    assert wanted[users[-1]] == ([], [], False)
    for partitions in (1, 3, 16):
        found = on_spark.recommend(df.repartition(partitions), models / kind)
        assert found.columns == ["user", "items", "scores", "known"]
        assert rows_of(found) == wanted


def test_filters_and_null_users(spark, models):
    users = [0, 7, 14, 3]
    lists = [[10_001, 10_002], None, [], [10_003]]
    df = spark.createDataFrame([*zip(users, lists, strict=True), (None, [1])], "who int, not_these array<long>")
    sets = {"even": list(range(10_000, 10_500, 2)), "few": list(range(10_000, 10_100))}
    result = on_spark.recommend(
        df, models / "int", user="who", k=30, exclude="not_these", allow="even & few", sets=sets
    )
    found = rows_of(result, "who")
    assert found.pop(None) == ([], [], False)
    recommender = neuralcf.Recommender.load(models / "int")
    for name, items in sets.items():
        recommender.set_items(name, items)
    wanted = recommender.recommend(
        users, 30, exclude=[items or [] for items in lists], allow="even & few", on_unknown="skip"
    )
    for at, user in enumerate(users):
        count = wanted.counts[at]
        assert found[user] == (wanted.ids[at, :count].tolist(), wanted.scores[at, :count].tolist(), wanted.known[at])
    assert wanted.counts[0] > 20


def test_approximate_search(spark, models, tmp_path):
    model = shutil.copytree(models / "int", tmp_path / "model")
    users = [7 * at for at in range(0, USERS, 3)]
    df = spark.createDataFrame([(user,) for user in users], "user long").repartition(3)
    with pytest.raises(neuralcf.ArgumentError, match="needs an index"):
        on_spark.recommend(df, model, search="approximate")
    neuralcf.Scorer.load(model).build_index(lists=40).save_index()
    for how in ({"search": "approximate", "recall": 0.9}, {"search": "approximate", "probes": 2}):
        wanted = expected(model, users, **how)
        assert "recall" in how or wanted != expected(model, users)
        assert rows_of(on_spark.recommend(df, model, **how)) == wanted


def test_score_keeps_all_columns(spark, models):
    pairs = [(7 * at, 10_000 + at % ITEMS, f"note {at}") for at in range(700)]
    pairs += [(5, 10_000, "unknown user"), (7, 3, "unknown item"), (None, 10_000, "null"), (7, None, "null")]
    df = spark.createDataFrame(pairs, "user long, item long, note string").repartition(4)
    table = on_spark.score(df, models / "int", logits=True).toArrow().to_pydict()
    assert list(table) == ["user", "item", "note", "score"]
    known = neuralcf.Recommender.load(models / "int").score_batch(
        [pair[0] for pair in pairs[:700]], [pair[1] for pair in pairs[:700]], logits=True
    )
    wanted = dict(zip(pairs, [*known.tolist(), None, None, None, None], strict=True))
    assert (
        dict(zip(zip(table["user"], table["item"], table["note"], strict=True), table["score"], strict=True)) == wanted
    )


def test_a_shipped_model(spark, models):
    spark.sparkContext.addFile(str(models / "int"), recursive=True)
    df = spark.range(0, 7 * 300, 7).withColumnRenamed("id", "user").repartition(6)
    assert rows_of(on_spark.recommend(df, models / "int", shipped=True)) == expected(
        models / "int", [7 * n for n in range(300)]
    )


def cpu_of_workers():
    """The processor time so far of each Python worker of Spark, a process that its daemon has forked: ticks by pid."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes()
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if (
                    b"pyspark.daemon" in command
                    and b"pyspark.daemon" in Path(f"/proc/{fields[1]}/cmdline").read_bytes()
                ):
                    found[int(folder.name)] = int(fields[11]) + int(fields[12])
            except (OSError, ValueError):
                continue
    return found


def test_every_user_exactly_once_though_workers_die(spark, models):
    """Kill a worker that computes, three times, while a job runs."""
    count = 60
    df = spark.range(0, USERS * count).select((col("id") % USERS * 7).alias("user"), col("id").alias("row"))
    df = df.repartition(24, "row").select("user")
    killed, done = [], threading.Event()

    def kill():
        before = cpu_of_workers()
        while not done.wait(0.3) and len(killed) < 3:
            now = cpu_of_workers()
            busy = [pid for pid, ticks in now.items() if ticks - before.get(pid, ticks) >= 4]
            before = now
            for pid in busy[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        table = on_spark.recommend(df, models / "int", k=10).toArrow()
    finally:
        done.set()
        killer.join()
    assert killed, "no worker was killed"
    users = np.asarray(table["user"])
    assert np.array_equal(np.bincount(users // 7), np.full(USERS, count))
    order = np.argsort(users, kind="stable")
    wanted = neuralcf.Recommender.load(models / "int").recommend(np.repeat(np.arange(USERS) * 7, count))
    items, scores = (table[name].combine_chunks() for name in ("items", "scores"))
    assert set(np.diff(items.offsets.to_numpy())) == {10}
    np.testing.assert_array_equal(items.flatten().to_numpy().reshape(-1, 10)[order], wanted.ids)
    np.testing.assert_array_equal(scores.flatten().to_numpy().reshape(-1, 10)[order], wanted.scores)


def test_errors_on_the_driver(spark, models):
    df = spark.createDataFrame([(1, "a")], "user long, name string")
    for arguments, message in [
        ({"user": "no"}, "user: expected one of the columns user, name, got 'no'"),
        ({"user": "name"}, "user: name: expected integers, as the model's ids, got string"),
        ({"exclude": "name"}, "exclude: name: expected arrays of integers"),
        ({"k": 0}, "k: expected"),
    ]:
        with pytest.raises(neuralcf.ArgumentError, match=message):
            on_spark.recommend(df, models / "int", **arguments)
    with pytest.raises(neuralcf.UnknownItemError):
        on_spark.recommend(df, models / "int", deny=[1])
    with pytest.raises(FileNotFoundError):
        on_spark.recommend(df, models / "none")

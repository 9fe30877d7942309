"""Spark Connect on this machine: a server of its own, to which the client has no other way; the engine's bits."""

import numpy as np
import pytest
from local_spark import session as local_session
from pyspark.sql import SparkSession
from pyspark.sql.connect.session import SparkSession as ConnectSession

import neuralcf
from neuralcf.batch.spark import recommend, score

USERS, ITEMS = 200, 50


@pytest.fixture(scope="module")
def spark():
    session = local_session(SparkSession.builder.remote("local[2]"))
    assert isinstance(session, ConnectSession)
    yield session
    session.stop()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    rng = np.random.default_rng(0)
    tensors = {
        "gmf.user_embedding.weight": rng.standard_normal((USERS, 8), dtype=np.float32),
        "gmf.item_embedding.weight": rng.standard_normal((ITEMS, 8), dtype=np.float32),
        "output.weight": np.ones((1, 8), np.float32),
        "output.bias": np.zeros(1, np.float32),
    }
    path = tmp_path_factory.mktemp("models") / "gmf"
    seen = np.arange(USERS + 1), np.arange(USERS) % ITEMS
    neuralcf.save(tensors, path, kind="gmf", ids=(np.arange(USERS) * 7, np.arange(ITEMS)), seen=seen)
    return path


def test_recommend_with_filters(spark, model):
    users = [7 * at for at in range(USERS)] + [5]
    df = spark.createDataFrame([(user, [3, 4]) for user in users], "user long, hidden array<long>").repartition(3)
    found = recommend(df, model, exclude="hidden", allow="few", sets={"few": range(40)}).toArrow().to_pydict()
    recommender = neuralcf.Recommender.load(model)
    wanted = recommender.recommend(users, exclude=[[3, 4]] * len(users), allow=list(range(40)), on_unknown="skip")
    assert sorted(found["user"]) == sorted(users)
    for user, items, scores, known in zip(*found.values(), strict=True):
        at, count = users.index(user), 10 if user != 5 else 0
        assert (items, scores) == (wanted.ids[at, :count].tolist(), wanted.scores[at, :count].tolist())
        assert known == (user != 5)


def test_score(spark, model):
    pairs = [(7 * at, at % ITEMS) for at in range(USERS)]
    table = score(spark.createDataFrame([*pairs, (5, 0)], "user long, item long"), model).toArrow().to_pydict()
    wanted = neuralcf.Recommender.load(model).score_batch(*zip(*pairs, strict=True))
    found = dict(zip(zip(table["user"], table["item"], strict=True), table["score"], strict=True))
    assert found == dict(zip([*pairs, (5, 0)], [*wanted.tolist(), None], strict=True))

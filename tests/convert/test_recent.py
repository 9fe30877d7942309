"""implicit, Cornac, Spark, faiss, usearch and hnswlib: train by the real library, convert, compare."""

import sys

import cornac
import faiss
import hnswlib
import implicit.als
import implicit.bpr
import implicit.lmf
import numpy as np
import pytest
from pyspark.ml.recommendation import ALS
from pyspark.sql import SparkSession
from usearch.index import Index

import neuralcf
from neuralcf import convert

IMPLICIT = {
    "ALS": implicit.als.AlternatingLeastSquares,
    "BPR": implicit.bpr.BayesianPersonalizedRanking,
    "LMF": implicit.lmf.LogisticMatrixFactorization,
}


@pytest.mark.parametrize("name", IMPLICIT)
def test_implicit(name, user_items, tmp_path, compare):
    model = IMPLICIT[name](factors=12, iterations=20, random_state=3, num_threads=1)
    model.fit(user_items, show_progress=False)
    model.save(tmp_path / "model.npz")
    users = np.arange(user_items.shape[0])
    lists, _ = model.recommend(users, user_items, N=10, filter_already_liked_items=True)
    scores = np.asarray(model.user_factors) @ np.asarray(model.item_factors).T
    for source in (model, tmp_path / "model.npz"):
        converted = convert.from_implicit(source, seen=user_items)
        assert converted.config["converted_from"]["model"] == IMPLICIT[name].__name__
        source_name = name if source is model else f"{name}, .npz"
        compare("implicit", source_name, converted, scores, lists.tolist(), exclude_seen=True)


def cornac_models():
    yield "MF", cornac.models.MF(k=8, max_iter=20, seed=3)
    yield "BPR", cornac.models.BPR(k=8, max_iter=20, seed=3)
    network = {"layers": (16, 12, 8), "num_epochs": 3, "backend": "pytorch", "seed": 3, "verbose": False, "lr": 0.01}
    yield "GMF", cornac.models.GMF(num_factors=8, num_epochs=3, backend="pytorch", seed=3, verbose=False, lr=0.01)
    yield "MLP", cornac.models.MLP(**network)
    yield "NeuMF", cornac.models.NeuMF(num_factors=8, **network)


@pytest.mark.parametrize(
    ("name", "model"), list(cornac_models()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_cornac(name, model, triples, tmp_path, compare):
    train_set = cornac.data.Dataset.from_uir(triples, seed=1)
    model.fit(train_set)
    scores = np.array([model.score(user) for user in range(train_set.num_users)])
    networks = name in ("GMF", "MLP", "NeuMF")
    users, items = list(train_set.uid_map), list(train_set.iid_map)
    lists = [model.recommend(user, k=10) for user in users]
    converted = convert.from_cornac(model)
    assert converted.ids == (users, items)
    compare("Cornac", name, converted, scores, lists, probabilities=networks)
    if not networks:  # its networks of PyTorch have no save
        model.save(tmp_path / "saved", save_trainset=False)
        with pytest.raises(neuralcf.ArgumentError, match="trust=True"):
            convert.from_cornac(tmp_path / "saved" / name)
        compare("Cornac", f"{name}, .pkl", convert.from_cornac(tmp_path / "saved" / name, trust=True), scores, lists)


def test_spark_als(user_items, tmp_path, compare, monkeypatch):
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "3",
        "spark.driver.memory": "1g",
    }
    builder = SparkSession.builder.master("local[1]")
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    try:
        pairs = user_items.tocoo()
        rows = [(int(user) * 5, int(item) - 40, 1.0) for user, item in zip(pairs.row, pairs.col, strict=True)]
        data = spark.createDataFrame(rows, "user int, item int, rating float")
        als = ALS(rank=6, maxIter=4, implicitPrefs=True, userCol="user", itemCol="item", ratingCol="rating", seed=3)
        model = als.fit(data)
        model.save(str(tmp_path / "als"))
        users, items = (np.unique(side).tolist() for side in (pairs.row * 5, pairs.col - 40))
        all_pairs = spark.createDataFrame([(u, i) for u in users for i in items], "user int, item int")
        predicted = {(row.user, row.item): row.prediction for row in model.transform(all_pairs).collect()}
        lists = {
            row.user: [best.item for best in row.recommendations] for row in model.recommendForAllUsers(10).collect()
        }
    finally:
        spark.stop()
    scores = np.array([[predicted[user, item] for item in items] for user in users])
    converted = convert.from_spark_als(tmp_path / "als")
    assert [list(ids) for ids in converted.ids] == [users, items]
    compare("Spark MLlib", "ALS", converted, scores, [lists[user] for user in users])


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((count, 16)).astype(np.float32) for count in (60, 90))
    return users, items, rng.permutation(90) + 1000


def in_order(items, ids):
    order = np.argsort(ids)
    return items[order], ids[order]


@pytest.mark.parametrize("kind", ["Flat", "IVF8,Flat", "HNSW8"])
def test_faiss(kind, vectors, tmp_path, compare):
    users, items, ids = vectors
    index = faiss.index_factory(16, kind, faiss.METRIC_INNER_PRODUCT)
    if kind != "IVF8,Flat":
        index = faiss.IndexIDMap2(index)
    index.train(items)
    index.add_with_ids(items, ids)
    if kind == "IVF8,Flat":
        index.nprobe = 8
        items = in_order(items, ids)[0]
    faiss.write_index(index, str(tmp_path / "items.faiss"))
    converted = convert.from_vectors(tmp_path / "items.faiss", users)
    lists = None if kind == "HNSW8" else index.search(users, 10)[1].tolist()
    compare("faiss", kind, converted, users @ items.T, lists)
    near = faiss.index_factory(16, "Flat", faiss.METRIC_L2)
    near.add(items)
    faiss.write_index(near, str(tmp_path / "near.faiss"))
    with pytest.raises(neuralcf.ArgumentError, match="an index of faiss by inner product, got L2"):
        convert.from_vectors(tmp_path / "near.faiss", users)


def test_usearch(vectors, tmp_path, compare):
    users, items, ids = vectors
    index = Index(ndim=16, metric="ip", dtype="f32")
    index.add(ids, items)
    index.save(str(tmp_path / "items.usearch"))
    lists = index.search(users, 10, exact=True).keys.astype(int).tolist()
    compare(
        "usearch",
        "ip",
        convert.from_vectors(tmp_path / "items.usearch", users),
        users @ in_order(items, ids)[0].T,
        lists,
    )
    cosine = Index(ndim=16, metric="cos", dtype="f32")
    cosine.add(ids, items)
    with pytest.raises(neuralcf.ArgumentError, match="expected an index of usearch by inner product"):
        convert.from_vectors(cosine, users)
    several = Index(ndim=16, metric="ip", dtype="f32", multi=True)
    several.add(np.zeros(len(items), np.uint64), items)
    with pytest.raises(neuralcf.ArgumentError, match="expected one vector for each key"):
        convert.from_vectors(several, users)
    large = Index(ndim=16, metric="ip", dtype="f32")
    large.add(np.arange(2**63, 2**63 + len(items), dtype=np.uint64), items)
    with pytest.raises(neuralcf.ArgumentError, match="source: ids: expected integers that fit int64"):
        convert.from_vectors(large, users)
    assert convert.from_vectors(large, users, ids=(range(len(users)), range(len(items)))).num_items == len(items)


def test_hnswlib(vectors, tmp_path, compare):
    users, items, ids = vectors
    index = hnswlib.Index("ip", 16)
    index.init_index(200, ef_construction=200, M=16)
    index.add_items(items, ids)
    index.mark_deleted(int(ids[0]))
    index.set_ef(100)
    index.save_index(str(tmp_path / "items.bin"))
    items, kept = in_order(items[1:], ids[1:])
    converted = convert.from_vectors(tmp_path / "items.bin", users, metric="ip")
    assert list(converted.ids[1]) == kept.tolist()
    lists = index.knn_query(users, 10)[0].astype(int).tolist()
    compare("hnswlib", "ip", converted, users @ items.T, lists)


def test_to_dot_product_in_faiss_and_usearch(user_items, tmp_path):
    model = implicit.bpr.BayesianPersonalizedRanking(factors=12, iterations=20, random_state=3, num_threads=1)
    model.fit(user_items, show_progress=False)
    convert.from_implicit(model, seen=user_items).save(tmp_path / "model")
    vectors = convert.to_dot_product(tmp_path / "model")
    expected = neuralcf.Scorer.load(tmp_path / "model").top_k(np.arange(user_items.shape[0]), 10, logits=True)
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.item_vectors.shape[1]))
    index.add_with_ids(vectors.item_vectors, vectors.item_ids)
    scores, ids = index.search(vectors.user_vectors, 10)
    assert (ids == expected.ids).mean() > 0.99
    np.testing.assert_allclose(scores + vectors.bias, expected.scores, atol=1e-5)
    graph = Index(ndim=vectors.item_vectors.shape[1], metric="ip", dtype="f32")
    graph.add(vectors.item_ids, vectors.item_vectors)
    assert (graph.search(vectors.user_vectors, 10, exact=True).keys.astype(int) == expected.ids).mean() > 0.99

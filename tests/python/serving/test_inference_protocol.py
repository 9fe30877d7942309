"""The Open Inference Protocol: its six routes, with the Recommender's answers."""

import numpy as np
import pytest
from served import Client, saved  # first, because it skips these tests without the extra `serve`

import neuralcf

from neuralcf.serving.http.app import Service, Settings  # isort: skip


@pytest.fixture(scope="module", params=[False, True], ids=["int", "str"])
def served(request, tmp_path_factory):
    path = saved(tmp_path_factory.mktemp("served") / "model", strings=request.param)
    recommender = neuralcf.Recommender.load(path)
    service = Service(recommender, Settings(max_users=4, max_items=8))
    with Client(service.app) as client:
        yield client, recommender
    service.engine.close()


def tensor(name, ids):
    return {"name": name, "shape": [len(ids)], "datatype": "BYTES" if isinstance(ids[0], str) else "INT64", "data": ids}


def ids_of(recommender, what, indices):
    ids = getattr(recommender, f"{what}_ids").take(indices)
    return ids if isinstance(ids, list) else ids.tolist()


def test_health_and_metadata(served):
    client, _ = served
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json()["ready"]
    assert client.get("/v2").json()["name"] == "neuralcf"
    for name in ("recommend", "score"):
        for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/1"):
            assert client.get(path).json()["versions"] == ["1"]
            assert client.get(f"{path}/ready").json()["ready"]
    for path in ("/v2/models/other", "/v2/models/score/versions/2", "/v2/models/score/versions/2/ready"):
        response = client.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "unknown_model")


@pytest.mark.parametrize("path", ["/v2/models/recommend", "/v2/models/recommend/versions/1"])
def test_recommend(served, path):
    client, recommender = served
    users = ids_of(recommender, "user", [3, 7])
    asked = {"id": "a", "inputs": [tensor("users", users)], "parameters": {"k": 60, "logits": True}}
    answer = client.post(f"{path}/infer", asked).json()
    best = recommender.recommend(users, 60, logits=True)
    outputs = {one["name"]: one for one in answer.pop("outputs")}
    assert answer == {"model_name": "recommend", "model_version": "1", "id": "a"}
    assert outputs["counts"]["data"] == best.counts.tolist() == [58, 58]
    assert outputs["items"]["shape"] == outputs["scores"]["shape"] == [2, 60]
    padding = "" if isinstance(users[0], str) else -1
    assert outputs["items"]["data"] == [padding if one is None else one for one in best.ids.ravel().tolist()]
    lowest = np.finfo(np.float32).min
    assert np.array_equal(np.float32(outputs["scores"]["data"]), np.maximum(best.scores, lowest).ravel())
    metadata = client.get(path).json()
    assert {one["name"]: one["datatype"] for one in metadata["outputs"]} == {
        name: one["datatype"] for name, one in outputs.items()
    }


def test_score(served):
    client, recommender = served
    users, items = ids_of(recommender, "user", [3, 7]), ids_of(recommender, "item", [5, 2])
    asked = {"inputs": [tensor("items", items), tensor("users", users)], "outputs": [{"name": "scores"}]}
    (scores,) = client.post("/v2/models/score/infer", asked).json()["outputs"]
    assert (scores["datatype"], scores["shape"]) == ("FP32", [2])
    assert np.array_equal(np.float32(scores["data"]), recommender.score_batch(users, items))


def test_bad_requests(served):
    client, recommender = served
    users, items = ids_of(recommender, "user", [3]), ids_of(recommender, "item", [5])
    good, other = tensor("users", users), tensor("users", ["x"] if isinstance(users[0], int) else [3])
    for model, body, status, words in [
        ("recommend", {}, 422, "inputs: missing"),
        ("recommend", {"inputs": []}, 422, "inputs: expected at least 1"),
        ("recommend", {"inputs": [3]}, 422, "inputs[0]: expected an object"),
        ("recommend", {"inputs": [{**good, "name": "user"}]}, 422, "inputs: expected users"),
        ("recommend", {"inputs": [good, good]}, 422, "each once"),
        ("recommend", {"inputs": [other]}, 422, "users: expected datatype"),
        ("recommend", {"inputs": [{**good, "data": other["data"]}]}, 422, "users[0]: expected a"),
        ("recommend", {"inputs": [{**good, "shape": [2]}]}, 422, "expected the shape of its data, [1], got [2]"),
        ("recommend", {"inputs": [{**good, "shape": [-1]}]}, 422, "shape[0]: expected at least 0"),
        ("recommend", {"inputs": [{**good, "datatype": "FP32"}]}, 422, "datatype: expected one of"),
        ("recommend", {"inputs": [tensor("users", users * 5)]}, 422, "users: expected at most 4, got 5"),
        ("recommend", {"inputs": [tensor("users", users * 9)]}, 422, "data: expected at most 8, got 9"),
        ("recommend", {"inputs": [good], "parameters": {"k": 0}}, 422, "k: expected at least 1"),
        ("recommend", {"inputs": [good], "parameters": {"n": 1}}, 422, 'parameters."n": unknown'),
        ("recommend", {"inputs": [good], "outputs": [{"name": "vectors"}]}, 422, "outputs: expected items, scores"),
        ("score", {"inputs": [good]}, 422, "inputs: expected users and items, each once"),
        ("score", {"inputs": [tensor("users", users * 2), tensor("items", items * 3)]}, 422, "3"),
        ("other", {"inputs": [good]}, 404, "model: expected recommend or score"),
    ]:
        response = client.post(f"/v2/models/{model}/infer", body)
        assert (response.status_code, words in response.json()["error"]) == (status, True), response.text

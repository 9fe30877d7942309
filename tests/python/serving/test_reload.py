"""Hot swap: a new model takes over without a failed or torn answer, and a broken one is refused."""

import gc
import http.client
import json
import signal
import threading
import time

import pytest
from served import USERS, Client, saved  # skips these tests without the extra `serve`
from test_serve import Process

import neuralcf
from neuralcf._core import publish
from neuralcf.serving.generations import Generation
from neuralcf.serving.http import batching
from neuralcf.serving.http.app import Service, Settings


def ask(connection, path, body):
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def broken(path, beside):
    """Publish a model whose weights are cut short."""
    saved(beside)
    weights = beside / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    publish(beside, path)


def until(condition):
    """Wait for a condition."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "nothing happened within a minute"
        time.sleep(0.02)


@pytest.fixture
def path(tmp_path):
    return saved(tmp_path / "model")


def test_each_way_to_reload(path, tmp_path):
    with Process(path, "--watch", "0.05") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)

        def generation():
            return ask(connection, "/recommend", {"users": [3]})[1]["generation"]

        assert ask(connection, "/admin/reload", {})[1]["changed"] is False
        saved(path, seed=1)
        until(lambda: generation() == 2)  # it watches the files
        assert ask(connection, "/admin/reload", {})[1]["changed"] is False
        broken(path, tmp_path / "beside")
        status, body = ask(connection, "/admin/reload", {})
        assert (status, body["code"]) == (409, "model_refused")
        assert "model.safetensors" in body["error"]
        assert generation() == 2
        assert ask(connection, "/admin/reload", {"path": "/etc"})[0] == 422
        connection.close()

    with Process(saved(tmp_path / "other"), "--watch", "0") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        saved(tmp_path / "other", seed=2)
        time.sleep(0.3)
        assert ask(connection, "/recommend", {"users": [3]})[1]["generation"] == 1  # it does not watch
        server.process.send_signal(signal.SIGHUP)
        until(lambda: ask(connection, "/recommend", {"users": [3]})[1]["generation"] == 2)
        saved(tmp_path / "other", strings=True)
        status, body = ask(connection, "/admin/reload", {})
        assert (status, "user_ids: expected int64, as in the model in use" in body["error"]) == (409, True)
        connection.close()


def test_sets_of_a_file_are_read_with_each_model_and_others_are_kept(path, tmp_path):
    sets = tmp_path / "sets.json"
    sets.write_text('{"sets": {"some": [1003, 1005, 7]}, "groups": {"kind": {"items": [1003], "groups": ["x"]}}}')
    with Process(path, "--sets", str(sets), "--watch", "0") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        assert [(entry["event"], entry["unknown_items"]) for entry in server.before] == [("sets with unknown items", 1)]
        asked = {"users": [3], "allow": "some", "exclude_seen": False}

        def items():
            return {one["item"] for one in ask(connection, "/recommend", asked)[1]["lists"][0]["items"]}

        assert items() == {1003, 1005}
        connection.request("PUT", "/admin/sets/own", b'{"items": [1004]}', {"content-type": "application/json"})
        assert json.loads(connection.getresponse().read())["items"] == 1
        sets.write_text('{"sets": {"some": [1009]}}')
        saved(path, seed=1)
        assert ask(connection, "/admin/reload", {})[1]["changed"]
        assert items() == {1009}
        asked["allow"] = "some | own"
        assert items() == {1004, 1009}

        sets.write_text('{"sets": {"some": ["1009"]}}')
        saved(path, seed=2)
        status, body = ask(connection, "/admin/reload", {})
        assert (status, body["error"].endswith('sets.json: sets["some"][0]: expected an integer, got "1009"')) == (
            409,
            True,
        )
        saved(path, seed=2, seen=False)
        status, body = ask(connection, "/admin/reload", {})
        assert (status, "expected stored interactions, as in the model being served" in body["error"]) == (409, True)
        assert items() == {1004, 1009}
        connection.close()


def test_twenty_swaps_under_load(path, tmp_path):
    lists, failed, asked, done = {}, [], [0] * 4, threading.Event()

    def expect():
        """Note what the model at the path must answer."""
        recommender = neuralcf.Recommender.load(path)
        best = recommender.recommend(list(range(USERS)), 10)
        lists[recommender.scorer.metadata["model_id"]] = best.ids.tolist(), best.scores.tolist()

    answers = []

    def load(number):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        while not done.is_set():
            user = asked[number] % USERS
            status, body = ask(connection, "/recommend", {"users": [user, (user + 1) % USERS]})
            asked[number] += 1
            if status != 200:
                failed.append(body)
                return
            answers.append((user, body))
        connection.close()

    expect()
    with Process(path, "--watch", "0") as server:
        threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        generation = 1
        for swap in range(20):
            if swap % 4 == 3:
                broken(path, tmp_path / "beside")
                assert ask(connection, "/admin/reload", {})[0] == 409
            else:
                saved(path, seed=swap + 1)
                expect()
                status, body = ask(connection, "/admin/reload", {})
                generation += 1
                assert (status, body["generation"]) == (200, generation)
        done.set()
        for thread in threads:
            thread.join()
        connection.close()
    assert not failed
    assert min(asked) > 0
    assert len({body["generation"] for _, body in answers}) > 5
    for user, body in answers:
        ids, scores = lists[body["model_id"]]
        for row, one in zip((user, (user + 1) % USERS), body["lists"], strict=True):
            assert [item["item"] for item in one["items"]] == ids[row]
            assert [item["score"] for item in one["items"]] == scores[row]


@pytest.mark.parametrize("longest", [0.0, 1.0])
def test_no_old_model_is_kept(path, tmp_path, monkeypatch, longest):
    """Reference counts alone free an old model, also after refusals: the garbage collector may come late."""
    monkeypatch.setattr(batching, "_SHORT", longest)  # all on the engine's thread, or some on the event loop
    monkeypatch.setattr(batching, "_WATCH_AFTER", 0.0)  # as if all answers took long
    service = Service(neuralcf.Recommender.load(path), Settings())

    def generations():
        return sum(type(one) is Generation for one in gc.get_objects())

    gc.collect()
    before = generations()
    gc.disable()
    try:
        with Client(service.app) as client:
            for n in range(8):
                assert client.post("/recommend", {"users": [3]}).status_code == 200
                assert client.post("/recommend", {"users": [99]}).status_code == 404
                assert client.post("/recommend", {"users": [3, 4], "exclude": [[7], []]}).status_code == 404
                assert client.post("/recommend", {"users": "3"}).status_code == 422
                assert client.post("/explain", {"user": 3, "item": 1003}).status_code == 200
                assert client.post("/score", {"users": [3], "items": [7]}).status_code == 404
                assert client.get("/readyz").status_code == 200
                if n % 2:
                    broken(path, tmp_path / "beside")
                else:
                    saved(path, seed=n + 1)
                assert client.post("/admin/reload", {}).status_code == (409 if n % 2 else 200)
            assert client.post("/recommend", {"users": [3]}).status_code == 200
            assert generations() == before
    finally:
        gc.enable()
        service.close()

"""The service in this process: its answers are the Recommender's, and a bad request gets a clear refusal."""

import asyncio
import json
import threading

import numpy as np
import pytest
from served import Client, saved, send  # first, because it skips these tests without the extra `serve`

import neuralcf

from neuralcf.serving.http.app import Service, Settings  # isort: skip

JSON = {"content-type": "application/json"}
TITLES = {1000: "Alien", 1001: "Brazil"}


@pytest.fixture(scope="module")
def recommender(tmp_path_factory):
    return neuralcf.Recommender.load(saved(tmp_path_factory.mktemp("served") / "model"))


@pytest.fixture(scope="module")
def client(recommender):
    service = Service(recommender, Settings(max_users=4, max_items=50, max_k=30, max_body=2000), TITLES)
    with Client(service.app) as client:
        yield client
    service.engine.close()


def refusal(response):
    """Check the one shape of refusals; return its status, code and message."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error", "code"}
    return response.status_code, body["code"], body["error"]


# -------------------------------------------------------------------------------------------------------------- answers


def test_lists_are_the_recommenders(client, recommender):
    asked = {"users": [3, 0, 7], "k": 5, "deny": [1001], "logits": True}
    answer = client.post("/recommend", asked).json()
    best = recommender.recommend([3, 0, 7], 5, deny=[1001], logits=True)
    assert [one["user"] for one in answer["lists"]] == [3, 0, 7]
    for row, one in enumerate(answer["lists"]):
        assert [item["item"] for item in one["items"]] == best.ids[row].tolist()
        assert np.array_equal(np.float32([item["score"] for item in one["items"]]), best.scores[row])
        assert [item["title"] for item in one["items"]] == [TITLES.get(item) for item in best.ids[row].tolist()]
    assert answer["model_id"] == recommender.scorer.metadata["model_id"]
    assert answer["generation"] == 1


def test_a_query_string_says_the_same_as_json(client):
    body = {"users": [3, 9], "k": 4, "exclude_seen": False, "allow": [1002, 1003, 1004]}
    query = "users=3&users=9&k=4&exclude_seen=false&allow=1002&allow=1003&allow=1004"
    assert client.get(f"/recommend?{query}").json() == client.post("/recommend", body).json()
    assert (
        client.get("/score?users=3&items=1002").json() == client.post("/score", {"users": [3], "items": [1002]}).json()
    )


def test_seven_point_zero_is_seven(client):
    assert client.post("/recommend", {"users": [7.0]}).json() == client.post("/recommend", {"users": [7]}).json()


def test_unknown_users_are_skipped_if_asked(client):
    first, second = client.post("/recommend", {"users": [99, 1], "on_unknown": "skip"}).json()["lists"]
    assert first == {"user": 99, "known": False, "items": []}
    assert second["known"]
    assert len(second["items"]) == 10


def test_scores_are_the_recommenders(client, recommender):
    answer = client.post("/score", {"users": [3, 4], "items": [1002, 1003]}).json()
    assert np.array_equal(np.float32(answer["scores"]), recommender.score_batch([3, 4], [1002, 1003]))
    one = client.post("/score", {"users": [3], "items": [1002, 1003]}).json()
    assert np.array_equal(np.float32(one["scores"]), recommender.score_batch(3, [1002, 1003]))


def test_ids_of_text(tmp_path):
    recommender = neuralcf.Recommender.load(saved(tmp_path / "model", strings=True))
    service = Service(recommender, Settings())
    with Client(service.app) as client:
        answer = client.post("/recommend", {"users": ["u3"], "k": 2, "allow": ["é1002"]}).json()
        assert [one["item"] for one in answer["lists"][0]["items"]] in (["é1002"], [])
        assert refusal(client.post("/recommend", {"users": [3]}))[:2] == (422, "bad_argument")
        assert refusal(client.post("/recommend", content=b'{"users": ["\\ud800"]}', headers=JSON))[0] == 422
        assert refusal(client.get("/recommend?users=%ff"))[:2] == (400, "bad_query")
    service.engine.close()


# ----------------------------------------------------------------------------------------------------------- bad input

BODIES = {
    "nothing": (b"", 400, "expected JSON"),
    "no JSON": (b"users=3", 400, "expected JSON"),
    "NaN": (b'{"users": [3], "k": NaN}', 400, "NaN"),
    "infinity": (b'{"users": [3], "k": -Infinity}', 400, "Infinity"),
    "no UTF-8": (b'{"users": ["\xff"]}', 400, "UTF-8"),
    "UTF-16": ('{"users": [3]}'.encode("utf-16"), 400, "UTF-8"),
    "a name twice": (b'{"users": [3], "users": [4]}', 400, "twice"),
    "nested": (b"[" * 900 + b"]" * 900, 422, "expected an object"),
    "nested deeply": (b'{"a":' * 300 + b"1" + b"}" * 300, 422, "unknown"),
    "half": (b'{"users": [3]', 400, "expected JSON"),
    "two values": (b'{"users": [3]} {}', 400, "expected JSON"),
    "a list": (b"[3]", 422, "body: expected an object, got [3]"),
    "null": (b"null", 422, "expected an object"),
    "unknown field": (b'{"users": [3], "limit": 3}', 422, '"limit": unknown'),
    "a longer body": (b'{"users": [3], "k": ' + b" " * 2000 + b"3}", 413, "at most 2000 bytes"),
}
FIELDS = {
    "/recommend": [
        ({}, 422, "users: missing"),
        ({"users": 3}, 422, "users: expected an array, got 3"),
        ({"users": None}, 422, "users: expected an array, got null"),
        ({"users": ["3"]}, 422, 'users[0]: expected an integer, got "3"'),
        ({"users": [3.5]}, 422, "users[0]: expected an integer, got 3.5"),
        ({"users": [1e17]}, 422, "users[0]: expected an integer, got 1e+17"),
        ({"users": [True]}, 422, "users[0]: expected an integer, got true"),
        ({"users": [[3]]}, 422, "users[0]: expected an integer, got [3]"),
        ({"users": [2**63]}, 422, "users[0]: expected at most"),
        ({"users": [10**1500]}, 422, "users[0]: expected at most"),
        ({"users": [-(2**63) - 1]}, 422, "users[0]: expected at least"),
        ({"users": [3] * 5}, 422, "users: expected at most 4, got 5"),
        ({"users": [99, 3, -1]}, 404, "users: not in the model: 99, -1"),
        ({"users": [3], "k": 0}, 422, "k: expected at least 1, got 0"),
        ({"users": [3], "k": 31}, 422, "k: expected at most 30, got 31"),
        ({"users": [3], "k": "5"}, 422, 'k: expected an integer, got "5"'),
        ({"users": [3], "k": 5.5}, 422, "k: expected an integer, got 5.5"),
        ({"users": [3], "k": None}, 422, "k: expected an integer, got null"),
        ({"users": [3], "exclude_seen": 1}, 422, "exclude_seen: expected a boolean, got 1"),
        ({"users": [3], "exclude_seen": "yes"}, 422, 'exclude_seen: expected a boolean, got "yes"'),
        ({"users": [3], "logits": None}, 422, "logits: expected a boolean, got null"),
        ({"users": [3], "allow": 1000}, 422, "allow: expected an array, got 1000"),
        ({"users": [3], "allow": ["1000"]}, 422, 'allow[0]: expected an integer, got "1000"'),
        ({"users": [3], "deny": [1000, 7]}, 404, "deny: not in the model: 7"),
        ({"users": [3], "allow": [1000] * 51}, 422, "allow: expected at most 50, got 51"),
        ({"users": [3], "on_unknown": "popularity"}, 422, 'on_unknown: expected one of "raise", "skip"'),
    ],
    "/score": [
        ({"users": [3]}, 422, "items: missing"),
        ({"items": [1000]}, 422, "users: missing"),
        ({"users": [3, 4], "items": [1000, 1001, 1002]}, 422, "2"),
        ({"users": [3], "items": [7]}, 404, "items: not in the model: 7"),
        ({"users": [99], "items": [1000]}, 404, "users: not in the model: 99"),
        ({"users": [3], "items": [1000] * 51}, 422, "items: expected at most 50, got 51"),
        ({"users": [3], "items": [1000], "logits": 0}, 422, "logits: expected a boolean, got 0"),
    ],
}
CODES = {
    400: {"bad_json"},
    404: {"unknown_user", "unknown_item"},
    413: {"too_large"},
    422: {"bad_argument", "too_many"},
}


@pytest.mark.parametrize("path", FIELDS)
@pytest.mark.parametrize("name", BODIES)
def test_bad_bodies(client, path, name):
    body, status, words = BODIES[name]
    got, code, message = refusal(client.post(path, content=body, headers=JSON))
    assert (got, code in CODES[status]) == (status, True), message
    assert words in message


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [(path, *row) for path, rows in FIELDS.items() for row in rows],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_bad_fields(client, path, body, status, words):
    got, code, message = refusal(client.post(path, body))
    assert (got, code in CODES[status]) == (status, True), message
    assert words in message


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 422, "users: missing"),
        ("users", 400, "expected name=value"),
        ("users=", 422, 'users: expected an integer, got ""'),
        ("users=3.0", 422, 'users: expected an integer, got "3.0"'),
        ("users=+3", 422, "users: expected an integer"),
        ("users=03", 422, "users: expected an integer"),
        ("users=%D9%A3", 422, "users: expected an integer"),
        ("users=3&k=2&k=3", 422, "k: expected once, got twice"),
        ("users=3&exclude_seen=True", 422, 'exclude_seen: expected a boolean, got "True"'),
        ("users=3&n=5", 422, '"n": unknown'),
        ("users=3&k=99999999999999999999", 422, "k: expected an integer"),
        ("users=3&k=31", 422, "k: expected at most 30, got 31"),
        ("users=1&users=1&users=1&users=1&users=1", 422, "users: expected at most 4, got 5"),
    ],
)
def test_bad_queries(client, query, status, words):
    got, _, message = refusal(client.get(f"/recommend?{query}"))
    assert (got, words in message) == (status, True), message


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("POST", "/nothing", {}, 404, "no_such_path"),
        ("GET", "/recommend/", {}, 404, "no_such_path"),
        ("GET", "/../model", {}, 404, "no_such_path"),
        ("PUT", "/recommend", {}, 405, "method_not_allowed"),
        ("POST", "/livez", {}, 405, "method_not_allowed"),
        ("POST", "/recommend", {"content-type": "text/plain"}, 415, "not_json"),
        ("POST", "/recommend", {"x-timeout-ms": "soon"}, 400, "bad_header"),
        ("POST", "/recommend", {"x-timeout-ms": "0"}, 400, "bad_header"),
    ],
)
def test_bad_paths_methods_and_headers(client, method, path, headers, status, code):
    response = client.request(method, path, content=b'{"users": [3]}', headers={**JSON, **headers})
    assert refusal(response)[:2] == (status, code)
    assert status != 405 or "GET" in response.headers["allow"]


def test_filters_never_switch_themselves_off(tmp_path):
    service = Service(neuralcf.Recommender.load(saved(tmp_path / "model", seen=False)), Settings())
    with Client(service.app) as client:
        status, _, message = refusal(client.post("/recommend", {"users": [3]}))
        assert (status, "exclude_seen" in message) == (422, True)
        assert client.post("/recommend", {"users": [3], "exclude_seen": False}).status_code == 200
    service.engine.close()


def test_api_key(recommender):
    service = Service(recommender, Settings(api_key="secret"))
    with Client(service.app) as client:
        for headers in (
            {},
            {"authorization": "Bearer secre"},
            {"authorization": "secret"},
            {"authorization": "Bearer é"},
        ):
            response = client.get("/recommend?users=3", headers=headers)
            assert refusal(response)[:2] == (401, "unauthorized")
        assert refusal(client.get("/metrics"))[0] == 401
        assert client.get("/recommend?users=3", headers={"authorization": "Bearer secret"}).status_code == 200
        assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    service.engine.close()


# --------------------------------------------------------------------------------------------------- health and metrics


def test_readiness_is_the_golden_query(recommender):
    service = Service(recommender, Settings())
    with Client(service.app) as client:
        assert client.get("/readyz").json()["ready"]
        service.draining = True
        assert refusal(client.get("/readyz"))[:2] == (503, "draining")
        service.draining = False
        service._sound = 0.0, True
        object.__setattr__(service.model, "golden", ([], b""))
        assert refusal(client.get("/readyz"))[:2] == (503, "unsound")
        assert client.get("/livez").json() == {"live": True}
    service.engine.close()


def test_metrics(client):
    client.get("/recommend?users=99")
    text = client.get("/metrics").text
    assert 'neuralcf_rejections_total{reason="unknown_user"}' in text
    assert 'neuralcf_requests_total{route="/recommend",status="404"}' in text
    assert "neuralcf_generation 1.0" in text
    for name in ("queue_wait_seconds", "compute_seconds", "batch_requests"):
        assert float(text.split(f"\nneuralcf_{name}_count ")[1].split()[0]) > 0


def test_a_fault_of_ours_is_told_without_details(client, monkeypatch, caplog):
    monkeypatch.setattr(neuralcf.Recommender, "score_batch", lambda *_, **__: 1 / 0)
    assert refusal(client.get("/score?users=3&items=1000")) == (500, "internal", "an internal error; the log has it")
    assert "ZeroDivisionError" in caplog.text


# ------------------------------------------------------------------------------------- sharing calls, bounds, deadlines


def ask_many(service, requests):
    """Send GET requests at once, straight to the ASGI application; return the statuses and bodies."""

    async def all_of_them():
        return await asyncio.gather(*(send(service.app, "GET", f"/recommend?{query}") for query in requests))

    return [(answer.status_code, answer.json()) for answer in asyncio.run(all_of_them())]


class Held:
    """A recommender whose calls wait, and are counted."""

    def __init__(self, recommender):
        self.recommender, self.calls, self.go = recommender, [], threading.Event()

    def __getattr__(self, name):
        return getattr(self.recommender, name)

    def recommend(self, users, *arguments, **options):
        self.calls.append(list(users))
        self.go.wait(5)
        return self.recommender.recommend(users, *arguments, **options)


def held_service(recommender, settings, *, shares=True):
    service = Service(recommender, settings)
    held = Held(recommender)
    object.__setattr__(service.model, "recommender", held)
    object.__setattr__(service.model, "shares_calls", shares)
    return service, held


@pytest.mark.parametrize("shares", [True, False])
def test_what_waits_shares_a_call_where_that_pays(recommender, shares):
    service, held = held_service(recommender, Settings(), shares=shares)
    threading.Timer(0.2, held.go.set).start()
    queries = [f"users={user}&k=5" for user in range(8)] + ["users=99&k=5", "users=1&k=5&logits=true"]
    answers = ask_many(service, queries)
    service.engine.close()
    expected = ask_many(Service(recommender, Settings()), queries)
    assert answers == expected
    assert [status for status, _ in answers] == [200] * 8 + [404, 200]
    if shares:  # the first perhaps alone, the rest together, but for the one with logits and the unknown user
        assert len(held.calls) <= 4
        assert sorted(user for call in held.calls for user in call) == [0, 1, 1, *range(2, 8), 99]
    else:
        assert held.calls == [[user] for user in [*range(8), 99, 1]]


def test_a_full_service_says_so_at_once(recommender):
    service, held = held_service(recommender, Settings(max_in_flight=3))
    threading.Timer(0.2, held.go.set).start()
    answers = ask_many(service, [f"users={user}" for user in range(8)])
    service.engine.close()
    assert sorted(status for status, _ in answers) == [200] * 3 + [503] * 5
    assert answers[-1][1]["code"] == "overloaded"
    assert 'reason="overloaded"} 5.0' in service.metrics.page().decode()


@pytest.mark.parametrize(("shares", "accepted"), [(False, 6), (True, 10)])
def test_a_long_expected_wait_is_refused(recommender, shares, accepted):
    service, held = held_service(recommender, Settings(max_wait=0.1, max_shared=2), shares=shares)
    service.engine.seconds_per_call = 0.02
    threading.Timer(0.2, held.go.set).start()
    answers = ask_many(service, [f"users={user}" for user in range(15)])
    service.engine.close()
    assert [status for status, _ in answers] == [200] * accepted + [503] * (15 - accepted)


def test_a_late_request_is_not_computed(recommender):
    service, held = held_service(recommender, Settings(timeout=0.1))
    threading.Timer(0.3, held.go.set).start()
    answers = ask_many(service, ["users=1", "users=2&logits=true"])
    service.engine.close()
    assert [(status, body.get("code")) for status, body in answers] == [(200, None), (504, "deadline_exceeded")]
    assert held.calls == [[1]]


def test_a_call_stops_when_its_client_leaves(recommender):
    service, held = held_service(recommender, Settings(timeout=60))
    stopped = []

    def recommend(*_, **__):
        token, _ = service.engine._running
        stopped.append(held.go.wait(5) or token.stopped)
        raise neuralcf.StoppedError("stopped")

    held.recommend = recommend

    async def leave():
        messages = [{"type": "http.disconnect"}]

        async def receive():
            return messages.pop()

        from neuralcf.serving.requests import RecommendRequest

        asked = asyncio.ensure_future(service.engine.ask(RecommendRequest([1]), 1e18, receive))
        while service.engine._running is None or not service.engine._running[0].stopped:
            await asyncio.sleep(0.01)
        held.go.set()
        with pytest.raises(neuralcf.StoppedError):
            await asked

    asyncio.run(leave())
    service.engine.close()
    assert stopped == [True]

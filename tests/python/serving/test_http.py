"""The service in this process: its answers are the Recommender's, and a bad request gets a clear refusal."""

import asyncio
import json
import threading

import numpy as np
import pytest
from served import ITEMS, Client, saved, send  # first, because it skips these tests without the extra `serve`

import neuralcf

from neuralcf.serving.http.app import Service, Settings  # isort: skip
from neuralcf.serving.http.endpoint import Call  # isort: skip
from neuralcf.serving.http.model import Cost  # isort: skip
from neuralcf.serving.requests import RecommendRequest, recommend_requests  # isort: skip

JSON = {"content-type": "application/json"}
TITLES = {1000: "Alien", 1001: "Brazil"}


@pytest.fixture(scope="module")
def recommender(tmp_path_factory):
    return neuralcf.Recommender.load(saved(tmp_path_factory.mktemp("served") / "model"))


@pytest.fixture(scope="module")
def client(recommender):
    service = Service(recommender, Settings(max_users=4, max_items=50, max_k=30, max_body=2000), lambda _: TITLES)
    with Client(service.app) as client:
        yield client
    service.close()


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


def pairs_of(lists, *, of="items", name="item"):
    """Return the lists of an answer as `Recommendations.to_list` has them."""
    return [[(one[name], np.float32(one["score"])) for one in row[of]] for row in lists]


def test_all_arguments_of_recommend(recommender):
    own = recommender.snapshot()
    service = Service(own, Settings())
    with Client(service.app) as client:
        put = {"items": list(range(1000, 1040))}
        assert ask(client, "PUT", "/admin/sets/in_stock", put).json() == {
            "name": "in_stock",
            "items": 40,
            "generation": 2,
        }
        ask(client, "PUT", "/admin/sets/adult", {"items": [1000, 1001, 7], "on_unknown": "skip"})
        changed = ask(client, "PATCH", "/admin/sets/in_stock", {"add": [1041], "remove": [1002]}).json()
        assert changed == {"name": "in_stock", "items": 40, "generation": 4}
        brands = [n % 7 or None for n in range(ITEMS)]
        groups = {"items": list(range(1000, 1000 + ITEMS)), "groups": brands}
        assert ask(client, "PUT", "/admin/groups/brand", groups).json()["items"] == sum(map(bool, brands))
        assert client.get("/admin/sets").json() == {"adult": 2, "in_stock": 40}
        assert client.get("/admin/groups").json() == {"brand": sum(map(bool, brands))}

        asked = {
            "k": 6,
            "exclude": [[1005], []],
            "allow": "in_stock - adult",
            "deny": [1010],
            "max_per_group": {"brand": 1},
            "min_score": 0.1,
        }
        best = own.recommend([3, 4], **asked)
        answer = client.post("/recommend", {"users": [3, 4], **asked}).json()
        assert pairs_of(answer["lists"]) == best.to_list()
        assert answer["generation"] == best.generation == 5
        after = [row["items"][-1] for row in answer["lists"]]
        page = client.post("/recommend", {"users": [3, 4], **asked, "after": after}).json()
        assert pairs_of(page["lists"]) == own.recommend([3, 4], **asked, after=best.end).to_list()

        histories, weights = [[1001, 1002], [1030]], [[1, 2.5], [3]]
        answer = client.post("/recommend_for_history", {"histories": histories, "weights": weights, **asked}).json()
        assert pairs_of(answer["lists"]) == own.recommend_for_history(histories, weights=weights, **asked).to_list()

        ask(client, "DELETE", "/admin/sets/adult")
        ask(client, "DELETE", "/admin/groups/brand")
        assert client.get("/admin/sets").json() == {"in_stock": 40}
        assert client.get("/admin/groups").json() == {}
        assert recommender.item_sets == {}
    service.close()


def test_items_are_added_changed_and_removed(recommender):
    own = recommender.snapshot()
    service = Service(own, Settings(), lambda _: TITLES)
    vectors = np.random.default_rng(0).standard_normal((2, 8), dtype=np.float32)
    with Client(service.app) as client:
        added = ask(client, "POST", "/admin/items", {"items": [7, 8], "vectors": {"gmf": vectors.tolist()}}).json()
        assert added == {"items": ITEMS + 2, "generation": 2}
        ask(client, "PATCH", "/admin/items", {"items": [1003], "vectors": {"gmf": vectors[:1].tolist()}})
        removed = ask(client, "DELETE", "/admin/items?items=8&items=1000&items=6&on_unknown=skip").json()
        assert removed == {"items": ITEMS, "generation": 4}
        seven, same = client.post("/score", {"users": [3], "items": [7, 1003]}).json()["scores"]
        assert seven == same == float(own.score_batch(3, [7])[0])
        listed = client.post("/recommend", {"users": [3], "k": ITEMS, "exclude_seen": False}).json()["lists"][0][
            "items"
        ]
        assert {one["item"] for one in listed} == {7, *range(1001, 1000 + ITEMS)}
        assert client.get("/items?query=alien").json() == {"items": []}
        assert client.get("/items?query=brazil").json()["items"][0]["item"] == 1001
        assert client.get("/readyz").status_code == 200
        service._sound = 0.0, True
        assert client.get("/readyz").json()["generation"] == 4
    service.close()


def ask(client, method, path, body=None):
    content = b"" if body is None else json.dumps(body).encode()
    response = client.request(method, path, content=content, headers=JSON)
    assert response.status_code == 200, response.text
    return response


def test_similar_items_and_users(client, recommender):
    asked = {"items": [1003, 1000], "k": 4, "deny": [1001], "min_score": 0.1}
    expected = recommender.similar_items([1003, 1000], 4, deny=[1001], min_score=0.1)
    answer = client.post("/similar", asked).json()
    assert pairs_of(answer["lists"]) == expected.to_list()
    assert [row["item"] for row in answer["lists"]] == [1003, 1000]
    assert "title" in answer["lists"][0]["items"][0]
    assert client.get("/similar?items=1003&items=1000&k=4&deny=1001&min_score=0.1").json() == answer
    answer = client.get("/similar_users?users=3&k=4").json()
    assert pairs_of(answer["lists"], of="users", name="user") == recommender.similar_users([3], 4).to_list()


def test_the_first_similar_items_may_take_long(recommender):
    service, go = Service(recommender, Settings(timeout=0.2)), threading.Event()
    compute = service.model.compute_similar
    service.model.compute_similar = lambda side: (go.wait(5), compute(side))
    with Client(service.app) as client:
        for _ in range(2):
            response = client.get("/similar?items=1003")
            assert refusal(response)[:2] == (503, "preparing")
            assert response.headers["retry-after"] == "1"
        assert client.get("/recommend?users=3").status_code == 200
        go.set()
        while (response := client.get("/similar?items=1003")).status_code == 503:
            pass
        assert pairs_of(response.json()["lists"]) == recommender.similar_items([1003]).to_list()
    service.close()


def test_reasons(client, recommender):
    item = int(recommender.recommend(3, 1).ids[0])
    why = recommender.explain(3, item, reasons=2)
    answer = client.post("/explain", {"user": 3, "item": item, "reasons": 2}).json()
    assert client.get(f"/explain?user=3&item={item}&reasons=2").json() == answer
    assert answer["bias"] + sum(answer["gmf"]) + sum(answer["mlp"]) == pytest.approx(answer["logit"], rel=1e-6)
    assert (answer["logit"], answer["probability"]) == (why.logit, why.probability)
    assert [(one["item"], one["contribution"]) for one in answer["reasons"]] == why.reasons
    assert (answer["user"], answer["item"], answer["title"]) == (3, item, TITLES.get(item))


def test_no_administration_where_there_are_several_processes(recommender):
    service = Service(recommender, Settings(admin=False))
    with Client(service.app) as client:
        assert client.get("/admin/sets").status_code == client.post("/admin/reload", {}).status_code == 404
        assert not any(path.startswith("/admin") for path in client.get("/openapi.json").json()["paths"])
    service.close()


def test_ids_of_text(tmp_path):
    recommender = neuralcf.Recommender.load(saved(tmp_path / "model", strings=True))
    service = Service(recommender, Settings())
    with Client(service.app) as client:
        answer = client.post("/recommend", {"users": ["u3"], "k": 2, "allow": ["é1002"]}).json()
        assert [one["item"] for one in answer["lists"][0]["items"]] in (["é1002"], [])
        assert refusal(client.post("/recommend", {"users": [3]}))[:2] == (422, "bad_argument")
        assert refusal(client.post("/recommend", content=b'{"users": ["\\ud800"]}', headers=JSON))[0] == 422
        assert refusal(client.get("/recommend?users=%ff"))[:2] == (400, "bad_query")
    service.close()


# ---------------------------------------------------------------------------------------------------- filters and keys


def test_filters_never_switch_themselves_off(tmp_path):
    service = Service(neuralcf.Recommender.load(saved(tmp_path / "model", seen=False)), Settings())
    with Client(service.app) as client:
        status, _, message = refusal(client.post("/recommend", {"users": [3]}))
        assert (status, "exclude_seen" in message) == (422, True)
        assert client.post("/recommend", {"users": [3], "exclude_seen": False}).status_code == 200
    service.close()


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
    service.close()


# --------------------------------------------------------------------------------------------------- health and metrics


def test_readiness_is_the_golden_query(recommender):
    service = Service(recommender, Settings())
    with Client(service.app) as client:
        assert client.get("/readyz").json()["ready"]
        service.draining = True
        assert refusal(client.get("/readyz"))[:2] == (503, "draining")
        service.draining = False
        service._sound = 0.0, True
        service.model._golden = service.model._golden._replace(scores=b"")
        assert refusal(client.get("/readyz"))[:2] == (503, "unsound")
        assert client.get("/livez").json() == {"live": True}
    service.close()


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
    service.model.snapshot = lambda: held
    service.engine._snapshot = service.model.snapshot
    service.model.cost = Cost(shares_calls=shares, seconds_per_user=1)
    return service, held


@pytest.mark.parametrize("shares", [True, False])
def test_what_waits_shares_a_call_where_that_pays(recommender, shares):
    service, held = held_service(recommender, Settings(), shares=shares)
    threading.Timer(0.2, held.go.set).start()
    queries = [f"users={user}&k=5" for user in range(8)] + ["users=99&k=5", "users=1&k=5&logits=true"]
    answers = ask_many(service, queries)
    service.close()
    expected = ask_many(Service(recommender, Settings()), queries)
    assert answers == expected
    assert [status for status, _ in answers] == [200] * 8 + [404, 200]
    if shares:  # the first perhaps alone, the rest together, but for the one with logits and the unknown user
        assert len(held.calls) <= 4
        assert sorted(user for call in held.calls for user in call) == [0, 1, 1, *range(2, 8), 99]
    else:
        assert held.calls == [[user] for user in [*range(8), 99, 1]]


@pytest.mark.parametrize("shares", [True, False])
def test_what_takes_little_time_is_computed_on_the_event_loop(recommender, shares):
    service, held = held_service(recommender, Settings(max_shared=4), shares=shares)
    service.model.cost = Cost(shares_calls=shares, seconds_per_user=1e-4)
    held.go.set()
    queries = [f"users={user}&k=5" for user in range(7)] + ["users=99&k=5", "users=1&users=2&users=3&users=4&users=5"]
    assert ask_many(service, queries[:8]) == ask_many(Service(recommender, Settings()), queries[:8])
    assert service.engine._thread is None
    if shares:
        assert held.calls == [[0, 1, 2, 3], [4, 5, 6], [99]]
    else:
        assert held.calls == [[user] for user in [*range(7), 99]]
    held.calls.clear()
    ask_many(service, [queries[8], queries[8] + "&users=6"])
    assert sorted(map(len, held.calls)) == [5, 6]
    assert service.engine._thread is not None
    service.close()


def test_what_is_said_of_each_user_is_shared_too(recommender):
    def request(user, **more):
        return RecommendRequest([user], k=5, exclude=[[1000 + user]], **more)

    end = recommender.recommend(4, 3).end
    requests = [
        *(request(user) for user in range(4)),
        RecommendRequest([5, 6], k=7, exclude=[[1001]]),  # refused: a list for one of two users
        request(99),
        *(RecommendRequest(histories=[[1000 + n, 1001]], weights=[[1, 2]], k=5) for n in range(3)),
        RecommendRequest(histories=[[1000, 1001]], weights=[[1]], k=5),
        RecommendRequest([4], k=5, after=[end]),
        RecommendRequest([4], k=5, after=[None]),
        RecommendRequest([], k=5, exclude=[]),
    ]
    held = Held(recommender)
    held.go.set()
    together = recommend_requests(held, requests)
    alone = [recommend_requests(recommender, [one])[0] for one in requests]
    for one, other in zip(together, alone, strict=True):
        if isinstance(other, Exception):
            assert (type(one), str(one)) == (type(other), str(other))
        else:
            assert one.to_list() == other.to_list()
    assert [isinstance(one, Exception) for one in alone] == [n in (4, 5, 9) for n in range(len(alone))]
    assert [0, 1, 2, 3] in held.calls


def test_a_full_service_says_so_at_once(recommender):
    service, held = held_service(recommender, Settings(max_in_flight=3))
    threading.Timer(0.2, held.go.set).start()
    answers = ask_many(service, [f"users={user}" for user in range(8)])
    service.close()
    assert sorted(status for status, _ in answers) == [200] * 3 + [503] * 5
    assert answers[-1][1]["code"] == "overloaded"
    assert 'reason="overloaded"} 5.0' in service.metrics.page().decode()


@pytest.mark.parametrize(("shares", "accepted"), [(False, 6), (True, 10)])
def test_a_long_expected_wait_is_refused(recommender, shares, accepted):
    service, held = held_service(recommender, Settings(max_wait=0.1, max_shared=2), shares=shares)
    service.engine.seconds_per_call = 0.02
    threading.Timer(0.2, held.go.set).start()
    answers = ask_many(service, [f"users={user}" for user in range(15)])
    service.close()
    assert [status for status, _ in answers] == [200] * accepted + [503] * (15 - accepted)


def test_a_late_request_is_not_computed(recommender):
    service, held = held_service(recommender, Settings(timeout=0.1))
    threading.Timer(0.3, held.go.set).start()
    answers = ask_many(service, ["users=1", "users=2&logits=true"])
    service.close()
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

        call = Call({}, {}, "/recommend", 1e18, receive)
        asked = asyncio.ensure_future(service.engine.ask(RecommendRequest([1]), call))
        while service.engine._running is None or not service.engine._running[0].stopped:
            await asyncio.sleep(0.01)
        held.go.set()
        with pytest.raises(neuralcf.StoppedError):
            await asked

    asyncio.run(leave())
    service.close()
    assert stopped == [True]


# --------------------------------------------------------------------------------------------------- approximate search


def test_an_approximate_search_is_the_recommenders(tmp_path):
    path = saved(tmp_path / "model")
    neuralcf.Scorer.load(path).build_index(lists=12).save_index()
    recommender = neuralcf.Recommender.load(path)
    service = Service(recommender, Settings())
    with Client(service.app) as client:
        for how in ({"search": "approximate", "probes": 2}, {"search": "approximate", "recall": 0.9}):
            answer = client.post("/recommend", {"users": [3, 7], "k": 5, **how}).json()
            near = recommender.recommend([3, 7], 5, **how)
            listed = [[item["item"] for item in one["items"]] for one in answer["lists"]]
            assert listed == [row[:count].tolist() for row, count in zip(near.ids, near.counts, strict=True)]
            query = "&".join(f"{name}={value}" for name, value in how.items())
            assert client.get(f"/recommend?users=3&users=7&k=5&{query}").json() == answer
            answer = client.post("/recommend_for_history", {"histories": [[1000, 1001]], "k": 5, **how}).json()
            near = recommender.recommend_for_history([1000, 1001], 5, **how)
            assert [item["item"] for item in answer["lists"][0]["items"]] == near.ids.tolist()
            inputs = [{"name": "users", "shape": [2], "datatype": "INT64", "data": [3, 7]}]
            answer = client.post("/v2/models/recommend/infer", {"inputs": inputs, "parameters": {"k": 5, **how}}).json()
            near = recommender.recommend([3, 7], 5, **how)
            assert answer["outputs"][0]["data"] == near.ids.ravel().tolist()
    service.close()


def test_a_refused_index_leaves_exact_answers(tmp_path):
    path = saved(tmp_path / "model")
    (path / "index.safetensors").write_bytes(b"damage")
    service = Service(neuralcf.Recommender.load(path), Settings())
    with Client(service.app) as client:
        assert client.post("/recommend", {"users": [3]}).status_code == 200
        status, code, message = refusal(client.post("/recommend", {"users": [3], "search": "approximate"}))
        assert (status, code) == (503, "index_refused")
        assert str(tmp_path) not in message
    service.close()

"""docs/refusals.md, row by row: what the service answers to bad requests."""

import pytest
from served import ITEMS, Client, documented_refusals, saved, says  # first: skips these tests without the extra `serve`

import neuralcf

from neuralcf.serving.http.app import Service, Settings  # isort: skip

JSON = {"content-type": "application/json"}
TABLES = documented_refusals()
BODIES, HEADERS = TABLES.pop("Bodies of any route"), TABLES.pop("Headers")
TABLES.pop("Connections")  # in test_serve.py
ROWS = [row for rows in TABLES.values() for row in rows]
GENERATED = {
    "nothing": b"",
    "2,001 bytes": b"{" + b" " * 2000,
    "900 nested lists": b"[" * 900 + b"]" * 900,
    "300 nested objects": b'{"a":' * 300 + b"1" + b"}" * 300,
}


@pytest.fixture(scope="module")
def recommender(tmp_path_factory):
    return neuralcf.Recommender.load(saved(tmp_path_factory.mktemp("refusing") / "model"))


@pytest.fixture(scope="module")
def service(recommender):
    def prepare(model):
        model.set_items("in_stock", range(1000, 1030))
        model.set_groups("brand", range(1000, 1000 + ITEMS), [n % 7 for n in range(ITEMS)])

    service = Service(recommender, Settings(max_users=4, max_items=50, max_k=30, max_body=2000), prepare)
    yield service
    service.close()


def check(response, status, code, words):
    """Check a refusal against its row, and its shape."""
    body = response.json()
    assert response.headers["content-type"] == "application/json"
    assert body.keys() == {"error", "code"}
    assert (response.status_code, body["code"]) == (status, code), body
    assert says(body["error"], words), body


@pytest.mark.parametrize(("request_", "status", "code", "words"), ROWS, ids=[row[0][:60] for row in ROWS])
def test_bad_requests(service, request_, status, code, words):
    method, target, *body = request_.split(" ", 2)
    with Client(service.app) as client:
        content = body[0].encode() if body else b""
        check(client.request(method, target, content=content, headers=JSON), status, code, words)


@pytest.mark.parametrize(("body", "status", "code", "words"), BODIES, ids=[row[0][:30] for row in BODIES])
def test_bad_bodies_of_each_route(service, body, status, code, words):
    raw = GENERATED.get(body) if body in GENERATED else body.encode().decode("unicode_escape").encode("latin-1")
    asked = 0
    with Client(service.app) as client:
        for path, operations in service.document["paths"].items():
            path = path.replace("{version}", "1").replace("{name}", "score" if "/v2/" in path else "in_stock")
            for method in {"post", "put", "patch"} & operations.keys():
                check(client.request(method.upper(), path, content=raw, headers=JSON), status, code, words)
                asked += 1
    assert asked > 10


@pytest.mark.parametrize(("header", "status", "code", "words"), HEADERS, ids=[row[0] for row in HEADERS])
def test_bad_headers(recommender, header, status, code, words):
    service = Service(recommender, Settings(api_key="secret"))
    name, _, value = header.partition(": ")
    headers = {**JSON, "authorization": "Bearer secret", name.lower(): value}
    with Client(service.app) as client:
        check(client.request("POST", "/recommend", content=b'{"users": [3]}', headers=headers), status, code, words)
    service.close()


def test_each_route_has_rows(service):
    described = {
        (method.upper(), path.replace("{version}", "7").split("{")[0])
        for path, operations in service.document["paths"].items()
        for method in operations
    }
    tried = [(method, target) for method, target, *_ in (row[0].split(" ", 2) for row in ROWS)]
    assert len(described) > 25
    for method, path in described:
        assert any(one == method and target.startswith(path) for one, target in tried), (method, path)

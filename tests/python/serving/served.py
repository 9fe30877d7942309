"""A small model to serve, for the tests of the service."""

import asyncio
import json
import re
from pathlib import Path

import numpy as np
import pytest

import neuralcf
from reference import random_history

for package in ("starlette", "uvicorn", "httptools", "prometheus_client"):
    pytest.importorskip(package, reason=f"the service needs {package}: pip install 'neuralcf[serve]'")

USERS, ITEMS = 20, 60
JSON = "application/json"
REFUSALS = Path(__file__).resolve().parents[3] / "docs" / "refusals.md"


def documented_refusals():
    """Return the tables of docs/refusals.md by section: rows of what is sent, status, code and message."""
    sections = re.findall(
        r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", REFUSALS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    tables = {}
    for section, text in sections:
        cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")][2:]
        rows = [[cell.strip().replace("\\|", "|") for cell in row] for row in cells]
        tables[section] = [(what.strip("`"), int(status), code.strip("`"), words) for what, status, code, words in rows]
    return tables


def says(message, documented):
    """Return whether a message is as it is documented, where an ellipsis stands for anything."""
    start, more, _ = documented.partition("…")
    return message.startswith(start) if more else message == documented


def saved(path, *, seed=0, strings=False, seen=True, history=False):
    """Save a GMF with ids 0, 1, ... of users and 1000, 1001, ... of items, or the same as text."""
    rng = np.random.default_rng(seed)
    tensors = {
        "gmf.user_embedding.weight": rng.standard_normal((USERS, 8), dtype=np.float32),
        "gmf.item_embedding.weight": rng.standard_normal((ITEMS, 8), dtype=np.float32),
        "output.weight": np.ones((1, 8), np.float32),
        "output.bias": np.zeros(1, np.float32),
    }
    users, items = np.arange(USERS), np.arange(1000, 1000 + ITEMS)
    ids = ([f"u{user}" for user in users], [f"é{item}" for item in items]) if strings else (users, items)
    encoder = random_history(ITEMS, 8) if history else None
    rows = (np.arange(USERS + 1) * 2, np.concatenate([rng.permutation(ITEMS)[:2] for _ in range(USERS)]))
    neuralcf.save(tensors, path, kind="gmf", ids=ids, seen=rows if seen else None, history=encoder)
    return path


class Response:
    """What an ASGI application sent."""

    def __init__(self, start, *bodies):
        self.status_code = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        self.text = b"".join(body.get("body", b"") for body in bodies).decode()

    def json(self):
        return json.loads(self.text)


class Client:
    """Sends requests straight to an ASGI application, from one event loop."""

    def __init__(self, app):
        self.app = app
        self.loop = asyncio.new_event_loop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.loop.close()

    def request(self, method, target, *, content=b"", headers=()):
        return self.loop.run_until_complete(send(self.app, method, target, content, dict(headers)))

    def get(self, target, **options):
        return self.request("GET", target, **options)

    def post(self, target, body=None, **options):
        if body is None:
            return self.request("POST", target, **options)
        return self.request("POST", target, content=json.dumps(body).encode(), headers={"content-type": JSON})


async def send(app, method, target, content=b"", headers=None):
    """Send a request; the client stays until it is answered."""
    path, _, query = target.partition("?")
    sent = []
    messages = [{"type": "http.request", "body": content}]

    async def receive():
        return messages.pop() if messages else await asyncio.Event().wait()

    async def collect(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), _bytes(value)) for name, value in (headers or {}).items()],
    }
    await app(scope, receive, collect)
    return Response(*sent)


def _bytes(value):
    return value if isinstance(value, bytes) else value.encode()

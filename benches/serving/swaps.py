"""Requests while the model is swapped: none may fail, and each answer must come from one model.

    python -m benches.serving.swaps [--requests 1000000] [--swaps 200] [--clients 4]

The swaps are spread evenly over the requests. Every fourth new model is broken, and must be refused. At the end the
memory of the server must be that of one model again.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import neuralcf
from benches.serving.load import server
from neuralcf._core import publish

USERS, ITEMS = 50, 20_000
COUNTED = 50
"""Requests that a client counts together."""


def save(path: Path, seed: int) -> None:
    """Save a model."""
    rng = np.random.default_rng(seed)
    tensors = {
        "gmf.user_embedding.weight": rng.standard_normal((USERS, 64), dtype=np.float32),
        "gmf.item_embedding.weight": rng.standard_normal((ITEMS, 64), dtype=np.float32),
        "output.weight": np.ones((1, 64), np.float32),
        "output.bias": np.zeros(1, np.float32),
    }
    neuralcf.save(tensors, path, kind="gmf", ids=(np.arange(USERS), np.arange(ITEMS)))


def save_broken(path: Path, beside: Path) -> None:
    """Publish a model whose weights are cut short."""
    save(beside, 0)
    weights = beside / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    publish(beside, path)


def lists_of(path: Path) -> tuple[str, list[Any]]:
    """Return a model's id, and the list of each user as the service must give it."""
    recommender = neuralcf.Recommender.load(path)
    best = recommender.recommend(list(range(USERS)), 10, exclude_seen=False)
    lists = [
        [{"item": item, "score": score} for item, score in zip(ids, scores, strict=True)]
        for ids, scores in zip(best.ids.tolist(), best.scores.tolist(), strict=True)
    ]
    return recommender.scorer.metadata["model_id"], lists


def ask(connection: http.client.HTTPConnection, path: str, body: Any) -> tuple[int, Any]:
    """Send a request; return the status and the answer."""
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def client(port: int, requests: int, answers: Any, done: Any, total: Any) -> None:
    """Ask until there were enough requests and all swaps; put what failed, and the different answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    failed, seen, asked = 0, set(), 0
    while asked < requests or not done.is_set():
        user = asked % USERS
        status, body = ask(connection, "/recommend", {"users": [user], "exclude_seen": False})
        asked += 1
        if asked % COUNTED == 0:
            with total.get_lock():
                total.value += COUNTED
        if status == 200:
            seen.add((body["model_id"], user, json.dumps(body["lists"][0]["items"])))
        else:
            failed += 1
    answers.put((asked, failed, seen))


def memory(pid: int) -> float:
    """Return the private memory of a process in MB."""
    (found,) = re.findall(r"^RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found) / 1024


def settled(pid: int, most: float) -> float:
    """Return the private memory of a process in MB once it is below `most`, or after 20 seconds."""
    end = time.monotonic() + 20
    while memory(pid) > most and time.monotonic() < end:
        time.sleep(0.5)
    return memory(pid)


def main() -> None:
    """Swap under load, and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="neuralcf-swaps-"))
    path = folder / "model"
    save(path, 0)
    expected = dict([lists_of(path)])
    size = sum(neuralcf.Scorer.load(path).nbytes.values()) / 1e6
    context = multiprocessing.get_context("spawn")
    answers, done, total = context.Queue(), context.Event(), context.Value("q", 0)
    command = [sys.executable, "-m", "neuralcf", "serve", str(path), "--port", "PORT", "--watch", "0"]
    with server(command, {}) as (port, pid):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for user in range(10 * USERS):
            assert ask(connection, "/recommend", {"users": [user % USERS], "exclude_seen": False})[0] == 200
        connection.close()
        before = memory(pid)
        arguments = (port, options.requests // options.clients, answers, done, total)
        clients = [context.Process(target=client, args=arguments) for _ in range(options.clients)]
        for process in clients:
            process.start()
        start, swaps = time.monotonic(), [0, 0]
        for swap in range(options.swaps):
            while total.value < swap * options.requests // options.swaps:
                time.sleep(0.01)
            bad = swap % 4 == 3
            if bad:
                save_broken(path, folder / "beside")
            else:
                save(path, swap + 1)
                model, lists = lists_of(path)
                expected[model] = lists
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)  # the server closes idle ones
            status, body = ask(connection, "/admin/reload", {})
            connection.close()
            assert status == (409 if bad else 200), body
            swaps[bad] += 1
        done.set()
        results = [answers.get() for _ in clients]
        for process in clients:
            process.join()
        seconds = time.monotonic() - start
        after = settled(pid, before + 0.7 * size)
    asked, failed = sum(one[0] for one in results), sum(one[1] for one in results)
    seen = set().union(*(one[2] for one in results))
    torn = sum(expected[model][user] != json.loads(items) for model, user, items in seen)
    print(f"{asked:,} requests in {seconds:.0f} s, {swaps[0]} swaps, {swaps[1]} broken models refused")
    print(f"{failed} failed, {torn} torn; {len({model for model, _, _ in seen})} models answered")
    print(f"private memory {before:.0f} MB before, {after:.0f} MB after; a model has {size:.0f} MB")
    shutil.rmtree(folder)
    assert not failed
    assert not torn
    assert after < before + 0.7 * size


if __name__ == "__main__":
    main()

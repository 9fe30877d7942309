"""Requests a second, latency and CPU time of the service, beside the bare engine, torch and implicit.

    python -m benches.serving.load [--seconds 10] [--connections 16] [--only A] [--overload]

Needs wrk (a package of Debian's) and the extras `serve` and `peers`; implicit and FastAPI where they are installed. All
servers get the same requests: the best 10 items of a user, without what the user has seen, in turn for all users.
Before it is measured, a server's answers are compared with the bare engine's.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

import neuralcf
from benches.serving.models import MODELS, USERS, made

SCRIPT = """
wrk.method, wrk.headers["content-type"] = "POST", "application/json"
local user = 0
request = function()
  user = (user + 1237) % USERS
  return wrk.format(nil, "/recommend", nil, '{"users":[' .. user .. '],"k":10}')
end
local refused = 0
done = function(summary, latency)
  io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests, summary.errors.status, summary.duration,
    latency:percentile(50), latency:percentile(99)))
end
"""


class Load(NamedTuple):
    """What a server did under load."""

    requests: float
    """Answered with a list, a second."""
    refused: float
    """Answered otherwise, a second."""
    p50: float
    """Milliseconds."""
    p99: float
    cpu: float
    """Milliseconds of a core for each request answered or refused, of the server alone."""


@contextmanager
def server(command: list[str], environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Start a server; yield its port and process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [part.replace("PORT", str(port)) for part in command]
    process = subprocess.Popen(program, env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(port: int, pid: int, connections: int, seconds: float, script: Path) -> Load:
    """Put a server under load."""
    before = cpu_seconds(pid)
    command = [
        "wrk",
        "-t1",
        "--timeout",
        "60s",
        f"-c{connections}",
        f"-d{seconds:g}s",
        "-s",
        str(script),
        f"http://127.0.0.1:{port}",
    ]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    cpu = cpu_seconds(pid) - before
    (found,) = re.findall(r"^RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", printed, re.MULTILINE)
    total, refused, duration, p50, p99 = map(int, found)
    good, lasted = total - refused, duration / 1e6
    return Load(good / lasted, refused / lasted, p50 / 1e3, p99 / 1e3, 1e3 * cpu / max(total, 1))


def items_of(port: int, user: int) -> list[int]:
    """Ask a server for a user's list."""
    body = json.dumps({"users": [user], "k": 10}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/recommend", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.loads(response.read())
    found = answer["lists"][0]["items"] if isinstance(answer, dict) else answer
    return [int(one["item"]) for one in found]


def bare(recommender: neuralcf.Recommender) -> tuple[float, float]:
    """Return calls a second of the engine with one user each, and milliseconds of CPU for each."""
    count, start, cpu = 0, time.monotonic(), time.process_time()
    while time.monotonic() - start < 2:
        recommender.recommend([count * 1237 % USERS], 10)
        count += 1
    return count / (time.monotonic() - start), 1e3 * (time.process_time() - cpu) / count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--only", default="", help="models whose names begin so")
    parser.add_argument("--overload", action="store_true", help="the service alone, at capacity and at twice as much")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("benches.serving.load: wrk is not installed; on Debian: apt-get install wrk")
    folder = Path(tempfile.gettempdir()) / "neuralcf-serving"
    script = folder / "requests.lua"
    ours = [sys.executable, "-m", "neuralcf", "serve", "MODEL", "--port", "PORT", "--watch", "0"]
    peer = [sys.executable, "-m", "uvicorn", "--log-level", "error", "--port", "PORT", "--factory"]
    print(f"{'model':20} {'server':10} {'connections':>11} {'requests/s':>10} {'refused/s':>9} {'p50 ms':>8} "
          f"{'p99 ms':>8} {'CPU ms/request':>14}")  # fmt: skip
    for name, (kind, _) in MODELS.items():
        if not name.startswith(options.only):
            continue
        model = made(folder, name)
        script.write_text(SCRIPT.replace("USERS", str(USERS)))
        recommender = neuralcf.Recommender.load(model)
        rate, cpu = bare(recommender)
        print(f"{name:20} {'engine':10} {'':11} {rate:10.0f} {'':9} {1e3 / rate:8.2f} {'':8} {cpu:14.3f}", flush=True)
        servers = {"service": ours}
        if not options.overload and importlib.util.find_spec("fastapi"):
            servers["torch"] = [*peer, "benches.serving.peers:torch_app"]
            if kind == "gmf" and importlib.util.find_spec("implicit"):
                servers["implicit"] = [*peer, "benches.serving.peers:implicit_app"]
        for title, command in servers.items():
            program = [part.replace("MODEL", str(model)) for part in command]
            with server(program, {"NEURALCF_MODEL": str(model)}) as (port, pid):
                for user in (0, 7, 4711):
                    expected = recommender.recommend(user, 10).ids.tolist()
                    assert len(np.intersect1d(items_of(port, user), expected)) >= 9, f"{title}: other items"
                measure(port, pid, options.connections, min(2, options.seconds), script)  # warm up
                loads = [options.connections]
                if options.overload:
                    loads = [options.connections, 2 * options.connections, 4 * options.connections]
                for connections in loads:
                    load = measure(port, pid, connections, options.seconds, script)
                    print(f"{name:20} {title:10} {connections:11} {load.requests:10.0f} {load.refused:9.0f} "
                          f"{load.p50:8.2f} {load.p99:8.2f} {load.cpu:14.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

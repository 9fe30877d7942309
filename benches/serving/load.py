"""Requests a second, latency and CPU time of the service, beside the bare engine, torch and implicit.

    python -m benches.serving.load [--seconds 10] [--connections 16] [--only A] [--overload]

Needs wrk (a package of Debian's) and the extras `serve` and `peers`; implicit and FastAPI where they are installed. All
servers get the same requests: the best 10 items of a user, without what the user has seen, in turn for all users.
Before it is measured, a server's answers are compared with the bare engine's.

A connection sends its next request when it has the answer. With `--overload`, which measures the service alone, as many
requests come as it can answer, and then twice as many, in `--rounds` by turns: connections wait for random times, of
0.2 seconds on average, so that their requests come independently of the answers. What it can answer is what it answers
of too many requests. Latencies are those of accepted requests.
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

OFFERED = """
local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long n; } moment; int clock_gettime(int, moment *);")
local moment, sent, user = ffi.new("moment"), {}, 0
local function now()
  ffi.C.clock_gettime(1, moment)
  return tonumber(moment.s) * 1e6 + tonumber(moment.n) / 1e3
end
wrk.method, wrk.headers["content-type"] = "POST", "application/json"
took, accepted, refused, failed = {}, 0, 0, 0
local start
delay = function() return -THINK * math.log(1 - math.random()) end
request = function()
  user = (user + 1237) % USERS
  sent[user] = now()
  start = start or sent[user]
  return wrk.format(nil, "/recommend", nil, '{"users":[' .. user .. '],"k":10}')
end
response = function(status, headers, body)
  if now() - start < 1e6 * FIRST then return end
  if status == 200 then
    local bucket = math.floor((now() - sent[tonumber(body:match('"user": (%d+)'))]) / 100)
    took[bucket] = (took[bucket] or 0) + 1
    accepted = accepted + 1
  elseif status == 503 then refused = refused + 1
  else failed = failed + 1 end
end
local threads = {}
setup = function(thread) table.insert(threads, thread) end
done = function(summary)
  local thread = threads[1]
  local took, accepted, buckets = thread:get("took"), thread:get("accepted"), {}
  for bucket in pairs(took) do table.insert(buckets, bucket) end
  table.sort(buckets)
  local sum, at = 0, {}
  for _, bucket in ipairs(buckets) do
    sum = sum + took[bucket]
    for _, share in ipairs({0.5, 0.99}) do
      if not at[share] and sum >= share * accepted then at[share] = (bucket + 1) * 100 end
    end
  end
  io.write(string.format("RESULT %d %d %d %d %d %d\\n", accepted, thread:get("refused"), thread:get("failed"),
    summary.duration, at[0.5] or 0, at[0.99] or 0))
end
"""
THINK = 0.2
"""Seconds between two requests of a connection, on average."""
FIRST = 1
"""Seconds that are not counted: the load begins with a burst, which the service lets wait."""


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


def offer(port: int, pid: int, rate: float, seconds: float, script: Path) -> Load:
    """Send so many requests a second, whatever is answered."""
    connections = max(1, min(900, round(rate * THINK)))
    numbers = {"USERS": USERS, "THINK": 1e3 * connections / rate, "FIRST": FIRST}
    script.write_text(re.sub("USERS|THINK|FIRST", lambda found: str(numbers[found[0]]), OFFERED))
    before = cpu_seconds(pid)
    command = ["wrk", "-t1", "--timeout", "60s", f"-c{connections}", f"-d{FIRST + seconds:g}s", "-s", str(script)]
    printed = subprocess.run([*command, f"http://127.0.0.1:{port}"], check=True, capture_output=True, text=True).stdout
    cpu = cpu_seconds(pid) - before
    (found,) = re.findall(r"^RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", printed, re.MULTILINE)
    accepted, refused, failed, duration, p50, p99 = map(int, found)
    assert failed == 0, f"{failed} requests had neither an answer nor a 503"
    lasted = duration / 1e6 - FIRST
    each = cpu / max(accepted + refused, 1) * lasted / (lasted + FIRST)
    return Load(accepted / lasted, refused / lasted, p50 / 1e3, p99 / 1e3, 1e3 * each)


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
    parser.add_argument("--rounds", type=int, default=3, help="with --overload")
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
                if options.overload:
                    overload(name, port, pid, options.seconds, options.rounds, script)
                else:
                    show(
                        name,
                        title,
                        options.connections,
                        measure(port, pid, options.connections, options.seconds, script),
                    )


def overload(name: str, port: int, pid: int, seconds: float, rounds: int, script: Path) -> None:
    """Offer as many requests as the service can answer, and twice as many."""
    closed = measure(port, pid, 16, min(4, seconds), script).requests
    ratios = []
    for _ in range(rounds):
        capacity = max(closed, offer(port, pid, 2 * closed, seconds, script).requests)
        loads = {share: offer(port, pid, share * capacity, seconds, script) for share in (1, 2)}
        for share, load in loads.items():
            show(name, f"{share} x {capacity:.0f}/s", "", load)
        ratios.append(loads[2].p99 / loads[1].p99)
    print(f"{name:20} p99 of accepted requests at twice the capacity, times that at capacity: "
          f"{', '.join(f'{ratio:.2f}' for ratio in ratios)}")  # fmt: skip


def show(name: str, title: str, connections: int | str, load: Load) -> None:
    """Print a line of the table."""
    print(f"{name:20} {title:10} {connections:11} {load.requests:10.0f} {load.refused:9.0f} "
          f"{load.p50:8.2f} {load.p99:8.2f} {load.cpu:14.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

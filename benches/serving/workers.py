"""Memory of gunicorn's workers that share one model, and what a worker takes with it when it is killed under load.

    python -m benches.serving.workers

Needs gunicorn 25 or newer, and the extra `serve`.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from benches.serving.load import server
from benches.serving.models import USERS, made

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CLIENTS = 16


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def memory(pids: list[int]) -> float:
    """Return the memory of processes in MB; what several share is counted once."""
    return sum(
        int(found) / 1024
        for pid in pids
        for found in re.findall(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    )


def client(port: int, done: threading.Event, counts: list[int]) -> None:
    """Ask; connect again after a failure; count answers, refusals of a full worker, and failures."""
    connection, user = http.client.HTTPConnection("127.0.0.1", port, timeout=60), 0
    while not done.is_set():
        user = (user + 1237) % USERS
        body = json.dumps({"users": [user]})
        try:
            connection.request("POST", "/recommend", body, {"content-type": "application/json"})
            response = connection.getresponse()
            response.read()
            counts[{200: 0, 503: 1}[response.status]] += 1
        except (OSError, http.client.HTTPException):
            connection.close()
            counts[2] += 1


def main() -> None:
    """Measure and print."""
    model = made(Path(tempfile.gettempdir()) / "neuralcf-serving", "GMF-192, 100k items")
    for workers in (1, 4):
        command = [sys.executable, "-m", "gunicorn", "-c", str(EXAMPLES / "gunicorn.conf.py"), "-w", str(workers)]
        command += ["-b", "127.0.0.1:PORT", "--chdir", str(EXAMPLES), "service:app"]
        with server(command, {"NEURALCF_MODEL": str(model)}) as (port, pid):
            while len(children(pid)) < workers:
                time.sleep(0.2)
            done, counts = threading.Event(), [[0, 0, 0] for _ in range(CLIENTS)]
            threads = [threading.Thread(target=client, args=(port, done, one)) for one in counts]
            for thread in threads:
                thread.start()
            time.sleep(5)
            print(f"{workers} workers: {memory([pid, *children(pid)]):.0f} MB together")
            before = [sum(one[at] for one in counts) for at in range(3)]
            if workers > 1:
                killed = children(pid)[0]
                os.kill(killed, signal.SIGKILL)
                time.sleep(5)
                assert len(set(children(pid)) - {killed}) == workers
            done.set()
            for thread in threads:
                thread.join()
            after = [sum(one[at] for one in counts) for at in range(3)]
            print(f"  answered {after[0]:,}, refused {after[1]:,}, failed {after[2]}")
            if workers > 1:
                hit = after[2]
                print(f"  kill -9 of a worker: {hit} of {CLIENTS} connections lost a request, and no other failed")
                assert before[2] == 0
                assert 0 <= hit <= CLIENTS
                assert after[0] > before[0]


if __name__ == "__main__":
    main()

"""Memory of forked workers: a model is loaded once, then four workers are forked and answer queries (Linux).

    python -m benches.core.fork_memory --items 1000000 --workers 4

Shape A. Memory is read from /proc/PID/smaps_rollup while all workers are alive and after each has answered: resident
set size, memory private to the process, and proportional set size (PSS), which adds up over processes. For comparison,
the same for workers that each load the model themselves.
"""

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benches.shapes import A, random_tensors
from neuralcf import Scorer, save

USERS = 1_000
FIELDS = ("Rss", "Pss", "Private")


def memory(pid: int) -> dict[str, float]:
    """Return MiB by field; `Private` is clean plus dirty."""
    sums = dict.fromkeys(FIELDS, 0.0)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
        name, value, *_ = line.replace(":", " ").split()
        name = name.partition("_")[0]
        if name in sums and not line.startswith("Pss_"):
            sums[name] += int(value) / 1024
    return sums


def work(load: Callable[[], Scorer], worker: int, pipe: Connection) -> None:
    """Answer queries, send whether the answers agree, and wait for permission to exit."""
    scorer = load()
    users = np.arange(worker * 10, worker * 10 + 10)
    top = scorer.top_k(users, 10)
    scores = scorer.score_batch(np.repeat(users, 10), top.ids.ravel()).reshape(10, 10)
    pipe.send(bool(np.array_equal(scores, top.scores)))
    pipe.recv()


def measure(load: Callable[[], Scorer], workers: int) -> list[dict[str, float]]:
    """Fork workers, let all answer, and read the memory of this process and of each of them."""
    context = multiprocessing.get_context("fork")
    pairs = [context.Pipe() for _ in range(workers)]
    processes = [context.Process(target=work, args=(load, n, end)) for n, (_, end) in enumerate(pairs)]
    for process in processes:
        process.start()
    try:
        answers = [pipe.recv() for pipe, _ in pairs]
        if not all(answers):
            raise SystemExit("a worker's top_k and score_batch differ")
        return [memory(pid) for pid in (os.getpid(), *(process.pid or 0 for process in processes))]
    finally:
        for (pipe, _), process in zip(pairs, processes, strict=True):
            pipe.send("go")
            process.join()


def show(name: str, sums: dict[str, float]) -> None:
    print(f"{name:24}" + "".join(f"{sums[field]:12,.1f}" for field in FIELDS))


def total(rows: list[dict[str, float]]) -> dict[str, float]:
    return {field: sum(row[field] for row in rows) for field in FIELDS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        write = multiprocessing.get_context("fork").Process(target=write_model, args=(path, options.items))
        write.start()  # in a separate process, so that generating the weights does not count
        write.join()
        print(f"shape A, {options.items:,} items, {path.stat().st_size / 2**20:,.0f} MiB on disk; MiB of memory")
        print(f"{'':24}" + "".join(f"{field:>12}" for field in FIELDS))
        apart = measure(lambda: Scorer.load(path), options.workers)
        scorer = Scorer.load(path)
        scorer.top_k(0, 10)  # start the pool: a child starts its own
        forked = measure(lambda: scorer, options.workers)
    for name, rows in (("forked", forked), ("separate", apart)):
        for n, row in enumerate(rows):
            show(f"{name}: worker {n}" if n else f"{name}: parent", row)
        show(f"{name}: in all", total(rows))
    print(f"a model's arrays: {sum(scorer.nbytes.values()) / 2**20:,.1f} MiB")


def write_model(path: Path, items: int) -> None:
    save(random_tensors(A, USERS, items), path, kind="neumf")


if __name__ == "__main__":
    main()

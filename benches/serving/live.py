"""Items that change under readers: what a change costs, and what readers notice.

    python -m benches.serving.live                                # 1,000 of a million items, 10 seconds of readers
    python -m benches.serving.live --items 100000 --seconds 600   # the same as a torture of ten minutes
    python -m benches.serving.live --items 100000 --seconds 600 --search approximate   # readers that search by an index

First each kind of change is timed alone. Then threads ask for lists while another changes items as fast as it can: it
adds 1,000 items, changes the vectors of 1,000 of a pool of 50,000, removes those that it added, and so on. The vectors
tell the generation that they are of, so that an answer that mixes two is found out, and so is an item that comes back
after it was removed. Any such answer is an error. The latencies of the readers are told beside those without changes;
they share the processors with the thread that makes the changes. Readers that search by an index are told its recall at
the end, beside that calibrated before all changes.
"""

import argparse
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import neuralcf
from neuralcf import ItemVectors, Recommender, Scorer

USERS, POOL, K = 64, 50_000, 20
MOST_IDS = 1 << 27


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000, help="default: 1000000")
    parser.add_argument("--factors", type=int, default=64, help="of a GMF; default: 64")
    parser.add_argument("--changed", type=int, default=1000, help="items in a change; default: 1000")
    parser.add_argument("--readers", type=int, default=8, help="threads; default: 8")
    parser.add_argument("--seconds", type=float, default=10, help="of reading; default: 10")
    parser.add_argument(
        "--search", choices=("exact", "approximate"), default="exact", help="of readers; default: exact"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recommender = make(Path(folder) / "model", options)
        times(recommender, options)
        torture(make(Path(folder) / "model", options), options)


def make(path: Path, options: argparse.Namespace) -> Recommender:
    """Make a GMF for which an item scores the sum of its factors, with an index if readers need one."""
    items, factors = options.items, options.factors
    if not path.exists():
        rng = np.random.default_rng(0)
        vectors = rng.standard_normal((items, factors), dtype=np.float32)
        vectors *= np.float32(0.2) * rng.lognormal(0, 0.4, (items, 1)).astype(np.float32)
        tensors = {
            "gmf.user_embedding.weight": np.ones((USERS, factors), np.float32),
            "gmf.item_embedding.weight": vectors,
            "output.weight": np.ones((1, factors), np.float32),
            "output.bias": np.zeros(1, np.float32),
        }
        seen = np.arange(USERS + 1) * 100, rng.integers(0, items, USERS * 100)
        neuralcf.save(tensors, path, kind="gmf", ids=(list(range(USERS)), np.arange(items)), seen=seen)
        if options.search == "approximate":
            Scorer.load(path).build_index().save_index()
    return Recommender.load(path, threads=1)


def times(recommender: Recommender, options: argparse.Namespace) -> None:
    """Time the kinds of changes alone; two named sets and groups follow the catalogue."""
    rng, items, n = np.random.default_rng(1), options.items, options.changed
    recommender.set_items("even", np.arange(0, items, 2))
    recommender.set_groups("brand", np.arange(items), np.arange(items) % 1000)
    vectors = ItemVectors(rng.standard_normal((n, options.factors), dtype=np.float32) * np.float32(0.2))
    some, new = rng.permutation(items)[: 20 * n].reshape(20, n), items + np.arange(20 * n).reshape(20, n)
    changes: dict[str, tuple[NDArray[Any], Callable[[NDArray[Any]], int]]] = {
        "update_items": (some, lambda ids: recommender.update_items(ids, vectors=vectors)),
        "add_items": (new, lambda ids: recommender.add_items(ids, vectors=vectors)),
        "remove_items": (some, recommender.remove_items),
    }
    print(f"{n:,} of {items:,} items, {options.factors} factors, scanned in {recommender.scorer.scan_precision}")
    for name, (ids, change) in changes.items():
        walls, spent = [], []
        for row in ids:
            started, cpu = time.perf_counter(), time.process_time()
            change(row)
            walls.append(1000 * (time.perf_counter() - started))
            spent.append(1000 * (time.process_time() - cpu))
        print(f"{name}: {min(walls):.1f} to {max(walls):.1f} ms, {min(spent):.1f} ms of CPU at least")


class Readers:
    """Threads that ask for lists and check them."""

    def __init__(self, recommender: Recommender, options: argparse.Namespace) -> None:
        """Start them."""
        self.recommender, self.factors, self.search = recommender, options.factors, options.search
        self.removed_in = np.zeros(MOST_IDS, np.int32)
        """By id: the first generation that lacks an item; 0 if all have it."""
        self.wrong: list[str] = []
        self.latencies: list[list[float]] = [[] for _ in range(options.readers)]
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(n,)) for n in range(options.readers)]
        for thread in self._threads:
            thread.start()

    def _read(self, number: int) -> None:
        latencies, last = self.latencies[number], 0
        while not self._stopped.is_set():
            started = time.perf_counter()
            best = self.recommender.recommend(number % USERS, K, logits=True, search=self.search)
            latencies.append(time.perf_counter() - started)
            generation = best.generation
            if generation < last:
                self.wrong.append(f"generation {generation} after {last}")
            vectors_of = generation - (generation % 3 == 1)  # the last one that did not only remove items
            if generation > 1 and (best.scores != np.float32(self.factors * vectors_of)).any():
                self.wrong.append(f"generation {generation}: {best.scores}")
            removed_in = self.removed_in[best.ids]
            if ((removed_in > 0) & (removed_in <= generation)).any():
                self.wrong.append(f"generation {generation} has a removed item")
            last = generation

    def stop(self) -> str:
        """Stop them; return how many answers there were and how long they took."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        all_of_them = 1000 * np.concatenate(self.latencies)
        p50, p99, most = np.percentile(all_of_them, [50, 99, 100])
        return f"{all_of_them.size:,} answers, p50 {p50:.2f} ms, p99 {p99:.2f} ms, the slowest {most:.1f} ms"


def torture(recommender: Recommender, options: argparse.Namespace) -> None:
    """Change items while readers read."""
    items, factors, n = options.items, options.factors, options.changed
    readers = Readers(recommender, options)
    time.sleep(min(options.seconds, 5))
    print(f"{options.readers} readers, no changes: {readers.stop()}")
    rng = np.random.default_rng(2)
    pool = rng.permutation(items)[:POOL]
    readers = Readers(recommender, options)
    new, slowest, ended = np.arange(items - n, items), 0.0, time.monotonic() + options.seconds
    while time.monotonic() < ended:
        generation = recommender.generation + 1
        vectors = ItemVectors(np.full((n, factors), generation, np.float32))
        some = rng.choice(pool, n, replace=False)
        started = time.perf_counter()
        match generation % 3:
            case 2:
                new = new + n
                recommender.add_items(new, vectors=vectors)
            case 0:
                recommender.update_items(some, vectors=vectors)
            case _:
                readers.removed_in[new] = generation
                recommender.remove_items(new)
        slowest = max(slowest, time.perf_counter() - started)
    print(f"{options.readers} readers, changes: {readers.stop()}")
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{recommender.generation:,} generations, the slowest {1000 * slowest:.1f} ms; {megabytes:.0f} MB at most")
    if options.search == "approximate":
        now = recommender.scorer.index_recall(K)
        print(f"recall {now.measured:.4f} for {now.recall}, {now.calibrated:.4f} before; advice: {now.advice}")
    print(f"{len(readers.wrong)} wrong answers {readers.wrong[:3]}")
    if readers.wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

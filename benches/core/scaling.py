"""Scaling with the catalogue: shape A from one to ten million items; loading, memory, and time per pair.

    python -m benches.core.scaling --items 1000000 3000000 10000000

The files are written in pieces, and each is loaded in a separate process, to measure its own peak of memory. Ten
million items are 1.6 GB of weights; the table shows what loading and serving them costs.
"""

import argparse
import json
import multiprocessing
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.shapes import A, Tensors, random_tensors
from neuralcf import Scorer

USERS, PIECE = 1_000, 1 << 18
REPEATS = 7
TABLES = ("gmf.item_embedding.weight", "mlp.item_embedding.weight")


def write_model(path: Path, items: int) -> None:
    """Write a safetensors file, header and then tensors, whose item tables are generated as they are written."""
    small = random_tensors(A, USERS, 1)
    widths = {name: small[name].shape[1] for name in TABLES}
    shapes = {name: (items, widths[name]) if name in TABLES else values.shape for name, values in small.items()}
    header: dict[str, Any] = {"__metadata__": metadata()}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            for piece in pieces(small, name, shape[0]):
                file.write(piece.astype("<f4", copy=False).tobytes())


def metadata() -> dict[str, str]:
    return {"format": "neuralcf", "format_version": "1", "kind": "neumf", "activation": "relu"}


def pieces(small: Tensors, name: str, rows: int) -> Iterator[NDArray[np.float32]]:
    """Yield a tensor in pieces: small ones as they are, item tables with random values."""
    if name not in TABLES:
        yield small[name]
        return
    rng = np.random.default_rng(TABLES.index(name))
    for start in range(0, rows, PIECE):
        size = (min(PIECE, rows - start), small[name].shape[1])
        yield rng.standard_normal(size, dtype=np.float32) * np.float32(0.3)


def status(field: str) -> float:
    """Return a field of this process's memory status in MiB (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def check(scorer: Scorer) -> None:
    """Raise SystemExit if `top_k` differs from scoring every item and sorting."""
    logits = scorer.score_batch(7, np.arange(scorer.num_items), logits=True)
    best = np.lexsort((np.arange(logits.size), -logits))[:10]
    if not np.array_equal(best, scorer.top_k(7, 10).ids):
        raise SystemExit(f"{scorer.num_items:,} items: top_k differs from sorting all scores")


def best_of(repeats: int, users: NDArray[np.int64], scorer: Scorer, threads: int) -> float:
    """Return the minimum of nanoseconds per pair."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        scorer.top_k(users, 10, threads=threads)
        taken.append(time.perf_counter() - started)
    return min(taken) * 1e9 / users.size / scorer.num_items


def measure(path: Path, results: Any) -> None:
    """Load and query one model, in this process."""
    before = status("VmRSS")
    started = time.perf_counter()
    scorer = Scorer.load(path)
    seconds = time.perf_counter() - started
    figures = {"load_s": seconds, "peak_mib": status("VmHWM") - before, "kept_mib": status("VmRSS") - before}
    for users in (1, 64):
        repeats = REPEATS if users == 1 else 2
        for threads in sorted({1, scorer.threads}):
            figures[f"ns_{users}_{threads}"] = best_of(repeats, np.arange(users), scorer, threads)
    check(scorer)
    results.put((scorer.threads, figures))


def in_separate_process(path: Path) -> tuple[int, dict[str, float]]:
    context = multiprocessing.get_context("spawn")
    results: Any = context.SimpleQueue()
    process = context.Process(target=measure, args=(path, results))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{path.name}: the process exited with {process.exitcode}")
    threads, figures = results.get()
    return threads, figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[1_000_000, 3_000_000, 10_000_000])
    parser.add_argument(
        "--folder", help="directory for the temporary files, 1.6 GB for ten million items (default: TMPDIR)"
    )
    options = parser.parse_args()
    for n, items in enumerate(options.items):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            path = Path(folder) / "model.safetensors"
            write_model(path, items)
            megabytes = path.stat().st_size / 2**20
            threads, figures = in_separate_process(path)
        if n == 0:
            queries = [(users, t) for users in (1, 64) for t in sorted({1, threads})]
            print("ns per pair: top-10, minimum; memory in MiB above that of the interpreter")
            print(f"{'items':>12}{'file':>8}{'load s':>8}{'ns per item':>12}{'peak':>9}{'kept':>9}", end="")
            print("".join(f"{f'{u} users {t} thr':>18}" for u, t in queries))
        print(f"{items:12,}{megabytes:8,.0f}{figures['load_s']:8.2f}{figures['load_s'] * 1e9 / items:12.0f}", end="")
        print(f"{figures['peak_mib']:9,.0f}{figures['kept_mib']:9,.0f}", end="")
        print("".join(f"{figures[f'ns_{u}_{t}']:18.2f}" for u, t in queries), flush=True)


if __name__ == "__main__":
    main()

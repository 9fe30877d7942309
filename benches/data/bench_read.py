"""Time and memory of reading and indexing a synthetic file with the shape of MovieLens-25M.

    python -m benches.data.bench_read --rows 25000000

Each format is read in a separate process, to measure its own peak of memory. The ratings are random: users and items
follow a power law, pairs are unique and sorted by user. What is read is compared with what was written.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

USERS, ITEMS = 162_541, 59_047  # of MovieLens-25M
FORMATS = ("csv", "csv, shuffled", "dat", "parquet", "pandas")


def make(rows: int, folder: Path) -> dict[str, Path]:
    """Write the files; return their paths by format."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    random = np.random.default_rng(0)
    users, items = USERS * min(rows, 25_000_000) // 25_000_000 + 2, ITEMS
    pairs = np.empty(0, dtype=np.int64)
    while pairs.size < rows:
        more = rows - pairs.size + rows // 10
        user = (users * random.random(more) ** 2).astype(np.int64)
        item = (items * random.random(more) ** 3).astype(np.int64)
        pairs = np.unique(np.concatenate([pairs, user * items + item]))
    pairs = np.sort(random.permutation(pairs)[:rows])
    columns = {
        "userId": pairs // items + 1,
        "movieId": pairs % items * 3 + 1,  # ids with gaps
        "rating": random.integers(1, 11, rows) / 2,
        "timestamp": random.integers(789_652_009, 1_574_327_703, rows),
    }
    del pairs
    table = pa.table(columns)
    paths = {"csv": folder / "ratings.csv", "csv, shuffled": folder / "shuffled.csv", "dat": folder / "ratings.dat"}
    paths["parquet"] = paths["pandas"] = folder / "ratings.parquet"
    pa.csv.write_csv(table, paths["csv"], pa.csv.WriteOptions(quoting_style="none"))
    pa.csv.write_csv(
        table.take(random.permutation(rows)), paths["csv, shuffled"], pa.csv.WriteOptions(quoting_style="none")
    )
    pa.parquet.write_table(table, paths["parquet"])
    with paths["csv"].open("rb") as source, paths["dat"].open("wb") as target:
        source.readline()
        while block := source.read(1 << 24):
            target.write(block.replace(b",", b"::"))
    return paths


def read(format_: str, path: Path) -> dict[str, float]:
    """Read a file in this process; return seconds, and peak resident memory in GiB including the interpreter's."""
    from neuralcf.data import read_interactions

    if format_ == "pandas":
        import pandas

        source: object = pandas.read_parquet(path)
    else:
        source = path
    started = time.perf_counter()
    dataset, report = read_interactions(source)
    seconds = time.perf_counter() - started
    unit = 1024**3 if sys.platform == "darwin" else 1024**2
    return {
        "seconds": seconds,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit,
        "rows": report.rows,
        "kept": len(dataset),
        "users": dataset.num_users,
        "items": dataset.num_items,
        "checksum": int(np.sum(dataset.user_ids[dataset.users] * dataset.item_ids[dataset.items] % 1_000_003)),
    }


def in_separate_process(*arguments: str) -> dict[str, Any]:
    """Run this program in a child, which inherits the parent's peak of memory; so the parent must stay small."""
    command = [sys.executable, __file__, *arguments]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--make", help=argparse.SUPPRESS)
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        paths = make(options.rows, Path(options.make))
        print(json.dumps({format_: str(path) for format_, path in paths.items()}))
        return
    if options.read:
        print(json.dumps(read(options.read[0], Path(options.read[1]))))
        return
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {options.rows:,} rows")
    checksums = set()
    with tempfile.TemporaryDirectory() as folder:
        paths = in_separate_process("--make", folder, "--rows", str(options.rows))
        for format_ in options.formats:
            path = Path(paths[format_])
            figures = in_separate_process("--read", format_, str(path))
            if figures["rows"] != options.rows or figures["kept"] != options.rows:
                raise SystemExit(f"{format_}: expected {options.rows} rows, got {figures}")
            checksums.add((figures["users"], figures["items"], figures["checksum"]))
            print(
                f"{format_:14} {path.stat().st_size / 1e6:7.0f} MB   {figures['seconds']:6.1f} s   "
                f"peak {figures['gib']:5.2f} GiB   {figures['users']:,} users, {figures['items']:,} items"
            )
    if len(checksums) != 1:
        raise SystemExit(f"expected the same interactions from each format, got {checksums}")


if __name__ == "__main__":
    main()

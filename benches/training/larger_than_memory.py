"""Training from Parquet files that need not fit in memory: seconds, and the most memory that was used.

    python -m benches.training.larger_than_memory [MILLIONS] [FOLDER]

Makes a folder of Parquet files on the spot, 100 million interactions of a million users with 100,000 items by default,
in random order, in row groups of a million. Each user likes three of a hundred genres, and items follow a power law
within a genre, so that HR@10 beside popularity's shows that what is planted is found. Then `neuralcf train --shards`
trains a GMF for one epoch, with one negative for each interaction, in a process whose memory is watched.
"""

import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

USERS, ITEMS, GENRES, TASTES, NOISE = 1_000_000, 100_000, 100, 3, 0.1
GROUP = 1_000_000
LIMIT_GIB = 6
TRAINING = ("--model", "gmf", "--factors", "16", "--epochs", "1", "--negatives", "1")
STEPS = ("--batch-size", "65536", "--lr", "0.02")


def row_group(rng: np.random.Generator, rows: int) -> pa.Table:
    """Draw interactions of random users."""
    users = rng.integers(0, USERS, rows)
    genre = (users * 7919 + rng.integers(0, TASTES, rows) * 104729) // 11 % GENRES
    genre = np.where(rng.random(rows) < NOISE, rng.integers(0, GENRES, rows), genre)
    place = np.floor((ITEMS // GENRES) ** rng.random(rows)).astype(np.int64) - 1  # P(place) ~ 1 / (place + 1)
    return pa.table({"user_id": users, "item_id": place * GENRES + genre})


def write(folder: Path, millions: int) -> None:
    """Write files of ten row groups."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for first in range(0, millions, 10):
        tables = [row_group(rng, GROUP) for _ in range(min(10, millions - first))]
        with pa.parquet.ParquetWriter(folder / f"{first:04}.parquet", tables[0].schema) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=GROUP)


def main() -> None:
    """Write, train, and print what it took."""
    millions = int(sys.argv[1]) if sys.argv[1:] else 100
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if sys.argv[2:] else None) as temporary:
        folder = Path(temporary)
        write(folder / "data", millions)
        started = time.perf_counter()
        where = ["--shards", f"{folder}/shards", "--run", f"{folder}/run", "--out", f"{folder}/model"]
        command = [sys.executable, "-m", "neuralcf", "train", f"{folder}/data", *TRAINING, *STEPS, *where]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - started
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(done.stdout)
        trained = re.search(r"trained .* in ([0-9.]+) s", done.stdout)
        gib = usage.ru_maxrss / 2**20
        cpu, epoch = usage.ru_utime + usage.ru_stime, trained[1] if trained else "?"
        print(
            f"{millions} million rows: {seconds:.0f} s, {cpu:.0f} CPU s, of which the epoch {epoch} s; "
            f"at most {gib:.2f} GiB"
        )
        if gib > LIMIT_GIB:
            sys.exit(f"expected at most {LIMIT_GIB} GiB")


if __name__ == "__main__":
    main()

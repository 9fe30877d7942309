"""What Spark adds to the engine: lists for many users on a local Spark beside the bare engine, in turns.

    python -m benches.batch.spark_overhead --users 100000 --items 100000

Both use the given number of cores. Besides seconds, which other work on the machine disturbs, the table shows processor
seconds: the engine's threads, and for Spark its Python workers and the Java process. The lists are compared.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pyspark.sql import SparkSession

import neuralcf
from benches.shapes import A, random_tensors
from neuralcf.batch.spark import recommend

CHUNK = 4096
TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(root: int) -> float:
    """Return the processor time of a process and of all that descend from it, also of children that have ended."""
    parents, times = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)] = int(fields[1])
            times[int(folder.name)] = sum(map(int, fields[11:15])) / TICKS
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(times[pid] for pid in family)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--kind", choices=("neumf", "gmf"), default="neumf")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()

    os.environ["PYSPARK_PYTHON"] = sys.executable
    tensors = random_tensors(A, options.users, options.items)
    if options.kind == "gmf":
        tensors = {name: array for name, array in tensors.items() if not name.startswith("mlp.")}
        tensors["output.weight"] = tensors["output.weight"][:, : tensors["gmf.item_embedding.weight"].shape[1]]
    ids = np.arange(options.users), np.arange(options.items)
    with tempfile.TemporaryDirectory() as folder:
        neuralcf.save(tensors, Path(folder) / "model", kind=options.kind, ids=ids)
        run(Path(folder) / "model", options.users, options.cores, options.rounds)


def run(model: Path, users: int, cores: int, rounds: int) -> None:
    spark = (
        SparkSession.builder.master(f"local[{cores}]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "2g")
        .getOrCreate()
    )
    recommender = neuralcf.Recommender.load(model, threads=cores)
    print(
        "| run | engine, seconds (processor seconds) | Spark, seconds (processor seconds) | processor, Spark / engine |"
    )
    print("|---|---|---|---|")
    for at in range(rounds):
        start, used = time.perf_counter(), processor_seconds(os.getpid())
        best = [
            recommender.recommend(np.arange(first, min(first + CHUNK, users)), exclude_seen=False, threads=cores).ids
            for first in range(0, users, CHUNK)
        ]
        engine = time.perf_counter() - start, processor_seconds(os.getpid()) - used

        start, used = time.perf_counter(), processor_seconds(os.getpid())
        df = spark.range(0, users, 1, cores).withColumnRenamed("id", "user")
        table = recommend(df, model, exclude_seen=False).toArrow()
        cluster = time.perf_counter() - start, processor_seconds(os.getpid()) - used

        order = np.argsort(np.asarray(table["user"]))
        items = table["items"].combine_chunks().flatten().to_numpy().reshape(users, -1)
        np.testing.assert_array_equal(items[order], np.concatenate(best))
        figures = [f"{seconds:.1f} ({processor:.1f})" for seconds, processor in (engine, cluster)]
        print(f"| {at + 1} | {figures[0]} | {figures[1]} | {cluster[1] / engine[1]:.2f} |", flush=True)
    spark.stop()


if __name__ == "__main__":
    main()

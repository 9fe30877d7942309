"""What Spark or Ray adds to the engine: lists for many users on a local cluster beside the bare engine, in turns.

    python -m benches.batch.overhead spark --users 100000 --items 100000
    python -m benches.batch.overhead ray --kind gmf

All use the given number of cores, and the cluster as many partitions. Besides seconds, which other work on the machine
disturbs, the table shows processor seconds: the engine's threads, and for a cluster all of its processes. A small job
comes first, with the start of the cluster and its workers. The lists are compared, to the bit.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import neuralcf
from benches.shapes import A, random_tensors

CHUNK = 4096
TICKS = os.sysconf("SC_CLK_TCK")
Lists = Callable[[Path, int], pa.Table]
"""From a model and a number of users to the lists of users 0, 1, ..., in any order."""


@contextmanager
def on_spark(cores: int) -> Iterator[Lists]:
    """Start Spark with a worker for each core."""
    from pyspark.sql import SparkSession

    from neuralcf.batch.spark import recommend

    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.memory": "2g",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
    }
    builder = SparkSession.builder.master(f"local[{cores}]")
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    yield lambda model, users: recommend(
        spark.range(0, users, 1, cores).withColumnRenamed("id", "user"), model, exclude_seen=False
    ).toArrow()
    spark.stop()


@contextmanager
def on_ray(cores: int) -> Iterator[Lists]:
    """Start Ray with an actor for each core, and one more CPU by name, for reading."""
    import ray

    from neuralcf.batch.ray import recommend

    ray.init(
        num_cpus=cores + 1,
        object_store_memory=200 << 20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
    )
    ray.data.DataContext.get_current().enable_progress_bars = False

    def lists(model: Path, users: int) -> pa.Table:
        parts = [pa.table({"user": part}) for part in np.array_split(np.arange(users), cores)]
        found = recommend(ray.data.from_arrow(parts), model, exclude_seen=False, actors=cores)
        return pa.concat_tables(ray.get(found.to_arrow_refs()))

    yield lists
    ray.shutdown()


CLUSTERS = {"spark": on_spark, "ray": on_ray}


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


def measured(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what a function returns, seconds, and processor seconds."""
    start, used = time.perf_counter(), processor_seconds(os.getpid())
    result = work()
    return result, time.perf_counter() - start, processor_seconds(os.getpid()) - used


def engine_lists(recommender: neuralcf.Recommender, users: int, cores: int) -> list[Any]:
    """Return the lists of users 0, 1, ... in chunks."""
    return [
        recommender.recommend(np.arange(first, min(first + CHUNK, users)), exclude_seen=False, threads=cores)
        for first in range(0, users, CHUNK)
    ]


def check_equal(table: pa.Table, chunks: list[Any]) -> None:
    """Fail unless a cluster's lists and scores are those of the engine, to the bit."""
    order = np.argsort(table["user"].to_numpy())
    for name, expected in (("items", [chunk.ids for chunk in chunks]), ("scores", [chunk.scores for chunk in chunks])):
        found = table[name].combine_chunks().flatten().to_numpy().reshape(len(order), -1)
        np.testing.assert_array_equal(found[order], np.concatenate(expected))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cluster", choices=CLUSTERS)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--kind", choices=("neumf", "gmf"), default="neumf", help="the paper's of 8 factors")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()

    tensors = random_tensors(A, options.users, options.items)
    if options.kind == "gmf":
        tensors = {name: array for name, array in tensors.items() if not name.startswith("mlp.")}
        tensors["output.weight"] = tensors["output.weight"][:, : tensors["gmf.item_embedding.weight"].shape[1]]
    ids = np.arange(options.users), np.arange(options.items)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        neuralcf.save(tensors, model, kind=options.kind, ids=ids)
        recommender = neuralcf.Recommender.load(model, threads=options.cores)
        start, used = time.perf_counter(), processor_seconds(os.getpid())
        with CLUSTERS[options.cluster](options.cores) as lists:
            lists(model, min(options.users, options.cores * 100))
            seconds, processor = time.perf_counter() - start, processor_seconds(os.getpid()) - used
            print(
                f"{options.cluster}, {options.kind}: started in {seconds:.1f} s ({processor:.1f} processor seconds)\n"
            )
            print("| run | engine: seconds (processor seconds) | cluster | processor seconds added |")
            print("|---|---|---|---|")
            for at in range(options.rounds):
                chunks, *engine = measured(lambda: engine_lists(recommender, options.users, options.cores))
                table, *cluster = measured(lambda: lists(model, options.users))
                check_equal(table, chunks)
                figures = [f"{seconds:.1f} ({processor:.1f})" for seconds, processor in (engine, cluster)]
                added = cluster[1] - engine[1]
                print(f"| {at + 1} | {figures[0]} | {figures[1]} | {added:.1f}, {added / engine[1]:.0%} |", flush=True)


if __name__ == "__main__":
    main()

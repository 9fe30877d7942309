"""Time and memory of `fast` as interactions grow, on MovieLens-25M's shape: `python -m benches.training.growth 1 5 25`.

The arguments are millions of interactions, each measured in a process of its own: 162,541 users and 59,047 items at 25,
at fewer that share of the users. Lengths of histories are log-normal as there (median 71, mean 154), items follow a
power law within a hundred genres, and each user likes three of them. One user in ten has an item held out; HR@10 beside
popularity's shows that what is planted is found.
"""

import resource
import subprocess
import sys
import time

import numpy as np

from neuralcf import Scorer
from neuralcf.baselines import Popularity
from neuralcf.data import Dataset
from neuralcf.data.split import hold_out_fewer, leave_one_out
from neuralcf.evaluation import evaluate_full
from neuralcf.training import configure, train

USERS, ITEMS, INTERACTIONS = 162_541, 59_047, 25_000_000
GENRES, TASTES, NOISE = 100, 3, 0.2


def movielens_25m_shape(millions: float, seed: int = 0) -> Dataset:
    """Draw interactions in the shape of MovieLens-25M; duplicates, about three in ten, are dropped."""
    rng = np.random.default_rng(seed)
    num_users = int(USERS * millions * 1e6 / INTERACTIONS)
    lengths = np.maximum(20, np.exp(rng.normal(np.log(71), 1.2, num_users))).astype(np.int64)
    lengths = np.maximum(20, lengths * 1.45 * millions * 1e6 / lengths.sum()).astype(np.int64).clip(max=ITEMS // 10)
    users = np.repeat(np.arange(num_users), lengths)
    liked = rng.integers(0, GENRES, (num_users, TASTES))
    genre = liked[users, (TASTES * rng.random(users.size) ** 2).astype(np.int64)]  # the first one most
    genre = np.where(rng.random(users.size) < NOISE, rng.integers(0, GENRES, users.size), genre)
    each = ITEMS // GENRES
    place = np.floor(each ** rng.random(users.size)).astype(np.int64) - 1  # P(place) ~ 1 / (place + 1)
    pairs = np.unique(users * ITEMS + place * GENRES + genre)
    return Dataset(pairs // ITEMS, pairs % ITEMS, None, np.arange(num_users), np.arange(ITEMS))


def measure(millions: float) -> None:
    dataset = movielens_25m_shape(millions)
    split = leave_one_out(dataset, 0)
    split = hold_out_fewer(dataset, split, min(5000, dataset.num_users // 10), 0)
    del dataset
    started, cpu = time.perf_counter(), time.process_time()
    result = train(split.train, configure(preset="fast"))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    scorer = Scorer.from_tensors({name: weight.numpy() for name, weight in result.model.state_dict().items()})
    ours, popular = (evaluate_full(each, split).means["HR@10"] for each in (scorer, Popularity(split.train)))
    stages = ", ".join(f"{record.stage} {record.seconds:.0f}" for record in result.history)
    print(
        f"{len(split.train):,} interactions: {seconds:.0f} s, {cpu:.0f} CPU s, {memory:.1f} GiB; HR@10 {ours:.4f}, "
        f"popularity {popular:.4f}; seconds by stage: {stages}",
        flush=True,
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--one", millions]:
            measure(float(millions))
        case sizes:
            for size in sizes or ["1", "5", "25"]:
                subprocess.run([sys.executable, "-m", "benches.training.growth", "--one", size], check=True)

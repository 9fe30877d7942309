"""Epochs of the paper's NeuMF, 8 factors: our trainer beside a plain torch loop with a Dataset and a DataLoader.

    .venv/bin/python -m benches.training.epoch ../shared/data/ml-1m/ml-1m --epochs 3
    .venv/bin/python -m benches.training.epoch ../shared/data/ml-100k/u.data --batch-sizes 256

Each interaction has four sampled negatives: 5 million samples on MovieLens-1M. The plain loop is the usual one of
PyTorch ports of the paper: a Python loop samples negatives and looks pairs up in a dictionary, a Dataset has
`__getitem__`, a DataLoader shuffles and collates, the optimiser is Adam. Both train on the same interactions with the
same batch size and learning rate, and are compared after the same number of epochs by HR@10 and NDCG@10 of the held-out
interactions among 99 sampled items; the program fails if ours ranks worse by more than chance explains. Seconds are
those of the fastest epoch, sampling included; CPU seconds, which another program does not disturb as much, are a mean
and include worker processes. Times are against the first row of each batch size.
"""

from __future__ import annotations

import argparse
import functools
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from neuralcf import NeuMF, Scorer
from neuralcf.data import Dataset, hold_out, read_interactions, read_ncf
from neuralcf.data.csr import CSR
from neuralcf.data.negatives import draw_candidates
from neuralcf.evaluation.metrics import hit_ratio, ndcg
from neuralcf.training import NCFConfig, TrainConfig, train

NEGATIVES = 4

HeldOut = tuple[NDArray[np.int64], NDArray[np.int64], CSR]
"""Users, items, and the candidates that each is ranked among."""


@dataclass
class Measured:
    """What one way of training took for each epoch, and the quality of its model after all of them."""

    wall: list[float]
    cpu: list[float]
    model: torch.nn.Module


class Pairs(torch.utils.data.Dataset[tuple[int, int, float]]):
    """Positives and sampled negatives as the usual ports hold them."""

    def __init__(self, dataset: Dataset) -> None:
        self.positives = list(zip(dataset.users.tolist(), dataset.items.tolist(), strict=True))
        self.known = dict.fromkeys(self.positives, 1.0)
        self.num_items = dataset.num_items
        self.samples: list[tuple[int, int]] = []
        self.labels: list[float] = []

    def sample(self) -> None:
        """Sample the negatives of an epoch."""
        negatives = []
        for user, _ in self.positives:
            for _ in range(NEGATIVES):
                item = np.random.randint(self.num_items)
                while (user, item) in self.known:
                    item = np.random.randint(self.num_items)
                negatives.append((user, item))
        self.samples = self.positives + negatives
        self.labels = [1.0] * len(self.positives) + [0.0] * len(negatives)

    def __len__(self) -> int:
        return len(self.positives) * (1 + NEGATIVES)

    def __getitem__(self, index: int) -> tuple[int, int, float]:
        user, item = self.samples[index]
        return user, item, self.labels[index]


def plain(dataset: Dataset, epochs: int, batch_size: int, learning_rate: float, workers: int) -> Measured:
    """Train by the usual loop."""
    torch.manual_seed(0)
    np.random.seed(0)
    model = NeuMF(dataset.num_users, dataset.num_items)
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    loss_of = torch.nn.BCEWithLogitsLoss()
    pairs = Pairs(dataset)
    loader = DataLoader(pairs, batch_size=batch_size, shuffle=True, num_workers=workers)
    clock = Clock()
    for _ in range(epochs):
        pairs.sample()
        for users, items, labels in loader:
            optimiser.zero_grad()
            loss = loss_of(model(users, items), labels.float())
            loss.backward()
            optimiser.step()
        clock.lap()
    return Measured(clock.wall, clock.cpu, model.eval())


def ours(
    dataset: Dataset, epochs: int, batch_size: int, learning_rate: float, averaging: float, threads: int
) -> Measured:
    """Train by our trainer."""
    clock = Clock()
    config = NCFConfig(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, averaging=averaging)
    result = train(dataset, TrainConfig(config, validation=False, threads=threads), progress=False)
    clock.lap()
    seconds = [record.seconds for record in result.history]
    share = clock.cpu[0] / clock.wall[0]
    return Measured(seconds, [share * each for each in seconds], result.model)


class Clock:
    """Laps in seconds of wall and of CPU time."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.last = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return time.perf_counter(), sum(each.ru_utime + each.ru_stime for each in (own, children))

    def lap(self) -> None:
        """End a lap and begin the next."""
        wall, cpu = now = self._now()
        self.wall.append(wall - self.last[0])
        self.cpu.append(cpu - self.last[1])
        self.last = now


def quality(model: torch.nn.Module, held_out: HeldOut) -> NDArray[np.int64]:
    """Rank the held-out items among their candidates."""
    users, items, candidates = held_out
    tensors = {name: weight.numpy() for name, weight in model.state_dict().items()}
    return Scorer.from_tensors(tensors).rank_of(users, items, allow=candidates)


def read(path: Path) -> tuple[Dataset, HeldOut]:
    """Read training interactions and what is held out: the paper's files by their prefix, or any file."""
    if not path.is_file():
        given = read_ncf(path)
        return given.train, (given.users, given.items, given.candidates)
    dataset, _ = read_interactions(path)
    split = hold_out(dataset)
    candidates = draw_candidates(dataset.user_items(), dataset.num_items, split.users, split.items)
    return split.train, (split.users, split.items, candidates)


def main() -> None:
    """Train by each way for each batch size and print a table."""
    parser = argparse.ArgumentParser(description="Epochs of NeuMF: our trainer beside a plain torch loop.")
    parser.add_argument("data", type=Path, help="prefix of the paper's files, or a file of interactions")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of each row")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[256, 4096], help="samples in a batch")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch and of the sampler")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="worker processes of the DataLoader")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset, held_out = read(options.data)
    print(f"torch {torch.__version__}, {options.threads} threads; {len(dataset) * (1 + NEGATIVES)} samples an epoch")
    print("| batch size | | seconds | times | CPU seconds | times | HR@10 / NDCG@10 |\n|---|---|---|---|---|---|---|")
    for size in options.batch_sizes:
        rate = 0.001 * size / 256 if size < 2048 else 0.008
        common = (dataset, options.epochs, size, rate)
        ways: dict[str, Callable[[], Measured]] = {
            f"DataLoader, {workers} workers": functools.partial(plain, *common, workers) for workers in options.workers
        }
        ways["ours, without averaging"] = functools.partial(ours, *common, 0.0, options.threads)
        ways["ours"] = functools.partial(ours, *common, 1.0, options.threads)
        first: tuple[float, float] | None = None
        hits = []
        for name, way in ways.items():
            measured = way()
            ranks = quality(measured.model, held_out)
            wall, cpu = min(measured.wall), sum(measured.cpu) / options.epochs
            first = first or (wall, cpu)
            times = f"{wall:.1f} | {first[0] / wall:.1f} | {cpu:.1f} | {first[1] / cpu:.1f}"
            hits.append(hit_ratio(ranks, 10))
            figures = f"{hits[-1].mean():.4f} / {ndcg(ranks, 10).mean():.4f}"
            print(f"| {size} | {name} | {times} | {figures} |", flush=True)
        difference = hits[0] - hits[-2]  # the average of the weights lags behind in the first epochs
        if difference.mean() > 4 * difference.std() / np.sqrt(difference.size):
            raise SystemExit(f"batch size {size}: ours ranks worse, HR@10 {hits[-2].mean():.4f}")


if __name__ == "__main__":
    main()

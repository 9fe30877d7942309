"""Data sets of the training benchmarks. They lie in `../shared/data` beside the checkout, or are made on the spot."""

import gzip
from pathlib import Path

import numpy as np

from neuralcf.data import Dataset, Split

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def gowalla(folder: Path = DATA / "gowalla") -> Split:
    """Read Gowalla in the split of the LightGCN papers.

    29,858 users, 40,981 items, 810,128 pairs to train on and 217,242 to test: check-ins of loc-gowalla (Cho, Myers,
    Leskovec, KDD 2011), without timestamps.

    Raises:
        FileNotFoundError: the files are not there.
    """
    (users, items), (held_users, held_items) = (
        _adjacency_lists(folder / f"{part}.txt.gz") for part in ("train", "test")
    )
    user_ids, item_ids = np.arange(users.max() + 1), np.arange(max(items.max(), held_items.max()) + 1)
    train = Dataset(users, items, None, user_ids, item_ids)
    return Split(train, held_users, held_items, "the split of the LightGCN papers: random, by user, disjoint")


def _adjacency_lists(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read lines of a user and then its items, separated by spaces; int64 [n] each."""
    with gzip.open(path, "rt") as lines:
        rows = [np.fromstring(line, np.int64, sep=" ") for line in lines]
    users = np.repeat([row[0] for row in rows], [row.size - 1 for row in rows])
    return users, np.concatenate([row[1:] for row in rows])

"""Data sets of the training benchmarks. They lie in `../shared/data` beside the checkout, or are made on the spot."""

import gzip
from pathlib import Path

import numpy as np

from neuralcf.data import Dataset, Split, leave_last_out, read_interactions, read_ncf

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


def movielens_1m(folder: Path = DATA / "ml-1m") -> Split:
    """Read MovieLens-1M in the split of He et al., WWW 2017: the latest interaction held out, with 99 candidates."""
    return read_ncf(folder / "ml-1m")


def movielens_100k(folder: Path = DATA / "ml-100k") -> Split:
    """Read MovieLens-100K and hold out each user's latest interaction."""
    return leave_last_out(read_interactions(folder / "u.data")[0])


def movielens_latest_small(folder: Path = DATA / "ml-latest-small") -> Split:
    """Read MovieLens latest-small and hold out each user's latest interaction."""
    return leave_last_out(read_interactions(folder / "ratings.csv")[0])


def _adjacency_lists(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read lines of a user and then its items, separated by spaces; int64 [n] each."""
    with gzip.open(path, "rt") as lines:
        rows = [np.fromstring(line, np.int64, sep=" ") for line in lines]
    users = np.repeat([row[0] for row in rows], [row.size - 1 for row in rows])
    return users, np.concatenate([row[1:] for row in rows])

"""Splits that hold out one interaction of each user: leave-one-out of He et al., WWW 2017, section 4.1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.interactions import Dataset
from neuralcf.errors import ArgumentError

__all__ = ["Split", "leave_last_out", "leave_one_out"]


@dataclass(frozen=True, eq=False)
class Split:
    """Interactions to train on, and one held-out pair for each of m users."""

    train: Dataset
    """What is left; users and items keep their indices and ids."""

    users: NDArray[np.int64]
    """int64 [m], ascending: the users with a held-out item."""

    items: NDArray[np.int64]
    """int64 [m]: their held-out items."""

    guarantee: str
    """What holds by construction, in a sentence."""


_ALWAYS = (
    "a user with at least two distinct items has one held out, any other user none; no held-out pair is in the "
    "training part, where every user keeps an item; users and items keep their indices"
)


def leave_last_out(dataset: Dataset) -> Split:
    """Hold out the latest interaction of each user with at least two distinct items.

    Among equal timestamps the later position in the data set is the later event. Earlier interactions with the same
    item leave the training part too: a held-out item is new to its user.

    Raises:
        ArgumentError: no timestamps.
    """
    if dataset.timestamps is None:
        raise ArgumentError(
            "leave_last_out: expected timestamps, got a data set without; leave_one_out draws at random"
        )
    order = np.lexsort((np.arange(len(dataset)), dataset.timestamps, dataset.users))
    return _hold_out(dataset, order, f"the held-out item is the user's latest; {_ALWAYS}")


def leave_one_out(dataset: Dataset, seed: int = 0) -> Split:
    """Hold out one item, uniformly at random among the user's distinct ones, of each user with at least two.

    The split depends on the users' sets of items and the seed alone.
    """
    indptr, indices = dataset.known()
    users = np.repeat(np.arange(dataset.num_users), np.diff(indptr))
    distinct = Dataset(users, indices.astype(np.int64), None, dataset.user_ids, dataset.item_ids)
    order = np.lexsort((np.random.default_rng(seed).random(users.size), users))
    drawn = _hold_out(distinct, order, f"the held-out item is drawn at random with seed {seed}; {_ALWAYS}")
    held = drawn.users * dataset.num_items + drawn.items
    return Split(_without(dataset, held), drawn.users, drawn.items, drawn.guarantee)


def _hold_out(dataset: Dataset, order: NDArray[np.int64], guarantee: str) -> Split:
    """Hold out the last interaction of each user in `order`, which is by user first."""
    last = order[np.flatnonzero(np.diff(dataset.users[order], append=-1))]  # the last position of each user present
    distinct_items = np.diff(dataset.known()[0])
    last = last[distinct_items[dataset.users[last]] >= 2]
    users, items = dataset.users[last], dataset.items[last]
    return Split(_without(dataset, users * dataset.num_items + items), users, items, guarantee)


def _without(dataset: Dataset, held: NDArray[np.int64]) -> Dataset:
    return dataset.take(~np.isin(dataset.users * dataset.num_items + dataset.items, held))

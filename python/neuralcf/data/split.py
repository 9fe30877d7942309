"""Splits into a training part and held-out pairs; each tells in a sentence what it guarantees.

Leave-one-out, by time or at random, is that of He et al., WWW 2017, section 4.1. A split by time holds out everything
from a moment on, as a service meets it: nothing that is trained on is later than what is predicted.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.csr import CSR, csr_from_pairs
from neuralcf.data.dataset import Dataset, ExternalIds
from neuralcf.errors import ArgumentError
from neuralcf.seeds import Stream, derive

__all__ = [
    "GivenSplit",
    "Split",
    "given",
    "hold_out",
    "hold_out_fewer",
    "leave_last_out",
    "leave_one_out",
    "split_by_time",
]


@dataclass(frozen=True, eq=False)
class Split:
    """Interactions to train on, and m held-out pairs; leave-one-out holds out at most one pair of a user."""

    train: Dataset
    """What is left; users and items keep their indices and ids."""

    users: NDArray[np.int64]
    """int64 [m], ascending: the users of the held-out pairs."""

    items: NDArray[np.int64]
    """int64 [m]: their held-out items."""

    guarantee: str
    """What holds by construction, in a sentence."""


@dataclass(frozen=True, eq=False)
class GivenSplit(Split):
    """A split that was made elsewhere."""

    candidates: CSR | None
    """`(indptr int64 [m + 1], indices int32)`: what each held-out item is to be ranked among, sorted, each item once
    and never the held-out one itself; None where no candidates were given."""


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
    indptr, indices = dataset.user_items()
    users = np.repeat(np.arange(dataset.num_users), np.diff(indptr))
    distinct = Dataset(users, indices.astype(np.int64), None, dataset.user_ids, dataset.item_ids)
    order = np.lexsort((np.random.default_rng(seed).random(users.size), users))
    drawn = _hold_out(distinct, order, f"the held-out item is drawn at random with seed {seed}; {_ALWAYS}")
    held = drawn.users * dataset.num_items + drawn.items
    return Split(_without(dataset, held), drawn.users, drawn.items, drawn.guarantee)


def hold_out_fewer(dataset: Dataset, split: Split, most: int, seed: int = 0) -> Split:
    """Hold out the pairs of no more than `most` users, drawn at random from those of a leave-one-out split.

    Args:
        dataset: what was split.
        split: by `leave_last_out` or `leave_one_out`.
        most: how many users keep their held-out pair, from 1; the others' go back to the training part.
        seed: decides who.
    """
    if split.users.size <= most:
        return split
    drawn = np.sort(np.random.default_rng(seed).choice(split.users.size, most, replace=False))
    users, items = split.users[drawn], split.items[drawn]
    train = _without(dataset, users * dataset.num_items + items)
    return Split(train, users, items, f"only {most} users, drawn at random, have one held out; {split.guarantee}")


def hold_out(dataset: Dataset, seed: int = 0, how: str = "auto") -> Split:
    """Hold out by a rule that has a name, as the command line does.

    Args:
        dataset: what to split.
        seed: decides a random split.
        how: `last`, `leave_last_out`; `random`, `leave_one_out`; `time:X`, such as `time:0.1`, `split_by_time` with the
            share X; `none` holds nothing out; `auto` is `last`, or `random` where there are no timestamps.

    Raises:
        ArgumentError: no such rule, or data that it cannot split.
    """
    if how == "auto":
        how = "random" if dataset.timestamps is None else "last"
    if how == "last":
        return leave_last_out(dataset)
    if how == "random":
        return leave_one_out(dataset, derive(seed, Stream.SPLIT))
    if how == "none":
        nothing = np.empty(0, np.int64)
        return Split(dataset, nothing, nothing, "nothing is held out")
    share = re.fullmatch(r"time:(0?\.[0-9]+)", how)
    if share is None:
        raise ArgumentError(
            f"split: expected auto, last, random, none or time:X with a share X such as 0.1, got {how!r}"
        )
    return split_by_time(dataset, fraction=float(share[1]))


def split_by_time(dataset: Dataset, *, fraction: float | None = None, at: float | None = None) -> Split:
    """Hold out everything from a moment on.

    What cannot be predicted from the training part is left out of both, and counted in the guarantee: later
    interactions of a user or with an item that has none before the moment, and later repetitions of a pair.

    Args:
        dataset: with timestamps.
        fraction: the share of the interactions to hold out, the latest ones; those at the same time as the earliest
            of them are held out, too.
        at: the moment, in the data set's unit; or this.

    Raises:
        ArgumentError: no timestamps, both or none of `fraction` and `at`, or a part that would be empty.
    """
    times = dataset.timestamps
    if times is None:
        raise ArgumentError("split_by_time: expected timestamps, got a data set without; leave_one_out draws at random")
    if (fraction is None) == (at is None):
        raise ArgumentError(f"split_by_time: expected one of fraction and at, got fraction={fraction} and at={at}")
    if fraction is not None:
        if not 0 < fraction < 1:
            raise ArgumentError(f"fraction: expected a share above 0 and below 1, got {fraction}")
        at = np.sort(times)[-math.ceil(fraction * len(dataset))].item()
    assert at is not None
    held_out = times >= at
    before, after = dataset.take(~held_out), dataset.take(held_out)
    if not len(before) or not len(after):
        raise ArgumentError(
            f"split_by_time: expected interactions before and from {at} on, got {len(before)} and {len(after)}"
        )
    learned = np.isin(after.users, before.users) & np.isin(after.items, before.items)
    keys = after.users * dataset.num_items + after.items
    new = learned & ~np.isin(keys, before.users * dataset.num_items + before.items)
    pairs = np.unique(keys[new])
    if not pairs.size:
        raise ArgumentError(f"split_by_time: expected new pairs of known users and items from {at} on, got none")
    guarantee = (
        f"every training interaction is earlier than {at}, every held-out one is not; each held-out pair is held out "
        f"once, is not in the training part, and its user and its item are; of the {len(after)} later interactions, "
        f"{len(after) - int(learned.sum())} of users or with items that the training part does not have and "
        f"{int(learned.sum()) - pairs.size} repeated ones are left out; users and items keep their indices"
    )
    return Split(before, pairs // dataset.num_items, pairs % dataset.num_items, guarantee)


def given(
    train: Dataset, test: Dataset, candidates: tuple[ExternalIds, ExternalIds, ExternalIds] | None = None
) -> GivenSplit:
    """Take a split as it was made elsewhere; users and items are those of both parts and of the candidates.

    Args:
        train: the training part.
        test: the held-out pairs; a pair that occurs more than once is held out once.
        candidates: for each candidate the ids of its held-out pair and its own: users, items and candidates, each [n]
            int64 or strings. A candidate counts once; the held-out item itself does not count.

    Raises:
        ArgumentError: ids of the parts that differ in type, a held-out pair that is in the training part, or a
            candidate whose pair is not held out.
    """
    user_ids = _union("users", train.user_ids, test.user_ids)
    item_ids = _union("items", train.item_ids, test.item_ids, *([] if candidates is None else candidates[2:]))
    num_items = len(item_ids)
    train_users = _find(user_ids, train.user_ids)[train.users]
    train_items = _find(item_ids, train.item_ids)[train.items]
    joined = Dataset(train_users, train_items, train.timestamps, user_ids, item_ids)
    keys = _find(user_ids, test.user_ids)[test.users] * num_items + _find(item_ids, test.item_ids)[test.items]
    pairs = np.unique(keys)
    leaked = np.intersect1d(pairs, train_users * num_items + train_items)
    if leaked.size:
        user, item = user_ids[leaked[0] // num_items], item_ids[leaked[0] % num_items]
        raise ArgumentError(
            f"given: expected held-out pairs that are not in the training part, got {leaked.size} that are, "
            f"such as user {user} with item {item}"
        )
    rows = None
    guarantee = "the parts are those that were given; no held-out pair is in the training part"
    if candidates is not None:
        rows = _candidate_rows(pairs, user_ids, item_ids, candidates)
        guarantee += "; the candidates are those that were given, each once, never the held-out item itself"
    return GivenSplit(joined, pairs // num_items, pairs % num_items, guarantee, rows)


def _candidate_rows(
    pairs: NDArray[np.int64],
    user_ids: ExternalIds,
    item_ids: ExternalIds,
    candidates: tuple[ExternalIds, ExternalIds, ExternalIds],
) -> CSR:
    num_items = len(item_ids)
    users, items, others = candidates
    known = np.isin(users, user_ids) & np.isin(items, item_ids)
    keys = np.full(len(users), -1)
    keys[known] = _find(user_ids, np.asarray(users)[known]) * num_items + _find(item_ids, np.asarray(items)[known])
    rows = np.minimum(np.searchsorted(pairs, keys), pairs.size - 1)
    foreign = np.flatnonzero(pairs[rows] != keys)
    if foreign.size:
        n = foreign[0]
        raise ArgumentError(f"given: candidates[{n}]: user {users[n]} with item {items[n]} is not held out")
    columns = _find(item_ids, others)
    real = columns != keys % num_items
    return csr_from_pairs(rows[real], columns[real], pairs.size, num_items)


def _union(what: str, *parts: ExternalIds) -> ExternalIds:
    """Give the sorted ids of all parts, each once."""
    if any(isinstance(part, list) for part in parts):
        if not all(isinstance(part, list) for part in parts):
            raise ArgumentError(f"given: {what}: expected ids of one type, got integers here and strings there")
        return sorted(set().union(*parts))
    return np.unique(np.concatenate(parts))


def _find(ids: ExternalIds, wanted: ExternalIds) -> NDArray[np.int64]:
    """Give the place of each wanted id among the sorted ids, which hold all of them."""
    if isinstance(ids, list):
        index = {text: place for place, text in enumerate(ids)}
        return np.array([index[text] for text in wanted], dtype=np.int64)
    return np.searchsorted(ids, wanted)


def _hold_out(dataset: Dataset, order: NDArray[np.int64], guarantee: str) -> Split:
    """Hold out the last interaction of each user in `order`, which is by user first."""
    last = order[np.flatnonzero(np.diff(dataset.users[order], append=-1))]  # the last position of each user present
    distinct_items = np.diff(dataset.user_items()[0])
    last = last[distinct_items[dataset.users[last]] >= 2]
    users, items = dataset.users[last], dataset.items[last]
    return Split(_without(dataset, users * dataset.num_items + items), users, items, guarantee)


def _without(dataset: Dataset, held: NDArray[np.int64]) -> Dataset:
    return dataset.take(~np.isin(dataset.users * dataset.num_items + dataset.items, held))

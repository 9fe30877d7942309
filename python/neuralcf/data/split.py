"""Splits into a training set and held-out pairs, each with a sentence that states its guarantee.

Leave-one-out, by time or at random, follows He et al., WWW 2017, section 4.1. A split by time holds out everything
from a given time on, which is what a service in production faces: it trains on the past and predicts the future.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.csr import CSR, csr_from_pairs, take_rows
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
    "renumbered",
    "split_by_time",
]


@dataclass(frozen=True, eq=False)
class Split:
    """A training set and m held-out pairs; leave-one-out holds out at most one pair per user."""

    train: Dataset
    """The training set; users and items keep their indices and ids."""

    users: NDArray[np.int64]
    """int64 [m], ascending: the users of the held-out pairs."""

    items: NDArray[np.int64]
    """int64 [m]: the items of the held-out pairs."""

    guarantee: str
    """A sentence that states what holds by construction."""


@dataclass(frozen=True, eq=False)
class GivenSplit(Split):
    """A split that was made elsewhere."""

    candidates: CSR | None
    """`(indptr int64 [m + 1], indices int32)`: the candidates that each held-out item is ranked among, sorted, unique,
    without the held-out item itself; None if no candidates were given."""


_ALWAYS = (
    "each user with at least two distinct items has one of them held out, other users none; no held-out pair is in the "
    "training set, and every user keeps at least one item there; users and items keep their indices"
)


def leave_last_out(dataset: Dataset) -> Split:
    """Hold out the latest interaction of each user with at least two distinct items.

    Equal timestamps are ordered by position in the data set. Earlier interactions with the held-out item are removed
    from the training set too, so that item is new to the user.

    Raises:
        ArgumentError: the data set has no timestamps.
    """
    if dataset.timestamps is None:
        raise ArgumentError(
            "leave_last_out: expected timestamps, got a data set without any; leave_one_out splits at random"
        )
    order = np.lexsort((np.arange(len(dataset)), dataset.timestamps, dataset.users))
    return _hold_out(dataset, order, f"the held-out item is the user's latest; {_ALWAYS}")


def leave_one_out(dataset: Dataset, seed: int = 0) -> Split:
    """Hold out one item of each user with at least two distinct items, chosen uniformly at random.

    The split depends only on each user's set of items and the random seed.
    """
    indptr, indices = dataset.user_items()
    users = np.repeat(np.arange(dataset.num_users), np.diff(indptr))
    distinct = Dataset(users, indices.astype(np.int64), None, dataset.user_ids, dataset.item_ids)
    order = np.lexsort((np.random.default_rng(seed).random(users.size), users))
    drawn = _hold_out(distinct, order, f"the held-out item is chosen at random with seed {seed}; {_ALWAYS}")
    held = drawn.users * dataset.num_items + drawn.items
    return Split(_without(dataset, held), drawn.users, drawn.items, drawn.guarantee)


def hold_out_fewer(dataset: Dataset, split: Split, most: int, seed: int = 0) -> Split:
    """Reduce a leave-one-out split to at most `most` held-out pairs, of users sampled at random.

    Args:
        dataset: the interactions that were split.
        split: the result of `leave_last_out` or `leave_one_out`.
        most: maximum number of held-out pairs, at least 1; all others return to the training set.
        seed: random seed of the sample.
    """
    if split.users.size <= most:
        return split
    drawn = np.sort(np.random.default_rng(seed).choice(split.users.size, most, replace=False))
    users, items = split.users[drawn], split.items[drawn]
    train = _without(dataset, users * dataset.num_items + items)
    return Split(train, users, items, f"only {most} randomly sampled users have one held out; {split.guarantee}")


def hold_out(dataset: Dataset, seed: int = 0, how: str = "auto") -> Split:
    """Split by a named rule, as on the command line.

    Args:
        dataset: the interactions to split.
        seed: random seed of a random split.
        how: `last` for `leave_last_out`, `random` for `leave_one_out`, `time:X` (such as `time:0.1`) for
            `split_by_time` with fraction X, `none` to hold nothing out, `auto` for `last` with timestamps and `random`
            without.

    Raises:
        ArgumentError: an unknown rule, or data that it cannot split.
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
            f"split: expected auto, last, random, none or time:X with a fraction X such as 0.1, got {how!r}"
        )
    return split_by_time(dataset, fraction=float(share[1]))


def split_by_time(dataset: Dataset, *, fraction: float | None = None, at: float | None = None) -> Split:
    """Hold out every interaction from a given time on.

    Later interactions that the training set cannot predict end up in neither part, and the guarantee counts them:
    those of a user or item without an earlier interaction, and repetitions of a pair.

    Args:
        dataset: interactions with timestamps.
        fraction: fraction of the interactions to hold out, the latest ones. All that share the earliest held-out
            timestamp are held out.
        at: the time of the split, in the data set's unit, in place of `fraction`.

    Raises:
        ArgumentError: no timestamps, both or neither of `fraction` and `at`, or a part that would be empty.
    """
    times = dataset.timestamps
    if times is None:
        raise ArgumentError(
            "split_by_time: expected timestamps, got a data set without any; leave_one_out splits at random"
        )
    if (fraction is None) == (at is None):
        raise ArgumentError(f"split_by_time: expected either fraction or at, got fraction={fraction} and at={at}")
    if fraction is not None:
        if not 0 < fraction < 1:
            raise ArgumentError(f"fraction: expected a number above 0 and below 1, got {fraction}")
        at = np.sort(times)[-math.ceil(fraction * len(dataset))].item()
    assert at is not None
    held_out = times >= at
    before, after = dataset.take(~held_out), dataset.take(held_out)
    if not len(before) or not len(after):
        raise ArgumentError(
            f"split_by_time: expected interactions before {at} and from then on, got {len(before)} and {len(after)}"
        )
    learned = np.isin(after.users, before.users) & np.isin(after.items, before.items)
    keys = after.users * dataset.num_items + after.items
    new = learned & ~np.isin(keys, before.users * dataset.num_items + before.items)
    pairs = np.unique(keys[new])
    if not pairs.size:
        raise ArgumentError(
            f"split_by_time: expected new pairs of users and items in the training set from {at} on, got none"
        )
    guarantee = (
        f"every training interaction precedes {at}, no held-out one does; held-out pairs are unique and not in the "
        f"training set, their users and items are; of the {len(after)} later interactions, "
        f"{len(after) - int(learned.sum())} with a user or item that is not in the training set and "
        f"{int(learned.sum()) - pairs.size} repeated ones are left out; users and items keep their indices"
    )
    return Split(before, pairs // dataset.num_items, pairs % dataset.num_items, guarantee)


def given(
    train: Dataset, test: Dataset, candidates: tuple[ExternalIds, ExternalIds, ExternalIds] | None = None
) -> GivenSplit:
    """Use a split that was made elsewhere; its users and items are the union over training set, test and candidates.

    Args:
        train: the training set.
        test: the held-out pairs; duplicates are held out once.
        candidates: user id and item id of the held-out pair and id of the candidate, each int64 [n] or n strings.
            Duplicate candidates count once; the held-out item is never its own candidate.

    Raises:
        ArgumentError: integer ids in one part and strings in another, a held-out pair that is in the training set, or
            a candidate whose pair is not held out.
    """
    user_ids = _union("users", train.user_ids, test.user_ids)
    item_ids = _union("items", train.item_ids, test.item_ids, *([] if candidates is None else candidates[2:]))
    num_items = len(item_ids)
    train_users = _find(user_ids, train.user_ids)[train.users]
    train_items = _find(item_ids, train.item_ids)[train.items]
    joined = Dataset(train_users, train_items, train.timestamps, user_ids, item_ids, weights=train.weights)
    keys = _find(user_ids, test.user_ids)[test.users] * num_items + _find(item_ids, test.item_ids)[test.items]
    pairs = np.unique(keys)
    leaked = np.intersect1d(pairs, train_users * num_items + train_items)
    if leaked.size:
        user, item = user_ids[leaked[0] // num_items], item_ids[leaked[0] % num_items]
        raise ArgumentError(
            f"given: expected held-out pairs that are not in the training set, got {leaked.size} that are, "
            f"such as user {user} with item {item}"
        )
    rows = None
    guarantee = "the split was made elsewhere; no held-out pair is in the training set"
    if candidates is not None:
        rows = _candidate_rows(pairs, user_ids, item_ids, candidates)
        guarantee += "; the candidates were given, each counts once, and the held-out item is never its own candidate"
    return GivenSplit(joined, pairs // num_items, pairs % num_items, guarantee, rows)


def renumbered(split: Split, user_ids: ExternalIds, item_ids: ExternalIds) -> Split:
    """Renumber users and items: the given ids come first, in their order, then those that they lack, ascending.

    Args:
        split: training set, without features, and held-out pairs.
        user_ids: int64 [U], or U strings.
        item_ids: int64 [I], or I strings.

    Returns:
        The same split of users and items that are at least the given ones.

    Raises:
        ArgumentError: integer ids on one side and strings on the other.
    """
    train = split.train
    all_users, users = _appended("users", user_ids, train.user_ids)
    all_items, items = _appended("items", item_ids, train.item_ids)
    joined = Dataset(
        users[train.users], items[train.items], train.timestamps, all_users, all_items, weights=train.weights
    )
    held_users, held_items = users[split.users], items[split.items]
    order = np.argsort(held_users, kind="stable")
    if not isinstance(split, GivenSplit) or split.candidates is None:
        return replace(split, train=joined, users=held_users[order], items=held_items[order])
    indptr, others = take_rows(split.candidates, order)
    row = np.repeat(np.arange(order.size), np.diff(indptr))
    rows = csr_from_pairs(row, items[others], order.size, len(all_items))
    return replace(split, train=joined, users=held_users[order], items=held_items[order], candidates=rows)


def _appended(what: str, first: ExternalIds, ids: ExternalIds) -> tuple[ExternalIds, NDArray[np.int64]]:
    """Return `first` and then the other ids, ascending, and for each of `ids` its position among them."""
    if isinstance(first, list) != isinstance(ids, list):
        kinds = ["strings" if isinstance(each, list) else "integers" for each in (first, ids)]
        raise ArgumentError(f"{what}: expected {kinds[0]} as ids, as in the model to start from, got {kinds[1]}")
    if isinstance(first, list):
        known = set(first)
        together: ExternalIds = first + sorted(text for text in ids if text not in known)
    else:
        together = np.concatenate([first, np.setdiff1d(ids, first)])
    place = {each: n for n, each in enumerate(together if isinstance(together, list) else together.tolist())}
    wanted = ids if isinstance(ids, list) else ids.tolist()
    return together, np.array([place[each] for each in wanted], dtype=np.int64)


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
    """Return the sorted, unique ids of all parts."""
    if any(isinstance(part, list) for part in parts):
        if not all(isinstance(part, list) for part in parts):
            raise ArgumentError(f"given: {what}: expected ids of one type in all parts, got integers and strings")
        return sorted(set().union(*parts))
    return np.unique(np.concatenate(parts))


def _find(ids: ExternalIds, wanted: ExternalIds) -> NDArray[np.int64]:
    """Return the position of each wanted id in the sorted ids, which contain all of them."""
    if isinstance(ids, list):
        index = {text: place for place, text in enumerate(ids)}
        return np.array([index[text] for text in wanted], dtype=np.int64)
    return np.searchsorted(ids, wanted)


def _hold_out(dataset: Dataset, order: NDArray[np.int64], guarantee: str) -> Split:
    """Hold out each user's last interaction in `order`, which sorts by user first."""
    last = order[np.flatnonzero(np.diff(dataset.users[order], append=-1))]  # the last position of each user
    distinct_items = np.diff(dataset.user_items()[0])
    last = last[distinct_items[dataset.users[last]] >= 2]
    users, items = dataset.users[last], dataset.items[last]
    return Split(_without(dataset, users * dataset.num_items + items), users, items, guarantee)


def _without(dataset: Dataset, held: NDArray[np.int64]) -> Dataset:
    return dataset.take(~np.isin(dataset.users * dataset.num_items + dataset.items, held))

"""Splits into a training set and held-out pairs, each with a sentence that states its guarantee.

Leave-one-out, by time or at random, follows He et al., WWW 2017, section 4.1. A split by time holds out everything
from a given time on, which is what a service in production faces: it trains on the past and predicts the future.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.csr import CSR, csr_from_pairs, take_rows
from neuralcf.data.dataset import Dataset, ExternalIds, compacted, is_integer
from neuralcf.data.time_decay import seconds_per_unit
from neuralcf.data.values import is_number, parse_date
from neuralcf.errors import ArgumentError, argument
from neuralcf.seeds import Stream, derive

__all__ = [
    "GivenSplit",
    "Split",
    "given",
    "hold_out",
    "hold_out_fewer",
    "is_by_time",
    "leave_last_out",
    "leave_one_out",
    "leave_share_out",
    "renumbered",
    "split_by_time",
    "without_untrained",
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

    weights: NDArray[np.float32] | None = field(default=None, kw_only=True)
    """float32 [m]: the weights of the held-out pairs in the data; None if all count alike."""


@dataclass(frozen=True, eq=False)
class GivenSplit(Split):
    """A split that was made elsewhere."""

    candidates: CSR | None
    """`(indptr int64 [m + 1], indices int32)`: the candidates that each held-out item is ranked among, sorted, unique,
    without the held-out item itself; None if no candidates were given."""

    left_out: int = 0
    """Number of pairs that are left out, because the training set has no interaction of their user or item."""


_ALWAYS = (
    "each user with at least two distinct items has {} of them held out, other users none; no held-out pair is in the "
    "training set, and every user keeps at least one item there; users and items keep their indices"
)


def leave_last_out(dataset: Dataset, seed: int = 0, *, stream: Stream = Stream.SPLIT) -> Split:
    """Hold out the latest interaction of each user with at least two distinct items.

    Of several latest ones, at the same time, one is drawn at random, whatever the order of the interactions. Earlier
    interactions with the held-out item are removed from the training set too, so that item is new to the user.

    Args:
        dataset: interactions with timestamps.
        seed: random seed of the draw among several latest ones.
        stream: what the split is for; each purpose draws independently.

    Raises:
        ArgumentError: the data set has no timestamps.
    """
    if dataset.timestamps is None:
        raise ArgumentError(
            "leave_last_out: expected timestamps, got a data set without any; leave_one_out splits at random"
        )
    return _hold_out(dataset, None, "the held-out item is the user's latest", seed, stream)


def leave_one_out(dataset: Dataset, seed: int = 0, *, stream: Stream = Stream.SPLIT) -> Split:
    """Hold out one item of each user with at least two distinct items, chosen uniformly at random.

    The split depends only on each user's set of items, the random seed and the purpose `stream`.
    """
    untimed = replace(dataset, timestamps=None)
    split = _hold_out(untimed, None, "the held-out item is chosen at random", seed, stream)
    return replace(split, train=_without(dataset, split.users * dataset.num_items + split.items))


def leave_share_out(dataset: Dataset, share: float, seed: int = 0) -> Split:
    """Hold out a share of the items of each user with at least two distinct items: the latest, or random ones.

    Args:
        dataset: the interactions; without timestamps the items are chosen at random.
        share: of a user's items, rounded down, but at least one is held out and one is kept.
        seed: random seed of the choice, and of the draw among items at the same time.

    Raises:
        ArgumentError: a share that is not above 0 and below 1.
    """
    if not 0 < share < 1:
        raise ArgumentError(f"{argument('share')}: expected a number above 0 and below 1, got {share}")
    how = "chosen at random" if dataset.timestamps is None else "the latest"
    return _hold_out(dataset, share, f"the held-out items are {share:g} of each user's, {how}", seed, Stream.SPLIT)


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
    guarantee = f"only {most} randomly sampled users have one held out; {split.guarantee}"
    return Split(train, users, items, guarantee, weights=None if split.weights is None else split.weights[drawn])


def hold_out(dataset: Dataset, seed: int = 0, how: str = "auto") -> Split:
    """Split by a named rule, as on the command line.

    Args:
        dataset: the interactions to split.
        seed: random seed of a random split.
        how: `last` for `leave_last_out`, `random` for `leave_one_out`, `share:X` for `leave_share_out`, `time:X` (such
            as `time:0.1`) for `split_by_time` with fraction X, `at:T` for `split_by_time` from the moment T on, a date
            such as `2024-01-01`, a date and time, or a number in the data set's unit; `none` to hold nothing out,
            `auto` for `last` with timestamps and `random` without.

    Raises:
        ArgumentError: an unknown rule, or data that it cannot split.
    """
    if how == "auto":
        how = "random" if dataset.timestamps is None else "last"
    if how == "last":
        return leave_last_out(dataset, seed)
    if how == "random":
        return leave_one_out(dataset, seed)
    if how == "none":
        nothing = np.empty(0, np.int64)
        return Split(dataset, nothing, nothing, "nothing is held out")
    rule, _, value = how.partition(":")
    if rule in ("share", "time") and re.fullmatch(r"0?\.[0-9]+", value, re.ASCII):
        share = float(value)
        return leave_share_out(dataset, share, seed) if rule == "share" else split_by_time(dataset, fraction=share)
    if rule == "at" and (moment := _moment(dataset, value)) is not None:
        return split_by_time(dataset, at=moment)
    raise ArgumentError(
        f"{argument('split')}: expected auto, last, random, none, share:X or time:X with a fraction X such as 0.1, or "
        f"at:T with a moment T such as 2024-01-01, got {how!r}"
    )


def is_by_time(how: str) -> bool:
    """Tell whether a rule of `hold_out` holds out everything from a given time on."""
    return how.startswith(("time:", "at:"))


def _moment(dataset: Dataset, text: str) -> float | None:
    """Parse a moment, in the data set's unit of time; None for anything else."""
    if is_number(text):
        return float(text) if "." in text or "e" in text.lower() else int(text)
    microseconds = parse_date(text)
    if microseconds is None or dataset.timestamps is None or not len(dataset):
        return microseconds
    return microseconds / 1e6 / seconds_per_unit(dataset.timestamps)


def without_untrained(split: Split) -> Split:
    """Leave out the users and items without a training interaction, and held-out pairs of them.

    What was never trained must not pass for trained: a model would score and recommend it like all others.
    """
    train = split.train
    places = {}
    for side, indices, size in (("user", train.users, train.num_users), ("item", train.items, train.num_items)):
        present = np.bincount(indices, minlength=size) > 0
        places[side] = np.where(present, np.cumsum(present) - 1, -1)
    users, items = places["user"][split.users], places["item"][split.items]
    known = (users >= 0) & (items >= 0)
    weights = None if split.weights is None else split.weights[known]
    return replace(split, train=compacted(train), users=users[known], items=items[known], weights=weights)


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
    if (dislikes := dataset.dislikes) is not None and dislikes.timestamps is not None:
        before = replace(before, dislikes=dislikes.take(dislikes.timestamps < at))
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
    weights = _weights_of(after, pairs)
    return Split(before, pairs // dataset.num_items, pairs % dataset.num_items, guarantee, weights=weights)


def given(
    train: Dataset, test: Dataset, candidates: tuple[ExternalIds, ExternalIds, ExternalIds] | None = None
) -> GivenSplit:
    """Use a split that was made elsewhere.

    Its users and items are those of the training set; held-out pairs of others are left out and counted, because
    nothing was learned of them. With candidates, as in the NCF paper's files, they are the union over all parts.

    Args:
        train: the training set.
        test: the held-out pairs; duplicates are held out once.
        candidates: user id and item id of the held-out pair and id of the candidate, each int64 [n] or n strings.
            Duplicate candidates count once; the held-out item is never its own candidate.

    Raises:
        ArgumentError: integer ids in one part and strings in another, a held-out pair that is in the training set, or
            a candidate whose pair is not held out.
    """
    left_out = 0
    if candidates is None:
        _union("users", train.user_ids, test.user_ids)  # checks the types
        _union("items", train.item_ids, test.item_ids)
        known = np.isin(np.asarray(test.user_ids), np.asarray(train.user_ids))[test.users]
        known &= np.isin(np.asarray(test.item_ids), np.asarray(train.item_ids))[test.items]
        left_out = len(test) - int(known.sum())
        test = compacted(test.take(known))
    user_ids = _union("users", train.user_ids, test.user_ids)
    item_ids = _union("items", train.item_ids, test.item_ids, *([] if candidates is None else candidates[2:]))
    num_items = len(item_ids)
    joined = train.reindexed(_find(user_ids, train.user_ids), _find(item_ids, train.item_ids), user_ids, item_ids)
    test = test.reindexed(_find(user_ids, test.user_ids), _find(item_ids, test.item_ids), user_ids, item_ids)
    pairs = np.unique(test.users * num_items + test.items)
    leaked = np.intersect1d(pairs, joined.users * num_items + joined.items)
    if leaked.size:
        user, item = user_ids[leaked[0] // num_items], item_ids[leaked[0] % num_items]
        raise ArgumentError(
            f"given: expected held-out pairs that are not in the training set, got {leaked.size} that are, "
            f"such as user {user} with item {item}"
        )
    if joined.dislikes is not None:
        joined = replace(joined, dislikes=_without(joined.dislikes, pairs))
    rows = None
    guarantee = "the split was made elsewhere; no held-out pair is in the training set"
    if left_out:
        guarantee += f"; {left_out} pairs of users or items without training interactions are left out"
    if candidates is not None:
        rows = _candidate_rows(pairs, user_ids, item_ids, candidates)
        guarantee += "; the candidates were given, each counts once, and the held-out item is never its own candidate"
    weights = _weights_of(test, pairs)
    return GivenSplit(joined, pairs // num_items, pairs % num_items, guarantee, rows, left_out, weights=weights)


def renumbered(split: Split, user_ids: ExternalIds, item_ids: ExternalIds, *, guessed: bool = False) -> Split:
    """Renumber users and items: the given ids come first, in their order, then those that they lack, ascending.

    Args:
        split: training set, without features, and held-out pairs.
        user_ids: int64 [U], or U strings.
        item_ids: int64 [I], or I strings.
        guessed: whether the types of the split's ids were guessed from text, so that integers may be text.

    Returns:
        The same split of users and items that are at least the given ones.

    Raises:
        ArgumentError: integer ids on one side and strings on the other.
    """
    train = split.train
    all_users, users = _appended("users", user_ids, train.user_ids, guessed)
    all_items, items = _appended("items", item_ids, train.item_ids, guessed)
    joined = train.reindexed(users, items, all_users, all_items)
    held_users, held_items = users[split.users], items[split.items]
    order = np.argsort(held_users, kind="stable")
    weights = None if split.weights is None else split.weights[order]
    moved = replace(split, train=joined, users=held_users[order], items=held_items[order], weights=weights)
    if not isinstance(moved, GivenSplit) or not isinstance(split, GivenSplit) or split.candidates is None:
        return moved
    indptr, others = take_rows(split.candidates, order)
    row = np.repeat(np.arange(order.size), np.diff(indptr))
    rows = csr_from_pairs(row, items[others], order.size, len(all_items))
    return replace(moved, candidates=rows)


def _appended(what: str, first: ExternalIds, ids: ExternalIds, guessed: bool) -> tuple[ExternalIds, NDArray[np.int64]]:
    """Return `first` and then the other ids, ascending, and for each of `ids` its position among them."""
    if guessed and isinstance(first, list) and not isinstance(ids, list):
        ids = list(map(str, ids.tolist()))
    if isinstance(first, list) != isinstance(ids, list):
        kinds = ["strings" if isinstance(each, list) else "integers" for each in (first, ids)]
        example = next((text for text in ids if not is_integer(text)), ids[0]) if isinstance(ids, list) else ids[0]
        raise ArgumentError(
            f"{what}: expected {kinds[0]} as ids, as in the model to start from, such as {first[0]!s}, got {kinds[1]}, "
            f"such as {example!s}; a model for both is trained with {argument('text_ids', True)}"
        )
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


def _hold_out(dataset: Dataset, share: float | None, what: str, seed: int, stream: Stream) -> Split:
    """Hold out each user's latest item, or a share of their items, the latest; among those of one time random ones."""
    indptr, items = dataset.user_items()
    users = np.repeat(np.arange(dataset.num_users), np.diff(indptr))
    drawn = np.random.default_rng(derive(seed, stream)).random(users.size)
    if dataset.timestamps is None:
        order = np.lexsort((drawn, users))
        what += f" with seed {seed}"
    else:
        times = np.full(users.size, dataset.timestamps.min(), dataset.timestamps.dtype)
        pairs = dataset.users * dataset.num_items + dataset.items
        np.maximum.at(times, np.searchsorted(users * dataset.num_items + items, pairs), dataset.timestamps)
        order = np.lexsort((drawn, times, users))
    distinct = np.diff(indptr)
    counts = np.ones(dataset.num_users, np.int64)
    if share is not None:
        counts = np.maximum(np.floor(share * distinct + 1e-9).astype(np.int64), 1)
    counts = np.where(distinct >= 2, np.minimum(counts, distinct - 1), 0)
    from_the_end = indptr[1:][users] - 1 - np.arange(users.size)  # `order` sorts by user first, so users[order] = users
    last = order[from_the_end < counts[users]]
    if dataset.timestamps is not None:
        first, before = indptr[1:] - counts, indptr[1:] - counts - 1
        split_up = np.flatnonzero(counts > 0)
        ties = int((times[order[first[split_up]]] == times[order[before[split_up]]]).sum())
        if ties:
            of = f"{ties} of {split_up.size} users have several at that time, of which it is drawn with seed {seed}"
            what += f" ({of})"
    keys = np.sort(users[last] * dataset.num_items + items[last])
    always = _ALWAYS.format("one" if share is None else "some")
    held_users, held_items = keys // dataset.num_items, keys % dataset.num_items
    weights = _weights_of(dataset, keys)
    return Split(_without(dataset, keys), held_users, held_items, f"{what}; {always}", weights=weights)


def _weights_of(dataset: Dataset, pairs: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Return the largest weight of each of some pairs of the data set, given as user * I + item."""
    if dataset.weights is None:
        return None
    keys = dataset.users * dataset.num_items + dataset.items
    order = np.lexsort((dataset.weights, keys))
    return np.asarray(dataset.weights[order[np.searchsorted(keys[order], pairs, side="right") - 1]])


def _without(dataset: Dataset, held: NDArray[np.int64]) -> Dataset:
    return dataset.take(~np.isin(dataset.users * dataset.num_items + dataset.items, held))

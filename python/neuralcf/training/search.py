"""Searches of the settings that iALS and EASE are sharp in, on interactions kept back from the training part.

Protocol    A tenth of the interactions (at least one, never the last of a training history) of up to 6,000 users with
            two items or more is kept back: the latest ones, or random ones without timestamps. They are ranked against
            all items without the user's remaining ones; NDCG@20 with an ideal of min(20, how many are kept back).
iALS        Models of 64 factors, two sweeps from the spectral start, which all trials share.
            By coordinates, from unobserved = 7: first `l2` over its grid, then `unobserved`, then the two values
            between the best `l2` and its neighbours. The grids are wide, as what is best differs by ten times between
            data sets.
EASE        First `l2` over its grid, then `row_exponent` at the best. On the 2,000 most frequent items, as the weights
            of all take long to compute: what is best hardly depends on how many items there are.
Width       Wider vectors need less regularisation, and more weight of what was not observed. Of a large catalogue only
            `l2` is searched with 64 factors. At full width it is halved, and then `unobserved` doubled, as long as that
            stays inside the grids and costs less than two percent: NDCG is flat there, within the noise of a split,
            while teachers of four times the width go on to gain.
Sampling    Of more than a million interactions, those of a sample of users: the settings mean the same on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from neuralcf.baselines import EASE
from neuralcf.baselines.base import mask
from neuralcf.baselines.ials import both_sides, spectral_start, sweep
from neuralcf.data.csr import CSR, csr_from_pairs, take_rows
from neuralcf.data.dataset import Dataset
from neuralcf.seeds import Stream, derive
from neuralcf.training.best_items import best_items
from neuralcf.training.teachers import Factors, ItemWeights, Teacher, blocks_of

__all__ = ["EaseTrial", "Search", "Trial", "keep_back", "ndcg_at_20", "search_ease", "search_ials"]

_FACTORS, _SWEEPS = 64, 2
_INTERACTIONS = 1_000_000
_USERS, _SHARE, _CUTOFF = 6000, 0.1, 20
_L2 = (0.001, 0.003, 0.007, 0.015, 0.03, 0.05)
_UNOBSERVED = (1.0, 2.0, 4.0, 7.0, 15.0, 30.0)
_START = 7.0
_AS_GOOD = 0.98
_EASE_L2 = (50.0, 100.0, 200.0, 400.0, 800.0)
_ROW_EXPONENTS = (0.0, 0.25)
_EASE_ITEMS = 2000


@dataclass(frozen=True)
class Trial:
    """Settings of iALS, and how they did."""

    unobserved: float
    l2: float
    ndcg: float
    """NDCG@20 of the interactions kept back."""


@dataclass(frozen=True)
class EaseTrial:
    """Settings of EASE, and how they did."""

    l2: float
    row_exponent: float
    ndcg: float
    """NDCG@20 of the interactions kept back."""


AnyTrial = TypeVar("AnyTrial", Trial, EaseTrial)


class Search(NamedTuple, Generic[AnyTrial]):
    """What a search found."""

    chosen: AnyTrial
    """The trial whose settings are to be taken; of several that do about as well not always the best."""
    trials: list[AnyTrial]
    """All of them, best first."""


def search_ials(dataset: Dataset, seed: int, *, width: int | None = None) -> Search[Trial] | None:
    """Try settings; None where no user has two items.

    Args:
        dataset: what may be learned from.
        seed: decides who has something kept back, what without timestamps, and the spectral start.
        width: of the vectors of a large catalogue; None searches with 64 factors alone.
    """
    train, held_users, held = keep_back(_sampled(dataset, seed), seed)
    if not held_users.size:
        return None
    trials = _Trials(train, held_users, held, _FACTORS, seed)
    best = trials.best_of([(_START, l2) for l2 in _L2])
    if width is None:
        best = trials.best_of([(unobserved, best.l2) for unobserved in _UNOBSERVED])
        best = trials.best_of([(best.unobserved, l2) for l2 in _between(best.l2)])
    else:
        trials = _Trials(train, held_users, held, width, seed)
        best = trials.go_on(best, unobserved=1, l2=0.5)
        best = trials.go_on(best, unobserved=2, l2=1)
    return Search(best, sorted(trials.done.values(), key=lambda trial: -trial.ndcg))


def search_ease(dataset: Dataset, seed: int) -> Search[EaseTrial] | None:
    """Try settings; None where no user has two items.

    Args:
        dataset: what may be learned from.
        seed: decides who has something kept back, and what without timestamps.
    """
    train, held_users, held = keep_back(_of_frequent_items(_sampled(dataset, seed), _EASE_ITEMS), seed)
    if not held_users.size:
        return None
    rows, trials = train.user_items(), list[EaseTrial]()

    def attempt(l2: float, row_exponent: float) -> None:
        ease = EASE(train, l2=l2, row_exponent=row_exponent, dtype=np.float32)
        teacher = ItemWeights(ease.histories, np.asarray(ease.weights, np.float32))
        ndcg = ndcg_at_20(teacher, train.num_items, rows, held_users, held)
        trials.append(EaseTrial(l2, row_exponent, ndcg))

    first, *others = _ROW_EXPONENTS
    for l2 in _EASE_L2:
        attempt(l2, first)
    best = max(trials, key=lambda trial: trial.ndcg)
    for exponent in others:
        attempt(best.l2, exponent)
    trials.sort(key=lambda trial: -trial.ndcg)
    return Search(trials[0], trials)


class _Trials:
    """iALS of one width with several settings, from one spectral start."""

    def __init__(self, train: Dataset, held_users: NDArray[np.int64], held: CSR, factors: int, seed: int) -> None:
        self.num_items, self.rows, self.held_users, self.held = train.num_items, train.user_items(), held_users, held
        self.users, self.items = both_sides(train, factors)
        self.start = spectral_start(self.users, self.items, factors, derive(seed, Stream.SEARCH, 1))
        self.done: dict[tuple[float, float], Trial] = {}

    def best_of(self, settings: list[tuple[float, float]]) -> Trial:
        """Try settings; give the best so far."""
        for unobserved, l2 in settings:
            self._try(unobserved, l2)
        return max(self.done.values(), key=lambda trial: trial.ndcg)

    def go_on(self, start: Trial, *, unobserved: float, l2: float) -> Trial:
        """Multiply settings by factors while they stay inside the grids and do as well; give the last of these."""
        last = self._try(start.unobserved, start.l2)
        best = last.ndcg
        while last.unobserved * unobserved <= _UNOBSERVED[-1] and last.l2 * l2 >= _L2[0]:
            trial = self._try(last.unobserved * unobserved, last.l2 * l2)
            if trial.ndcg < _AS_GOOD * best:
                break
            last, best = trial, max(best, trial.ndcg)
        return last

    def _try(self, unobserved: float, l2: float) -> Trial:
        """Train, unless it was done before, and measure."""
        if (unobserved, l2) not in self.done:
            p, q = self.start
            for _ in range(_SWEEPS):
                p, q = sweep(self.users, self.items, p, q, unobserved=unobserved, l2=l2)
            factors = Factors(p, q, np.zeros(self.num_items, np.float32))
            ndcg = ndcg_at_20(factors, self.num_items, self.rows, self.held_users, self.held)
            self.done[unobserved, l2] = Trial(unobserved, l2, ndcg)
        return self.done[unobserved, l2]


def _of_frequent_items(dataset: Dataset, count: int) -> Dataset:
    """Keep the interactions with the items that have most of them."""
    if dataset.num_items <= count:
        return dataset
    frequent = np.argsort(-np.bincount(dataset.items, minlength=dataset.num_items), kind="stable")[:count]
    number = np.full(dataset.num_items, -1)
    number[frequent] = np.arange(count)
    return dataset.reindexed(np.arange(dataset.num_users), number, dataset.user_ids, np.arange(count))


def _sampled(dataset: Dataset, seed: int) -> Dataset:
    """Keep all interactions of a random sample of users, about `_INTERACTIONS`, of a data set that has more."""
    if len(dataset) <= _INTERACTIONS:
        return dataset
    rng = np.random.default_rng(derive(seed, Stream.SEARCH, 2))
    kept = rng.random(dataset.num_users) < _INTERACTIONS / len(dataset)
    return dataset.take(kept[dataset.users])


def keep_back(dataset: Dataset, seed: int) -> tuple[Dataset, NDArray[np.int64], CSR]:
    """Keep back a tenth of the interactions of some users.

    Returns:
        What is left to train on; users int64 [m]; the items that each has kept back, m rows.
    """
    rng = np.random.default_rng(derive(seed, Stream.SEARCH))
    pairs = dataset.users * dataset.num_items + dataset.items
    order = rng.permutation(len(dataset))
    if dataset.timestamps is not None:
        order = order[np.argsort(-dataset.timestamps[order], kind="stable")]
    order = order[np.argsort(dataset.users[order], kind="stable")]  # by user; the first ones are kept back
    _, first = np.unique(pairs[order], return_index=True)
    order = order[np.sort(first)]  # each pair once
    counts = np.bincount(dataset.users[order], minlength=dataset.num_users)
    eligible = np.flatnonzero(counts >= 2)
    chosen = np.sort(rng.choice(eligible, min(_USERS, eligible.size), replace=False))
    quota = np.zeros(dataset.num_users, np.int64)
    quota[chosen] = np.maximum(1, (_SHARE * counts[chosen]).astype(np.int64))
    place = np.arange(order.size) - np.repeat(np.cumsum(counts) - counts, counts)  # among the user's
    kept = order[place < quota[dataset.users[order]]]
    train = dataset.take(~np.isin(pairs, pairs[kept]))
    which = np.searchsorted(chosen, dataset.users[kept])
    return train, chosen, csr_from_pairs(which, dataset.items[kept], chosen.size, dataset.num_items)


def ndcg_at_20(teacher: Teacher, num_items: int, known: CSR, users: NDArray[np.int64], held: CSR) -> float:
    """Compute the mean NDCG@20 of held-out items against all items but the known ones.

    Args:
        teacher: what scores.
        num_items: I.
        known: U rows of items that are left out.
        users: int64 [m].
        held: m rows of held-out items, none of them empty.
    """
    values = []
    discounts = 1 / np.log2(np.arange(2, _CUTOFF + 2))
    for block in blocks_of(np.arange(users.size), num_items):
        part = slice(int(block[0]), int(block[-1]) + 1)
        scores = teacher.scores(users[block])
        scores[mask(take_rows(known, users[block]), slice(0, block.size), num_items)] = -np.inf
        top, _ = best_items(scores, _CUTOFF)
        hits = np.take_along_axis(mask(held, part, num_items), top, axis=1)
        ideal = np.cumsum(discounts)[np.minimum(np.diff(held[0])[block], _CUTOFF) - 1]
        values.append((hits * discounts[: top.shape[1]]).sum(axis=1) / ideal)
    return float(np.concatenate(values).mean())


def _between(l2: float) -> list[float]:
    """Give the geometric means of a value of the grid and its neighbours."""
    place = _L2.index(l2)
    return [round(float(np.sqrt(l2 * _L2[other])), 6) for other in (place - 1, place + 1) if 0 <= other < len(_L2)]

"""What the lists of a call have in common: length, filters, limits; and from dense indices to `Recommendations`."""

import operator
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import Groups, ItemSet, Scorer, check_memory
from neuralcf.errors import ArgumentError
from neuralcf.results import TopK
from neuralcf.serving.generations import Generation
from neuralcf.serving.ids import (
    DenseRows,
    IdArray,
    OnUnknown,
    Rows,
    all_of,
    are_rows,
    as_ids,
    check_on_unknown,
    dense,
    dense_rows,
    external,
    take_rows,
)
from neuralcf.serving.recommendations import Recommendations

__all__ = ["Listing", "Search", "check_lists", "excluded_rows", "filter_of", "indices_of", "raises", "weights_of"]

Search: TypeAlias = Literal["exact", "approximate"]
"""How items are found: "approximate" goes by the index of the model."""

_ItemFilter: TypeAlias = ItemSet | NDArray[np.int64] | None
_PageEnds: TypeAlias = tuple[NDArray[np.float32], NDArray[np.int64]]

_BYTES_PER_ENTRY = 32
"""The most that an item of a list, or its padding, takes while the list is made."""


class Listing(NamedTuple):
    """How the lists of a call are made."""

    model: Generation
    k: SupportsIndex
    allow: _ItemFilter
    deny: _ItemFilter
    least: float | None
    """The least score to return."""
    limits: list[tuple[Groups, int]] | None
    ends: _PageEnds | None
    """For each row of the call, the last item of the page before: its score and index, -1 if it is unknown."""
    logits: bool
    threads: int | None
    effort: Mapping[str, Any]
    """The arguments `search`, `recall` and `probes` of `Scorer.top_k`."""

    @classmethod
    def of(
        cls,
        model: Generation,
        rows: int,
        k: SupportsIndex,
        *,
        allow: Any,
        deny: Any,
        min_score: Any,
        max_per_group: Any,
        after: Any,
        raising: bool,
        logits: bool,
        threads: int | None,
        search: Search = "exact",
        recall: float | None = None,
        probes: SupportsIndex | None = None,
    ) -> "Listing":
        """Check the arguments of a call for `rows` users."""
        check_lists(rows, k)
        return cls(
            model,
            k,
            filter_of(model, allow, "allow", raising=raising),
            filter_of(model, deny, "deny", raising=raising),
            _least(min_score),
            None if max_per_group is None else _limits(model, max_per_group),
            None if after is None else _page_ends(model, after, rows),
            logits,
            threads,
            {"search": search, "recall": recall, "probes": probes},
        )

    def best(
        self, users: Any, exclude: Rows | str | None, rows: NDArray[np.bool_], scorer: Scorer | None = None
    ) -> TopK:
        """Find the best items of `users`, who are those of the call that the mask `rows` marks.

        Another scorer than the model's has no index, and is searched exactly.
        """
        return (scorer or self.model.scorer).top_k(
            users,
            self.k,
            exclude=exclude,
            allow=self.allow,
            deny=self.deny,
            max_per_group=self.limits,
            after=None if self.ends is None else (self.ends[0][rows], self.ends[1][rows]),
            logits=self.logits,
            threads=self.threads,
            **(self.effort if scorer is None else {}),
        )

    def result(
        self,
        best: TopK,
        known: NDArray[np.bool_],
        listed: NDArray[np.bool_],
        *,
        popular: bool,
        exclude: Rows | None,
        users: IdArray | None,
        single: bool,
    ) -> Recommendations:
        """Return the lists of the users that `listed` marks, and empty or popular ones for the others."""
        found, scores = best
        if not all_of(listed):
            shape = (len(listed), found.shape[1])
            found, scores = np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)
            found[listed], scores[listed] = best
            if popular and self.model.popularity is not None:
                others = ~listed
                nobody = np.zeros(int(others.sum()), np.int64)
                rows = None if exclude is None else take_rows(exclude, others)
                found[others], scores[others] = self.best(nobody, rows, others, self.model.popularity.scorer)
        if self.least is not None:
            below = scores.astype(np.float64) < self.least
            found[below], scores[below] = -1, -np.inf
        ids = external(self.model.item_ids, found)
        counts = (found >= 0).sum(axis=1)
        result = Recommendations(ids, scores, counts, known, self.model.number, users)
        return result[0] if single else result


def check_lists(rows: int, k: SupportsIndex) -> None:
    """Check that `rows` lists of `k` items fit in memory, padding and all; whether `k` is valid the scorer says."""
    try:
        entries = rows * max(0, operator.index(k))
    except TypeError:
        return
    check_memory("recommendations", min(entries * _BYTES_PER_ENTRY, 2**64 - 1))


def raises(model: Generation, on_unknown: OnUnknown) -> bool:
    """Check `on_unknown`; return whether unknown ids raise."""
    check_on_unknown(on_unknown, "raise", "skip", "popular")
    if on_unknown == "popular" and model.popularity is None:
        raise ArgumentError(
            'on_unknown: "popular" needs stored interactions and load(popular=True), and this model lacks one of them'
        )
    return on_unknown == "raise"


def indices_of(model: Generation, ids: Any, what: str, *, raising: bool) -> NDArray[np.int64]:
    """Return the indices of the items that the model knows."""
    found = dense(model.item_ids, as_ids(ids), what, raising=raising)
    return found[found >= 0]


def excluded_rows(model: Generation, exclude: Any, users: int, *, raising: bool) -> Rows:
    """Return the items that each of the users must not get."""
    found = dense_rows(model.item_ids, exclude, "exclude", raising=raising)
    if found.users != users:
        got = "one list of ids" if found.single else str(found.users)
        raise ArgumentError(f"exclude: expected a list of ids for each of {users} users, got {got}")
    return found.rows


def weights_of(weights: Any, histories: DenseRows) -> NDArray[np.float64] | None:
    """Return the weights of the histories' items."""
    if weights is None:
        return None
    weights = as_ids(weights)
    rows = [as_ids(row) for row in weights] if are_rows(weights) else [weights]
    try:
        values = [np.asarray(row, np.float64) for row in rows]
    except (TypeError, ValueError):
        raise TypeError("weights: expected numbers, in the form of the items") from None
    given, got = histories.given.tolist(), [row.size for row in values]
    if given != got:
        at = next((at for at, (a, b) in enumerate(zip(given, got, strict=False)) if a != b), None)
        if at is None:
            raise ArgumentError(f"weights: expected {len(given)}, a list for each history, got {len(got)}")
        place = "weights" if histories.single else f"weights[{at}]"
        raise ArgumentError(f"{place}: expected {given[at]}, one for each item, got {got[at]}")
    return np.concatenate([row.ravel() for row in values])[histories.positions]


def filter_of(model: Generation, given: Any, what: str, *, raising: bool) -> _ItemFilter:
    """Return the items of an expression of named sets, or those with the given ids."""
    if given is None or isinstance(given, str):
        return None if given is None else model.sets.evaluate(given, what=what)
    return indices_of(model, given, what, raising=raising)


def _least(min_score: Any) -> float | None:
    if min_score is None:
        return None
    if isinstance(min_score, bool) or not isinstance(min_score, int | float | np.number):
        raise TypeError(f"min_score: expected a number, got {type(min_score).__name__}")
    if np.isnan(min_score):
        raise ArgumentError("min_score: expected a number, got nan")
    return float(min_score)


def _limits(model: Generation, max_per_group: Any) -> list[tuple[Groups, int]]:
    if not isinstance(max_per_group, Mapping):
        got = type(max_per_group).__name__
        raise TypeError(f'max_per_group: expected a dictionary such as {{"brand": 2}}, got {got}')
    for name in max_per_group:
        if name not in model.groups:
            known = ", ".join(sorted(model.groups)) or "none"
            raise ArgumentError(f"max_per_group: no groups are named {name!r}; known: {known}")
    return [(model.groups[name], most) for name, most in max_per_group.items()]


def _page_ends(model: Generation, after: Any, rows: int) -> _PageEnds:
    """Return scores and indices of page ends: of one pair `(score, id)`, or of one for each row, or None."""
    pairs = [after] if _is_pair(after) else list(after)
    if len(pairs) != rows:
        raise ArgumentError(f"after: expected (score, id) for each of {rows} users, got {len(pairs)}")
    for at, pair in enumerate(pairs):
        if pair is not None and not _is_pair(pair):
            raise TypeError(f"after[{at}]: expected (score, id), got {pair!r}")
    given = [at for at, pair in enumerate(pairs) if pair is not None]
    scores, items = np.full(rows, np.inf, np.float32), np.full(rows, -1, np.int64)
    scores[given] = [pairs[at][0] for at in given]
    if given:
        items[given] = dense(model.item_ids, [pairs[at][1] for at in given], "after", raising=False)
    return scores, items


def _is_pair(after: Any) -> bool:
    number = isinstance(after, tuple | list) and len(after) == 2 and isinstance(after[0], int | float | np.number)
    return number and not isinstance(after[0], bool) and isinstance(after[1], str | int | np.integer)

"""Requests to a `Recommender`: each with its own users, k and filters, answered together where that is possible."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neuralcf.errors import NeuralCFError, StoppedError, UnknownItemError
from neuralcf.serving.ids import Id, OnUnknown
from neuralcf.serving.listing import Search
from neuralcf.serving.recommendations import Recommendations
from neuralcf.serving.recommender import Recommender

__all__ = ["RecommendRequest", "recommend_requests"]


@dataclass(frozen=True, slots=True)
class RecommendRequest:
    """The arguments of one `Recommender.recommend`, or with `histories` of one `recommend_for_history`."""

    users: Sequence[int] | Sequence[str] = ()
    histories: Sequence[Sequence[int]] | Sequence[Sequence[str]] | None = None
    """The items of users who are not in the model, in place of `users`."""
    weights: Sequence[Sequence[float]] | None = None
    """The weights of the histories' items, a list for each history."""
    k: int = 10
    exclude_seen: bool = True
    exclude: Sequence[Sequence[Id]] | None = None
    """Items that a user must not get, a list for each user or history."""
    allow: str | tuple[Id, ...] | None = None
    deny: str | tuple[Id, ...] | None = None
    min_score: float | None = None
    max_per_group: Mapping[str, int] | None = None
    after: Sequence[tuple[float, Id] | None] | None = None
    """The ends of pages, for each user or history."""
    on_unknown: OnUnknown = "raise"
    logits: bool = False
    search: Search = "exact"
    recall: float | None = None
    probes: int | None = None

    @property
    def group(self) -> object:
        """Requests of equal groups can share a call.

        They differ in what they say of each user, and in k by less than a factor 2, if the search is exact.
        """
        limits = None if self.max_per_group is None else tuple(sorted(self.max_per_group.items()))
        asked = self.exclude_seen, self.allow, self.deny, self.min_score, limits, self.on_unknown, self.logits
        of_users = self.histories, self.weights, self.exclude, self.after
        # How far an approximate search goes depends on k.
        k = self.k.bit_length() if self.search == "exact" else self.k
        effort = self.search, self.recall, self.probes
        return k, asked, effort, tuple(part is None for part in of_users)


def recommend_requests(
    recommender: Recommender, requests: Sequence[RecommendRequest]
) -> list[Recommendations | Exception]:
    """Answer requests, with one call of the engine for each group.

    Args:
        recommender: the model.
        requests: what is asked.

    Returns:
        For each request what `Recommender.recommend` returns for it, bit for bit, or the exception that it raises.

    Raises:
        StoppedError: the `StopToken` around this call stopped it.
        MemoryError: the results do not fit in memory.
    """
    if len(requests) == 1:
        return [_alone(recommender, requests[0])]
    groups: dict[object, list[int]] = {}
    for at, request in enumerate(requests):
        groups.setdefault(request.group, []).append(at)
    answers: list[Recommendations | Exception | None] = [None] * len(requests)
    for members in groups.values():
        if len(members) > 1:
            _answer_together(recommender, requests, members, answers)
    for at, answer in enumerate(answers):
        if answer is None:
            answers[at] = _alone(recommender, requests[at])
    return answers  # type: ignore[return-value]  # none is None any more


def _alone(recommender: Recommender, request: RecommendRequest) -> Recommendations | Exception:
    try:
        return _recommend(recommender, request)
    except StoppedError:
        raise
    except (NeuralCFError, TypeError) as error:
        return error.with_traceback(None)  # which holds this frame, its callers, and so the answer that it is in


def _answer_together(
    recommender: Recommender,
    requests: Sequence[RecommendRequest],
    members: Sequence[int],
    answers: list[Recommendations | Exception | None],
) -> None:
    """Answer the members of a group with one call; leave out those that a call refuses."""
    try:
        fine = [at for at in members if _fits(requests[at]) and _known(recommender, requests[at])]
        if not fine:
            return
        together = _recommend(recommender, _joined([requests[at] for at in fine]))
    except StoppedError:
        raise
    except (NeuralCFError, TypeError):
        return
    end = 0
    for at in fine:
        size, k = len(_asked(requests[at])), requests[at].k
        row, end = slice(end, end + size), end + size
        answers[at] = Recommendations(
            together.ids[row, :k],
            together.scores[row, :k],
            np.minimum(together.counts[row], k),
            together.known[row],
            together.generation,
            None if together.users is None else together.users[row],
        )


def _asked(request: RecommendRequest) -> Sequence[Any]:
    return request.users if request.histories is None else request.histories


def _joined(requests: Sequence[RecommendRequest]) -> RecommendRequest:
    """Return one request for the users of all, which belong to one group."""
    of_users: dict[str, Any] = {}
    for name in ("users", "histories", "weights", "exclude", "after"):
        parts = [getattr(request, name) for request in requests]
        of_users[name] = None if parts[0] is None else [one for part in parts for one in part]
    return replace(requests[0], k=max(request.k for request in requests), **of_users)


def _fits(request: RecommendRequest) -> bool:
    """Return whether what is said of each user is said of as many as are asked for."""
    users = len(_asked(request))
    of_users = (request.weights, request.exclude, request.after)
    if any(part is not None and len(part) != users for part in of_users):
        return False
    if request.weights is None or request.histories is None:
        return request.weights is None
    return list(map(len, request.weights)) == list(map(len, request.histories))


def _known(recommender: Recommender, request: RecommendRequest) -> bool:
    """Return whether a call does not refuse the request's ids."""
    if request.on_unknown != "raise":
        return True
    if request.histories is None:
        known = bool((recommender.user_ids.find(request.users) >= 0).all())
    else:
        known = _items_known(recommender, request.histories)
    return known and (request.exclude is None or _items_known(recommender, request.exclude))


def _items_known(recommender: Recommender, rows: Sequence[Sequence[Id]]) -> bool:
    items: list[Any] = [item for row in rows for item in row]
    return bool((recommender.item_ids.find(items) >= 0).all())


def _recommend(recommender: Recommender, request: RecommendRequest) -> Recommendations:
    options: dict[str, Any] = {
        "exclude_seen": request.exclude_seen,
        "exclude": request.exclude if _asked(request) else None,  # an empty list would be that of one user
        "allow": request.allow,
        "deny": request.deny,
        "min_score": request.min_score,
        "max_per_group": request.max_per_group,
        "after": request.after,
        "on_unknown": request.on_unknown,
        "logits": request.logits,
        "search": request.search,
        "recall": request.recall,
        "probes": request.probes,
    }
    if request.histories is None:
        return recommender.recommend(request.users, request.k, **options)
    try:
        return recommender.recommend_for_history(request.histories, request.k, weights=request.weights, **options)
    except UnknownItemError as error:
        raise UnknownItemError(re.sub("^items:", "histories:", str(error)), error.ids) from None  # type: ignore[arg-type]

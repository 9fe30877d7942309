"""Requests to a `Recommender`: each with its own users, k and filters, answered together where that is possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neuralcf.errors import NeuralCFError, StoppedError
from neuralcf.serving.ids import Id, OnUnknown
from neuralcf.serving.recommendations import Recommendations
from neuralcf.serving.recommender import Recommender

__all__ = ["RecommendRequest", "recommend_requests"]


@dataclass(frozen=True, slots=True)
class RecommendRequest:
    """The arguments of one `Recommender.recommend`, or with `histories` of one `recommend_for_history`."""

    users: Sequence[int] | Sequence[str] = ()
    histories: Sequence[Sequence[int]] | Sequence[Sequence[str]] | None = None
    """The items of users who are not in the model, in place of `users`."""
    k: int = 10
    exclude_seen: bool = True
    allow: str | tuple[Id, ...] | None = None
    deny: str | tuple[Id, ...] | None = None
    min_score: float | None = None
    on_unknown: OnUnknown = "raise"
    logits: bool = False

    @property
    def group(self) -> object:
        """Requests of equal groups can share a call: only their users and k differ, and k by less than a factor 2."""
        asked = self.exclude_seen, self.allow, self.deny, self.min_score, self.on_unknown, self.logits
        return self.histories is None, self.k.bit_length(), asked


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
        return _recommend(recommender, request, _asked(request), request.k)
    except StoppedError:
        raise
    except (NeuralCFError, TypeError) as error:
        return error


def _answer_together(
    recommender: Recommender,
    requests: Sequence[RecommendRequest],
    members: Sequence[int],
    answers: list[Recommendations | Exception | None],
) -> None:
    """Answer the members of a group with one call; leave out those that a call refuses."""
    try:
        fine = [at for at in members if _known(recommender, requests[at])]
        asked = [_asked(requests[at]) for at in fine]
        k = max((requests[at].k for at in fine), default=1)
        joined = [one for part in asked for one in part]
        together = _recommend(recommender, requests[members[0]], joined, k)
    except StoppedError:
        raise
    except (NeuralCFError, TypeError):
        return
    end = 0
    for at, part in zip(fine, asked, strict=True):
        row, end = slice(end, end + len(part)), end + len(part)
        k = requests[at].k
        answers[at] = replace(
            together,
            ids=together.ids[row, :k],
            scores=together.scores[row, :k],
            counts=np.minimum(together.counts[row], k),
            known=together.known[row],
            users=None if together.users is None else together.users[row],
        )


def _asked(request: RecommendRequest) -> Sequence[Any]:
    return request.users if request.histories is None else request.histories


def _known(recommender: Recommender, request: RecommendRequest) -> bool:
    """Return whether a call does not refuse the request's ids."""
    if request.on_unknown != "raise":
        return True
    if request.histories is None:
        return bool((recommender.user_ids.find(request.users) >= 0).all())
    items: list[Any] = [item for history in request.histories for item in history]
    return bool((recommender.item_ids.find(items) >= 0).all())


def _recommend(recommender: Recommender, request: RecommendRequest, users_or_histories: Any, k: int) -> Recommendations:
    ask = recommender.recommend if request.histories is None else recommender.recommend_for_history
    return ask(
        users_or_histories,
        k,
        exclude_seen=request.exclude_seen,
        allow=request.allow,  # type: ignore[arg-type]
        deny=request.deny,  # type: ignore[arg-type]
        min_score=request.min_score,
        on_unknown=request.on_unknown,
        logits=request.logits,
    )

"""The model being served, with a golden query: what tells that it answers as it did when it was loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import thread_time
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from neuralcf._core import Scorer
from neuralcf.errors import ArgumentError, ModelFormatError
from neuralcf.serving.recommender import Recommender

__all__ = ["Cost", "Prepare", "ServedModel", "Side", "Titles", "model_id"]

Titles: TypeAlias = Mapping[int | str, str] | None
"""Titles of items by id, if there are any."""
Prepare: TypeAlias = Callable[[Recommender], Titles]
"""Sets what a model that was just loaded needs, such as named sets; returns the titles of its items."""

Side: TypeAlias = Literal["items", "users"]

_SHARED: Final = 16


class Cost(NamedTuple):
    """What calls of the engine take."""

    shares_calls: bool
    """Whether users cost less in one call than in a call each: less than three quarters of the CPU time."""
    seconds_per_user: float
    """CPU time of a call for one user."""


class ServedModel:
    """A recommender, whose model may be exchanged, and what the service knows of the present one."""

    def __init__(self, recommender: Recommender, prepare: Prepare) -> None:
        """Check a model.

        Args:
            recommender: the model.
            prepare: called with it, and with each new model before it is exchanged.

        Raises:
            ModelFormatError: its best items do not have the scores of these items.
            Exception: what `prepare` raises.
        """
        self.recommender = recommender
        self.version = 1
        """1, and 1 more for each model loaded."""
        self.titles = prepare(recommender)
        self.features = _features(recommender)
        self.cost = _cost(recommender)
        self._versions = {model_id(recommender): 1}
        self._prepare = prepare
        self._golden = _golden(recommender)

    def snapshot(self) -> Recommender:
        """Return the present generation of the recommender."""
        return self.recommender.snapshot()

    def compute_similar(self, side: Side) -> None:
        """Compute what similar items or users are found by; new models then have it when they come."""
        recommender = self.snapshot()
        if side == "items":
            recommender.similar_items(recommender.item_ids.take([0]), 1, on_unknown="skip")
        else:
            recommender.similar_users(recommender.user_ids.take([0]), 1)

    def version_of(self, recommender: Recommender) -> int:
        """Return the version of a snapshot's model."""
        return self._versions.get(model_id(recommender), self.version)

    def is_sound(self) -> bool:
        """Return whether the golden query still has the same answer, bit for bit."""
        before = self._golden
        try:
            self._golden = now = _golden(self.snapshot())
        except ModelFormatError:
            return False
        return now == before or now.scorer is not before.scorer  # another model, which was checked when it came

    def reload(self) -> bool:
        """Exchange the model for the one that its directory holds now; answers carry titles of both meanwhile.

        Returns:
            Whether it is another model.

        Raises:
            ModelFormatError: the new model contradicts itself, or lacks what the old one has.
            Exception: as for `Recommender.reload`; what `prepare` raises.
        """
        new_titles: Titles = None
        golden, cost = self._golden, self.cost

        def check(new: Recommender) -> None:
            nonlocal new_titles, golden, cost
            golden = _golden(new)
            lacking = [name for name, has in _features(new).items() if self.features[name] and not has]
            if lacking:
                raise ModelFormatError(f"expected stored interactions, as in the model being served, for {lacking[0]}")
            cost = _cost(new)
            self._versions = {model_id(self.recommender): self.version, model_id(new): self.version + 1}
            new_titles = self._prepare(new)
            if new_titles is not self.titles and new_titles is not None:
                self.titles = {**(self.titles or {}), **new_titles}

        old_titles = self.titles
        try:
            changed = self.recommender.reload(prepare=check)
        except BaseException:
            self.titles = old_titles
            raise
        if changed:
            self.titles, self._golden, self.cost = new_titles, golden, cost
            self.version += 1
        return changed


class _Golden(NamedTuple):
    scorer: Scorer
    items: list[Any]
    scores: bytes


def _golden(recommender: Recommender) -> _Golden:
    """Return the best ten items of the first user.

    Raises:
        ModelFormatError: they do not have the scores of these items.
    """
    user = recommender.user_ids.take([0])
    best = recommender.recommend(user, 10, exclude_seen=False, logits=True)
    count = int(best.counts[0])
    items, scores = best.ids[0, :count].tolist(), best.scores[0, :count].tobytes()
    if recommender.score_batch(user[0], items, logits=True).tobytes() != scores:
        raise ModelFormatError("the golden query failed: score_batch and recommend disagree")
    return _Golden(recommender.scorer, items, scores)


def model_id(recommender: Recommender) -> str:
    """Return the id of a recommender's model."""
    return str(recommender.scorer.metadata.get("model_id", ""))


def _cost(recommender: Recommender) -> Cost:
    """Measure what calls of a model take."""
    users = recommender.user_ids.take(range(min(_SHARED, recommender.num_users)))
    together, alone = float("inf"), float("inf")
    for _ in range(3):
        start = thread_time()
        recommender.recommend(users, 10, exclude_seen=False, threads=1)
        middle = thread_time()
        for user in users:
            recommender.recommend([user], 10, exclude_seen=False, threads=1)
        together, alone = min(together, middle - start), min(alone, thread_time() - middle)
    return Cost(len(users) > 1 and together < 0.75 * alone, alone / len(users))


def _features(recommender: Recommender) -> dict[str, bool]:
    """Return whether the model can exclude what users have seen, and tell what is popular."""
    features = {"exclude_seen": recommender.scorer.nbytes["seen"] > 0, "popular": True}
    try:
        recommender.recommend([], 1, exclude_seen=False, on_unknown="popular")
    except ArgumentError:
        features["popular"] = False
    return features

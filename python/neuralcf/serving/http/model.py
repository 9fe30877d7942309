"""The model being served, with a golden query: what tells that it answers as it did when it was loaded."""

from __future__ import annotations

from dataclasses import dataclass
from time import thread_time
from typing import Any, Final

from neuralcf.errors import ModelFormatError
from neuralcf.serving.recommender import Recommender

__all__ = ["ServedModel", "sharing_pays"]

_SHARED: Final = 16


@dataclass(frozen=True)
class ServedModel:
    """One generation of the model."""

    recommender: Recommender
    generation: int
    """1, and 1 more for each model loaded."""
    golden: tuple[Any, bytes]
    """The ids and scores of the golden query."""
    shares_calls: bool
    """Whether requests that wait share a call of the engine."""

    @classmethod
    def of(cls, recommender: Recommender, generation: int) -> ServedModel:
        """Check a model that was just loaded.

        Raises:
            ModelFormatError: its best items do not have the scores of these items.
        """
        golden = _golden(recommender)
        user = recommender.user_ids.take([0])
        items = golden[0]
        scores = recommender.score_batch(user[0], items, logits=True)
        if scores.tobytes() != golden[1]:
            raise ModelFormatError("the golden query failed: score_batch and recommend disagree")
        return cls(recommender, generation, golden, sharing_pays(recommender))

    @property
    def id(self) -> str:
        """The model's id."""
        return str(self.recommender.scorer.metadata.get("model_id", ""))

    def is_sound(self) -> bool:
        """Return whether the golden query still has the same answer, bit for bit."""
        return _golden(self.recommender) == self.golden


def _golden(recommender: Recommender) -> tuple[Any, bytes]:
    """Return the best ten items of the first user."""
    user = recommender.user_ids.take([0])
    best = recommender.recommend(user, 10, exclude_seen=False, logits=True)
    count = int(best.counts[0])
    return best.ids[0, :count].tolist(), best.scores[0, :count].tobytes()


def sharing_pays(recommender: Recommender) -> bool:
    """Measure whether users cost less in one call than in a call each: less than three quarters of the CPU time."""
    users = recommender.user_ids.take(range(min(_SHARED, recommender.num_users)))
    together, alone = float("inf"), float("inf")
    for _ in range(3):
        start = thread_time()
        recommender.recommend(users, 10, exclude_seen=False, threads=1)
        middle = thread_time()
        for user in users:
            recommender.recommend([user], 10, exclude_seen=False, threads=1)
        together, alone = min(together, middle - start), min(alone, thread_time() - middle)
    return len(users) > 1 and together < 0.75 * alone

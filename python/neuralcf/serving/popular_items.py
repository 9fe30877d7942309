"""Which items most users have, for users of whom nothing is known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import Scorer
from neuralcf.results import ItemVectors

__all__ = ["PopularItems"]

_USERS_COUNTED_TOGETHER = 1 << 16


@dataclass(frozen=True)
class PopularItems:
    """The popularity of a generation's items."""

    scorer: Scorer
    """A GMF with a single user, for whom an item's probability is its share `p` of the `U` users who were stored with
    the model: p = (n + 1/2) / (U + 1) for `n` of them. So filters, ties and scores are those of any model."""
    logits: NDArray[np.float32]
    """float32 `[I, 1]`: log((n + 1/2) / (U - n + 1/2)), for the items that the model had when it was loaded."""
    users: int
    """`U`."""

    @classmethod
    def of(cls, scorer: Scorer) -> "PopularItems":
        """Count how many users have each item of a model."""
        users, counts = scorer.num_users, np.zeros(scorer.num_items, np.int64)
        for start in range(0, users, _USERS_COUNTED_TOGETHER):
            _, items = scorer.seen_items(range(start, min(users, start + _USERS_COUNTED_TOGETHER)))
            counts += np.bincount(items, minlength=scorer.num_items)
        logits = _logits(counts, users)
        tensors = {
            "gmf.user_embedding.weight": np.ones((1, 1), np.float32),
            "gmf.item_embedding.weight": logits,
            "output.weight": np.ones((1, 1), np.float32),
            "output.bias": np.zeros(1, np.float32),
        }
        return cls(Scorer.from_tensors(tensors, threads=scorer.threads, isa=scorer.isa), logits, users)

    def with_items(self, items: NDArray[np.int64]) -> "PopularItems":
        """Return the popularity with new items, which nobody has, and with removed ones that are back."""
        scorer, back = self.scorer, items[items < self.scorer.num_items]
        if back.size:
            logits = np.tile(_logits(np.zeros(1, np.int64), self.users), (back.size, 1))
            known = back < len(self.logits)
            logits[known] = self.logits[back[known]]
            scorer = scorer.with_items(back, ItemVectors(logits))
        if back.size < items.size:
            nobody = np.zeros(items.size - back.size, np.int64)
            scorer = scorer.with_new_items(ItemVectors(_logits(nobody, self.users)))
        return PopularItems(scorer, self.logits, self.users)

    def without_items(self, items: NDArray[np.int64]) -> "PopularItems":
        """Return the popularity without these items."""
        return PopularItems(self.scorer.without_items(items), self.logits, self.users)


def _logits(counts: NDArray[np.int64], users: int) -> NDArray[np.float32]:
    return np.asarray(np.log((counts + 0.5) / (users - counts + 0.5)), np.float32)[:, None]

"""Generations: what a `Recommender` answers from. A change makes a new one; a call uses one from beginning to end."""

from dataclasses import dataclass, replace

import numpy as np

from neuralcf._core import Ids, ItemSets, Scorer

__all__ = ["Generation"]

_USERS_COUNTED_TOGETHER = 1 << 16


@dataclass(frozen=True)
class Generation:
    """A model, its ids, and what was set at run time. Immutable, so that a reader sees all of a change or nothing."""

    number: int
    scorer: Scorer
    user_ids: Ids
    item_ids: Ids
    sets: ItemSets
    popularity: Scorer | None
    """A GMF with a single user, whose logits are those of the share of users who have an item; None without stored
    interactions."""

    @classmethod
    def first(cls, scorer: Scorer, user_ids: Ids, item_ids: Ids, *, popular: bool) -> "Generation":
        """Make the first generation of a model."""
        popularity = popularity_model(scorer) if popular and scorer.nbytes["seen"] > 0 else None
        return cls(1, scorer, user_ids, item_ids, ItemSets(scorer.num_items), popularity)

    def with_sets(self, sets: ItemSets) -> "Generation":
        """Return the next generation, with these named sets."""
        return replace(self, number=self.number + 1, sets=sets)


def popularity_model(scorer: Scorer) -> Scorer:
    """Make a GMF with a single user, for whom an item's probability is its share `p` of the users.

    p = (n + 1/2) / (U + 1), for n of the U users; its logit is log((n + 1/2) / (U - n + 1/2)). So filters, ties and
    scores are those of any model.
    """
    users, counts = scorer.num_users, np.zeros(scorer.num_items, np.int64)
    for start in range(0, users, _USERS_COUNTED_TOGETHER):
        _, items = scorer.seen_items(range(start, min(users, start + _USERS_COUNTED_TOGETHER)))
        counts += np.bincount(items, minlength=scorer.num_items)
    logits = np.log((counts + 0.5) / (users - counts + 0.5))
    tensors = {
        "gmf.user_embedding.weight": np.ones((1, 1), np.float32),
        "gmf.item_embedding.weight": logits.astype(np.float32)[:, None],
        "output.weight": np.ones((1, 1), np.float32),
        "output.bias": np.zeros(1, np.float32),
    }
    return Scorer.from_tensors(tensors, threads=scorer.threads, isa=scorer.isa)

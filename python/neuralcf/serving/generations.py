"""Generations: what a `Recommender` answers from. A change makes a new one; a call uses one from beginning to end."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import Groups, Ids, ItemSet, ItemSets, Scorer
from neuralcf.serving.similarity import Similarity

__all__ = ["Generation", "NamedGroups", "popularity_model"]

_USERS_COUNTED_TOGETHER = 1 << 16


@dataclass(frozen=True)
class NamedGroups:
    """A group for each item, such as its brand."""

    numbers: NDArray[np.int64]
    """int64 `[I]`: the number of each item's group, -1 for none."""
    groups: Groups

    @classmethod
    def of(cls, numbers: NDArray[np.int64]) -> "NamedGroups":
        """Make them of the numbers."""
        return cls(numbers, Groups(numbers))


@dataclass(frozen=True)
class Generation:
    """A model, its ids, and what was set at run time. Immutable, so that a reader sees all of a change or nothing."""

    number: int
    scorer: Scorer
    user_ids: Ids
    item_ids: Ids
    sets: ItemSets
    groups: Mapping[str, NamedGroups]
    popularity: Scorer | None
    """A GMF with a single user, whose logits are those of the share of users who have an item; None without stored
    interactions."""
    similarity: Similarity

    @classmethod
    def first(cls, scorer: Scorer, user_ids: Ids, item_ids: Ids, *, popular: bool) -> "Generation":
        """Make the first generation of a model."""
        popularity = popularity_model(scorer) if popular and scorer.nbytes["seen"] > 0 else None
        sets, groups = ItemSets(scorer.num_items), MappingProxyType[str, NamedGroups]({})
        return cls(1, scorer, user_ids, item_ids, sets, groups, popularity, Similarity(scorer))

    def next(self, **changes: Any) -> "Generation":
        """Return the next generation, with these changes."""
        return replace(self, number=self.number + 1, **changes)

    def after(self, before: "Generation") -> "Generation":
        """Return this generation as the one that follows `before`, with its named sets and groups beside its own.

        They are carried over by id. An item that only this generation has is in none of them.
        """
        old_index = before.item_ids.find(self.item_ids.take(np.arange(len(self.item_ids))))
        kept = old_index >= 0
        sets = self.sets
        for name in set(before.sets.names).difference(self.sets.names):
            members = np.zeros(len(before.item_ids), np.bool_)
            if (found := before.sets.get(name)) is not None:
                members[found.indices()] = True
            sets = sets.with_set(name, ItemSet(len(self.item_ids), kept & members[old_index]))
        carried = {
            name: NamedGroups.of(np.where(kept, named.numbers[old_index], -1))
            for name, named in before.groups.items()
            if name not in self.groups
        }
        groups = {**carried, **self.groups}
        return replace(self, number=before.number + 1, sets=sets, groups=MappingProxyType(groups))


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

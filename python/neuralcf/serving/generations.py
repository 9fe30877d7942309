"""Generations: what a `Recommender` answers from. A change makes a new one; a call uses one from beginning to end."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import Groups, Ids, ItemSet, ItemSets, Scorer
from neuralcf.attributes import FeatureMap
from neuralcf.results import ItemVectors
from neuralcf.serving.popular_items import PopularItems
from neuralcf.serving.similarity import Similarity

__all__ = ["Generation"]

_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Generation:
    """A model, its ids, and what was set at run time. Immutable, so that a reader sees all of a change or nothing."""

    number: int
    loaded: Scorer
    """The model as it was loaded."""
    scorer: Scorer
    """The same model with the items that have been changed, added and removed since."""
    user_ids: Ids
    item_ids: Ids
    item_features: FeatureMap | None
    """What gives vectors to items by their attributes alone, if the model has it."""
    sets: ItemSets
    groups: Mapping[str, Groups]
    popularity: PopularItems | None
    """None without stored interactions."""
    similarity: Similarity

    @classmethod
    def first(
        cls, scorer: Scorer, user_ids: Ids, item_ids: Ids, item_features: FeatureMap | None, *, popular: bool
    ) -> "Generation":
        """Make the first generation of a model."""
        popularity = PopularItems.of(scorer) if popular and scorer.nbytes["seen"] > 0 else None
        sets, groups = ItemSets(scorer.num_items), MappingProxyType[str, Groups]({})
        similarity = Similarity(scorer)
        return cls(1, scorer, scorer, user_ids, item_ids, item_features, sets, groups, popularity, similarity)

    def next(self, **changes: Any) -> "Generation":
        """Return the next generation, with these changes."""
        return replace(self, number=self.number + 1, **changes)

    def with_items(self, items: NDArray[np.int64], vectors: ItemVectors) -> "Generation":
        """Return the next generation, in which these items have other vectors."""
        scorer = self.scorer.with_items(items, vectors)
        return self.next(scorer=scorer, similarity=self.similarity.after(scorer, items, _NONE))

    def with_new_items(self, ids: Any, vectors: ItemVectors) -> "Generation":
        """Return the next generation, with more items, in no named set and no group.

        An item that has been removed is the one that it was, so that the users who had it still have it.
        """
        item_ids, items = self.item_ids.with_ids(ids)
        scorer = _with_items(self.scorer, items, vectors)
        return self.next(
            scorer=scorer,
            item_ids=item_ids,
            **self._named_for(scorer.num_items, _NONE),
            popularity=None if self.popularity is None else self.popularity.with_items(items),
            similarity=self.similarity.after(scorer, items, _NONE),
        )

    def without_items(self, items: NDArray[np.int64]) -> "Generation":
        """Return the next generation, without these items."""
        scorer = self.scorer.without_items(items)
        return self.next(
            scorer=scorer,
            item_ids=self.item_ids.without(items),
            **self._named_for(scorer.num_items, items),
            popularity=None if self.popularity is None else self.popularity.without_items(items),
            similarity=self.similarity.after(scorer, items, items),
        )

    def _named_for(self, num_items: int, removed: NDArray[np.int64]) -> dict[str, Any]:
        groups = {name: of_name.for_catalogue(num_items, removed) for name, of_name in self.groups.items()}
        return {"sets": self.sets.for_catalogue(num_items, removed), "groups": MappingProxyType(groups)}

    def after(self, before: "Generation") -> "Generation":
        """Return this generation, of another model, as the one that follows `before`.

        It has the named sets and groups of that one beside its own.

        They are carried over by id. An item that only this generation has is in none of them.
        """
        old_index = before.item_ids.find(self.item_ids.take(self.item_ids.indices()))
        kept = old_index >= 0
        sets = self.sets
        for name in set(before.sets.names).difference(self.sets.names):
            members = np.zeros(before.scorer.num_items, np.bool_)
            if (found := before.sets.get(name)) is not None:
                members[found.indices()] = True
            sets = sets.with_set(name, ItemSet(self.scorer.num_items, kept & members[old_index]))
        carried = {
            name: Groups(np.where(kept, named.numbers()[old_index], -1))
            for name, named in before.groups.items()
            if name not in self.groups
        }
        groups = {**carried, **self.groups}
        return replace(self, number=before.number + 1, sets=sets, groups=MappingProxyType(groups))


def _with_items(scorer: Scorer, items: NDArray[np.int64], vectors: ItemVectors) -> Scorer:
    """Return a scorer with these items, some of which have been removed before; the others follow the last one."""
    back = items < scorer.num_items
    if not back.any():
        return scorer.with_new_items(vectors)
    parts = [None if part is None else np.asarray(part) for part in vectors]
    scorer = scorer.with_items(items[back], ItemVectors(*(None if part is None else part[back] for part in parts)))
    if back.all():
        return scorer
    return scorer.with_new_items(ItemVectors(*(None if part is None else part[~back] for part in parts)))

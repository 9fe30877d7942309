"""`Recommendations`: what a `Recommender` returns."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralcf.serving.ids import Id, IdArray

__all__ = ["Recommendations"]


@dataclass(frozen=True, eq=False)
class Recommendations:
    """The best `k` items of each of `B` users; for a single user the arrays have one dimension less.

    Unpacks as `ids, scores = recommendations`.
    """

    ids: IdArray
    """`[B, k]`: item ids, best first; int64 padded with -1, or an object array of str padded with None."""
    scores: NDArray[np.float32]
    """float32 `[B, k]`: probabilities or logits; padded with negative infinity."""
    counts: NDArray[np.int64]
    """int64 `[B]`: number of items in each row; the rest is padding."""
    known: NDArray[np.bool_]
    """bool `[B]`: whether the user is in the model, or the history has an item of it. An unknown user's row is empty,
    or with `on_unknown="popular"` the list of popular items."""
    generation: int
    """The generation that answered; it grows with every change of the recommender."""

    def __iter__(self) -> Iterator[Any]:
        """Yield `ids` and `scores`."""
        yield self.ids
        yield self.scores

    def to_list(self) -> list[Any]:
        """Return the items and scores without padding: a list of pairs `(id, score)` for each user."""
        rows = [self] if self.ids.ndim == 1 else [self[row] for row in range(len(self.ids))]
        lists: list[list[tuple[Id, float]]] = [
            list(zip(row.ids[: row.counts].tolist(), row.scores[: row.counts].tolist(), strict=True)) for row in rows
        ]
        return lists[0] if self.ids.ndim == 1 else lists

    def __len__(self) -> int:
        """Return the number of users, `B`."""
        if self.ids.ndim == 1:
            raise TypeError("the recommendations of a single user have no length; see counts")
        return len(self.ids)

    def __getitem__(self, row: int) -> "Recommendations":
        """Return the recommendations of one of the users."""
        if self.ids.ndim == 1:
            raise TypeError("the recommendations of a single user have no rows")
        return Recommendations(self.ids[row], self.scores[row], self.counts[row], self.known[row], self.generation)

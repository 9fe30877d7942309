"""`Recommendations`: what a `Recommender` returns."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralcf.serving.arrow import stream_capsule
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
    users: IdArray | None = None
    """`[B]`: the ids of the users, known or not; None for lists by history."""

    @property
    def end(self) -> Any:
        """The last item of each row as `(score, id)`, to ask for the next page with `after=`; None for an empty row."""
        if self.ids.ndim == 1:
            n = int(self.counts)
            return (float(self.scores[n - 1]), self.ids[n - 1 : n].tolist()[0]) if n else None
        return [self[row].end for row in range(len(self.ids))]

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

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the lists as columns, a row for each recommended item, without padding.

        `user`, their ids (for lists by history `history`, the number of each from 0); `rank`, from 1; `item`; `score`.
        """
        ids, scores, counts = np.atleast_2d(self.ids), np.atleast_2d(self.scores), np.atleast_1d(self.counts)
        rows = np.repeat(np.arange(len(counts)), counts)
        real = np.arange(ids.shape[1]) < counts[:, None]
        of_user: dict[str, NDArray[Any]]
        if self.users is None:
            of_user = {"history": rows}
        elif isinstance(self.users, np.ndarray):
            of_user = {"user": self.users[rows]}
        else:
            one = np.array([self.users], object if isinstance(self.users, str) else np.int64)
            of_user = {"user": one[rows]}
        return {**of_user, "rank": np.nonzero(real)[1] + 1, "item": ids[real], "score": scores[real]}

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        """Return `columns` as a stream of Arrow's PyCapsule protocol, which pyarrow, polars, DuckDB and others read."""
        return stream_capsule(list(self.columns().items()))

    def to_arrow(self) -> Any:
        """Return `columns` as a `pyarrow.Table`; needs pyarrow."""
        return import_module("pyarrow").table(self)

    def to_pandas(self) -> Any:
        """Return `columns` as a `pandas.DataFrame`; needs pandas."""
        return import_module("pandas").DataFrame(self.columns())

    def to_polars(self) -> Any:
        """Return `columns` as a `polars.DataFrame`; needs polars."""
        return import_module("polars").DataFrame(self)

    def __len__(self) -> int:
        """Return the number of users, `B`."""
        if self.ids.ndim == 1:
            raise TypeError("the recommendations of a single user have no length; see counts")
        return len(self.ids)

    def __getitem__(self, row: int) -> "Recommendations":
        """Return the recommendations of one of the users."""
        if self.ids.ndim == 1:
            raise TypeError("the recommendations of a single user have no rows")
        users: Any = None if self.users is None else self.users[row]
        parts = (self.ids[row], self.scores[row], self.counts[row], self.known[row])
        return Recommendations(*parts, self.generation, users)

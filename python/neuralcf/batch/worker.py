"""What a worker of Spark or Ray does: it opens the driver's model once, and answers columns of Arrow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import open_model
from neuralcf.serving.ids import ManyIds
from neuralcf.serving.listing import Search
from neuralcf.serving.recommendations import Recommendations
from neuralcf.serving.recommender import Recommender

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Opening", "list_columns", "scores_of", "users_and_lists"]


@dataclass(frozen=True)
class Opening:
    """What a worker needs to open the model of the driver, and no other."""

    path: str
    digest: str
    threads: int
    sets: Mapping[str, ManyIds] = field(default_factory=dict)
    index_digest: str | None = None
    """That of the driver's index; None for exact searches, which need none."""

    @classmethod
    def of(
        cls, recommender: Recommender, threads: int, sets: Mapping[str, ManyIds], search: Search = "exact"
    ) -> Opening:
        """Describe the model that the driver has opened, and the sets of items that filters name."""
        _, (path, digest, _, _, index_digest) = recommender.scorer.__reduce__()
        return cls(path, digest, threads, sets, None if search == "exact" else index_digest)

    def place(self) -> str:
        """Return where the model lies on this worker."""
        return self.path

    def name_sets(self, recommender: Recommender) -> None:
        """Give the recommender the named sets."""
        for name, items in self.sets.items():
            recommender.set_items(name, items)

    def open(self) -> Recommender:
        """Open the model, or return the one that an earlier task on this worker has opened.

        Raises:
            ModelFormatError, OSError: the model cannot be opened, or is another than the driver's.
        """
        key = type(self), self.path, self.digest, self.index_digest, self.threads, repr(sorted(self.sets.items()))
        if key not in _OPENED:
            scorer, user_ids, item_ids = open_model(
                self.place(), digest=self.digest, threads=self.threads, index_digest=self.index_digest
            )
            assert user_ids is not None
            assert item_ids is not None
            recommender = Recommender(scorer, user_ids, item_ids)
            self.name_sets(recommender)
            _OPENED.clear()  # a worker serves one model at a time
            _OPENED[key] = recommender
        return _OPENED[key]


_OPENED: dict[tuple[Any, ...], Recommender] = {}


def users_and_lists(users: pa.Array, lists: pa.Array | None) -> tuple[NDArray[np.bool_], Any, list[Any] | None]:
    """Return which users are not null, their ids, and their lists of ids, where null means none."""
    present = ~_nulls(users)
    if lists is None:
        return present, _ids(users, present), None
    rows = lists.to_pylist()
    return present, _ids(users, present), [rows[at] or [] for at in np.flatnonzero(present)]


def list_columns(found: Recommendations, present: NDArray[np.bool_]) -> dict[str, pa.Array]:
    """Return lists as columns `items`, `scores` and `known`, with empty ones where `present` is false."""
    import pyarrow as pa

    strings = found.ids.dtype == object
    counts = np.zeros(len(present), np.int64)
    counts[present] = found.counts
    known = np.zeros(len(present), bool)
    known[present] = found.known
    real = np.arange(found.ids.shape[1]) < found.counts[:, None]
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    items = pa.array(found.ids[real].tolist() if strings else found.ids[real], pa.string() if strings else pa.int64())
    return {
        "items": pa.ListArray.from_arrays(offsets, items),
        "scores": pa.ListArray.from_arrays(offsets, pa.array(found.scores[real])),
        "known": pa.array(known),
    }


def scores_of(recommender: Recommender, users: pa.Array, items: pa.Array, *, logits: bool, threads: int) -> pa.Array:
    """Return the score of each pair, null where an id is null or not in the model."""
    import pyarrow as pa

    present = ~(_nulls(users) | _nulls(items))
    pairs = [
        ids.find(_ids(column, present))
        for ids, column in ((recommender.user_ids, users), (recommender.item_ids, items))
    ]
    known = (pairs[0] >= 0) & (pairs[1] >= 0)
    places = np.flatnonzero(present)[known]
    scores = np.zeros(len(users), np.float32)
    scores[places] = recommender.scorer.score_batch(pairs[0][known], pairs[1][known], logits=logits, threads=threads)
    missing = np.ones(len(users), bool)
    missing[places] = False
    return pa.array(scores, mask=missing)


def _nulls(column: pa.Array) -> Any:
    return column.is_null().to_numpy(zero_copy_only=False)


def _ids(column: pa.Array, present: NDArray[np.bool_]) -> Any:
    """Return the ids that are not null: int64, or a list of str."""
    import pyarrow as pa

    kept = column.drop_null() if present.all() else column.filter(pa.array(present))
    return kept.to_pylist() if pa.types.is_string(kept.type) or pa.types.is_large_string(kept.type) else kept.to_numpy()

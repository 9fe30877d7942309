"""Results of queries, as named tuples of NumPy arrays."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["IndexLevel", "IndexRecall", "IndexSummary", "ItemVectors", "TopK", "UserVectors"]


class TopK(NamedTuple):
    """The best `k` items of each of `B` users; for a single user the arrays have one dimension less."""

    ids: NDArray[np.int64]
    """int64 `[B, k]`: item indices, best first; padded with -1 if fewer than `k` items are left."""
    scores: NDArray[np.float32]
    """float32 `[B, k]`: probabilities or logits; negative infinity where the id is -1."""


class UserVectors(NamedTuple):
    """The embeddings of `B` users, to pass to a query in place of user indices."""

    gmf: NDArray[np.float32] | None
    """float32 `[B, G]`; None if the model has no GMF part."""
    mlp: NDArray[np.float32] | None
    """float32 `[B, Mu]`; None if the model has no MLP part."""


class ItemVectors(NamedTuple):
    """The embeddings of `n` items that are new or changed."""

    gmf: NDArray[np.float32] | None = None
    """float32 `[n, G]`; None if the model has no GMF part."""
    mlp: NDArray[np.float32] | None = None
    """float32 `[n, Mi]`; None if the model has no MLP part."""


class IndexLevel(NamedTuple):
    """A recall of an approximate search, as an index was calibrated for it."""

    k: int
    """The number of items asked for."""
    recall: float
    """The recall asked for: the share of the exact `k` best items that is found, in the mean over users."""
    measured: float
    """The recall measured on the users of the calibration, who have no part in the clustering."""
    lists: float
    """The lists that a search visits, in the mean."""
    items: float
    """The items in these lists."""


class IndexRecall(NamedTuple):
    """The recall of approximate searches as it is now, measured beside the exact search."""

    k: int
    """The number of items asked for."""
    recall: float
    """The recall asked for."""
    measured: float
    """The share of the exact lists that is found, in the mean over users."""
    error: float
    """The standard error of `measured`."""
    users: int
    """The number of users."""
    calibrated: float
    """What was measured when the index was built, for the nearest `k` and the next higher recall of its levels."""
    unlisted: int
    """The items that each search scores beside those in its lists: all that are new or have changed since."""
    advice: str | None
    """Why the index should be built again; None if it need not."""


class IndexSummary(NamedTuple):
    """What an index consists of."""

    lists: int
    """The number of lists."""
    nbytes: int
    """Memory in bytes."""
    levels: list[IndexLevel]
    """What was calibrated, by `k`, then by recall."""

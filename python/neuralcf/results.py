"""Results of queries, as named tuples of NumPy arrays."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ItemVectors", "TopK", "UserVectors"]


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

"""What queries return, as named tuples of NumPy arrays."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["TopK", "UserVectors"]


class TopK(NamedTuple):
    """The best items: `B` users and `k` items each, or one dimension less for a single user."""

    ids: NDArray[np.int64]
    """int64 `[B, k]`: item indices, best first; -1 where fewer than `k` items were left."""
    scores: NDArray[np.float32]
    """float32 `[B, k]`: probabilities (or logits); negative infinity where the id is -1."""


class UserVectors(NamedTuple):
    """The embeddings of `B` users; take the place of user indices in a query."""

    gmf: NDArray[np.float32] | None
    """float32 `[B, G]`; None in a model without a GMF part."""
    mlp: NDArray[np.float32] | None
    """float32 `[B, Mu]`; None in a model without an MLP."""

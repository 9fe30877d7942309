"""`Explanation`: why an item has its score for a user."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import Scorer
from neuralcf.serving.ids import Id

__all__ = ["Explanation", "leave_one_out"]

_ITEMS_TOGETHER = 1 << 18


@dataclass(frozen=True, eq=False)
class Explanation:
    """What the logit of a pair is the sum of, and which items of the user speak most for it."""

    user: Id
    item: Id
    logit: float
    """The model's logit: bias + gmf + mlp, summed in this order in float64 and rounded to float32, bit for bit."""
    probability: float
    bias: float
    """The bias of the output layer."""
    gmf: NDArray[np.float64]
    """float64 `[G]`: the term of each GMF factor, w_j p_j q_j."""
    mlp: NDArray[np.float64]
    """float64 `[H]`: the term of each output of the last hidden layer, w_h x_h."""
    reasons: list[tuple[Id, float]]
    """Items that the user has, and by how much the logit would be lower without each, the largest first."""
    generation: int
    """The generation that answered."""


def leave_one_out(scorer: Scorer, history: NDArray[np.int64], item: int, threads: int | None) -> NDArray[np.float64]:
    """Return by how much the logit of `item` falls if an item is left out of a history, float64 `[n]` for `[n]` items.

    Both logits are those of the vectors that `Scorer.fold_in` makes of the histories, which is exact for models with
    history.safetensors as far as their fold-in is; for others both are fits.
    """
    n = len(history)
    falls = np.zeros(n)
    step = max(1, _ITEMS_TOGETHER // max(1, n))
    for start in range(0, n, step):
        left_out = np.arange(start, min(n, start + step))
        rows = np.broadcast_to(history, (left_out.size, n))
        without = rows[np.arange(n) != left_out[:, None]]
        indptr = np.concatenate([[0], n + np.arange(left_out.size + 1) * (n - 1)])
        vectors = scorer.fold_in((indptr, np.concatenate([history, without])), threads=threads)
        items = np.full(left_out.size + 1, item)
        logits = scorer.score_batch(vectors, items, logits=True, threads=threads).astype(np.float64)
        falls[left_out] = logits[0] - logits[1:]
    return falls

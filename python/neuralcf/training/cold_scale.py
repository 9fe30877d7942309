"""How long the vectors of new items are: as long as the ranking of the known items allows.

A fifth of the known items is treated as new: their vectors are predicted from their features, by a regression on the
others, and multiplied by a scale. Of the scales of a grid the largest is chosen at which the validation interactions
with the other items, ranked among all, keep 99 % of the NDCG@20 that they have at scale 1. The longer the new items'
vectors, the higher they rank for those who may like them, and the more of the known items they push down. No measure
of both together could tell how much a new item is worth.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.csr import CSR, csr_from_pairs
from neuralcf.data.features import Features
from neuralcf.training.feature_regression import FeatureRegression
from neuralcf.training.search import ndcg_at_20
from neuralcf.training.student import Student
from neuralcf.training.validation import Validation

__all__ = ["choose_cold_scale"]

_SCALES: Final = (1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 1.75, 2.0)
_KEPT: Final = 0.99
_HELD_OUT: Final = 5


def choose_cold_scale(
    student: Student,
    features: Features,
    counts: NDArray[np.int64],
    known: CSR,
    validation: Validation,
    *,
    l2: float,
    k: float,
    seed: int,
) -> float:
    """Choose the scale of the vectors of items without interactions.

    Args:
        student: with the vectors of the known items.
        features: of the I items.
        counts: int64 [I], how many interactions each item has.
        known: U rows of the users' items in training.
        validation: held-out interactions.
        l2: regularisation of the regression.
        k: of how many interactions its prediction is worth.
        seed: decides which items are treated as new.
    """
    items = np.flatnonzero(counts)
    new = np.random.default_rng(seed).permutation(items)[: items.size // _HELD_OUT]
    is_new = np.zeros(counts.size, bool)
    is_new[new] = True
    split = validation.split
    ranked = np.flatnonzero(~is_new[split.items])
    if not new.size or not ranked.size:
        return 1.0
    users, vectors = student.vectors()
    held = csr_from_pairs(np.arange(ranked.size), split.items[ranked], ranked.size, counts.size)
    regression = FeatureRegression.fit(features, vectors, np.where(is_new, 0, counts), l2=l2, k=k)
    predicted = features.times(regression.map)[new]

    def ndcg(scale: float) -> float:
        tried = vectors.copy()
        tried[new] = scale * predicted
        return ndcg_at_20(student.with_vectors(users, tried), counts.size, known, split.users[ranked], held)

    least = _KEPT * ndcg(_SCALES[0])
    chosen = _SCALES[0]
    for scale in _SCALES[1:]:
        if ndcg(scale) < least:
            break
        chosen = scale
    return chosen

"""From scores to probabilities that mean something: logit = a s + b.

a and b are those under which positives and drawn negatives are likeliest (Platt, "Probabilistic outputs for support
vector machines", 1999), the negatives weighted as if `NEGATIVES` had been drawn for each positive:

    maximise  sum over positives of log sigmoid(a s + b) + w sum over negatives of log sigmoid(-a s - b) - a^2 / 2

by Newton's method in two variables. The last term, worth one observation, keeps a finite where positives and negatives
do not overlap. As for a model trained on 4 sampled negatives, the probability is the chance that a pair drawn like
these is an interaction.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["NEGATIVES", "fit_logit"]

NEGATIVES: Final = 4
_STEPS = 50
_LEAST = 1e-3


def fit_logit(positives: NDArray[np.floating], negatives: NDArray[np.floating]) -> tuple[float, float]:
    """Give a, above 0, and b for scores of positives, [n], and of drawn negatives, [m]; n and m at least 1."""
    scores = np.concatenate([positives, negatives]).astype(np.float64)
    centre, spread = float(scores.mean()), float(scores.std()) or 1.0
    x = np.stack([(scores - centre) / spread, np.ones_like(scores)], axis=1)
    y = np.repeat([1.0, 0.0], [positives.size, negatives.size])
    weights = np.where(y > 0, 1.0, NEGATIVES * positives.size / negatives.size)
    prior = np.diag([1.0, 1e-6])
    at = np.zeros(2)
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(x @ at, -30, 30)))
        gradient = x.T @ (weights * (chance - y)) + prior @ at
        curvature = (x.T * (weights * chance * (1 - chance))) @ x + prior
        step = np.linalg.solve(curvature, gradient)
        at -= step * min(1.0, 4 / np.abs(step).max()) if step.any() else 0
        if np.abs(step).max() < 1e-9:
            break
    a = max(float(at[0]) / spread, _LEAST)  # a ranking is never turned round
    return a, float(at[1]) - a * centre

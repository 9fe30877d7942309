"""Time decay: an interaction counts half as much after each half-life.

    w = w_0 2^(-(t_last - t) / half_life),   at least 2^-20 w_0

with t_last the time of the latest interaction and w_0 the weight given, or 1 (Koren, "Collaborative filtering with
temporal dynamics", KDD 2009, section 3, uses the exponential form for ratings). Taste changes, and catalogues do: with
a half-life of the right length a model follows what users like now.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.dataset import Dataset
from neuralcf.errors import ArgumentError

__all__ = ["decayed", "seconds_per_unit"]

_MOST_HALVINGS = 20
_UNITS = ((1e11, 1.0), (1e14, 1e-3), (1e17, 1e-6))
"""Below the first number a timestamp of our times counts the second number of seconds; above all of them nanoseconds.
Each bound lies beyond the year 3000 in its own unit, and before 1974 in the next."""


def decayed(dataset: Dataset, half_life: float) -> Dataset:
    """Multiply the weights of interactions by their time decay.

    Args:
        dataset: interactions with timestamps in seconds, milliseconds, microseconds or nanoseconds since 1970, as
            `seconds_per_unit` tells from their size.
        half_life: in days, above 0.

    Raises:
        ArgumentError: no timestamps, or a half-life that is not a number above 0.
    """
    if not 0 < half_life < np.inf:
        raise ArgumentError(f"half-life: expected a number of days above 0, got {half_life!r}")
    if dataset.timestamps is None:
        raise ArgumentError("half-life: expected a data set with timestamps, got one without any")
    if not len(dataset):
        return dataset
    age = (dataset.timestamps.max() - dataset.timestamps) * (seconds_per_unit(dataset.timestamps) / 86400)
    decay = np.exp2(-np.minimum(age / half_life, _MOST_HALVINGS))
    return replace(dataset, weights=(decay if dataset.weights is None else dataset.weights * decay).astype(np.float32))


def seconds_per_unit(timestamps: NDArray[Any]) -> float:
    """Tell the unit of timestamps since 1970, at least one, from the latest: 1 for seconds, 1e-3 for milliseconds."""
    latest = float(timestamps.max())
    return next((seconds for bound, seconds in _UNITS if latest < bound), 1e-9)

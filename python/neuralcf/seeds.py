"""Independent random streams from one random seed: drawing more from one stream never changes another."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

__all__ = ["Stream", "derive"]


class Stream(IntEnum):
    """The purposes of random numbers. The values determine what a seed produces, so they never change."""

    SPLIT = 0
    VALIDATION_SPLIT = 1
    TEST_CANDIDATES = 2
    VALIDATION_CANDIDATES = 3
    INITIALISATION = 4
    NEGATIVES = 5
    DROPOUT = 6
    SEARCH = 7
    TEACHERS = 8
    TUNING = 15


def derive(seed: int, stream: Stream, *position: int) -> int:
    """Derive the 63-bit seed of a stream at a position, such as a stage and an epoch.

    It comes from the child of `numpy.random.SeedSequence(seed)` with spawn key `(stream, *position)`. With a fresh
    generator per position, a checkpoint stores no generator state: any epoch can be repeated on its own.
    """
    child = np.random.SeedSequence(seed, spawn_key=(int(stream), *position))
    return int(child.generate_state(1, np.uint64)[0]) >> 1

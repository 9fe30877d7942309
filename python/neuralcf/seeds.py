"""One seed, many independent streams of chance: changing what one of them is asked for never moves another."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

__all__ = ["Stream", "derive"]


class Stream(IntEnum):
    """What chance is needed for. The numbers are part of what a seed means: they never change."""

    SPLIT = 0
    VALIDATION_SPLIT = 1
    TEST_CANDIDATES = 2
    VALIDATION_CANDIDATES = 3
    INITIALISATION = 4
    NEGATIVES = 5
    DROPOUT = 6
    SEARCH = 7
    TEACHERS = 8


def derive(seed: int, stream: Stream, *position: int) -> int:
    """Give the seed, 63 bits, of a stream at a position, such as the stage and the epoch.

    That of the child of `numpy.random.SeedSequence(seed)` whose spawn key is `(stream, *position)`. A generator made
    anew for each position has no state to store: an epoch can be repeated without those before it.
    """
    child = np.random.SeedSequence(seed, spawn_key=(int(stream), *position))
    return int(child.generate_state(1, np.uint64)[0]) >> 1

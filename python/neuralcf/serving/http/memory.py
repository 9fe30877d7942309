"""glibc's malloc, told to give back the memory of models that are gone; on other systems these do nothing."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

__all__ = ["give_back_free_memory", "give_back_large_tables"]

_TRIM_THRESHOLD: Final = -1, 1 << 20
"""M_TRIM_THRESHOLD: how much an arena may keep at its end."""
_MMAP_THRESHOLD: Final = -3, 4 << 20
"""M_MMAP_THRESHOLD: from this size on, memory comes from the system, to which it goes back when it is freed."""


def give_back_large_tables() -> None:
    """Fix the thresholds for what is allocated from now on.

    By default they grow with the tables that are freed, up to 32 MB and twice as much: after some swaps of the model,
    the arenas of the threads that loaded them keep more than a model.
    """
    for parameter, value in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
        _call("mallopt", parameter, value)


def give_back_free_memory() -> None:
    """Give back what smaller tables have left free between others."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    function = getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
    if function is not None:
        function(*arguments)

"""Watches a model directory, and calls when it has changed."""

import logging
import os
from collections.abc import Callable
from threading import Event, Thread
from typing import TypeAlias

from neuralcf.errors import ArgumentError

__all__ = ["Watcher"]

_State: TypeAlias = tuple[object, ...]


class Watcher:
    """A thread that looks at a directory from time to time, until `stop`; a context manager that stops at its end."""

    def __init__(
        self,
        folder: str,
        exchange: Callable[[], int | None],
        every: float,
        on_reload: Callable[[int], object] | None,
        on_error: Callable[[Exception], object] | None,
    ) -> None:
        if not every > 0:
            raise ArgumentError(f"every: expected seconds above 0, got {every!r}")
        self._folder, self._exchange, self._every = folder, exchange, every
        self._on_reload, self._on_error = on_reload, on_error or self._log
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="neuralcf-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a reload that has begun is finished first."""
        self._stopped.set()
        self._thread.join()

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        seen: _State | None = None  # the model may have changed since it was loaded, so the first look reloads
        while True:
            state = _state(self._folder)
            if state != seen:
                seen = state
                try:
                    if (generation := self._exchange()) is not None and self._on_reload is not None:
                        self._on_reload(generation)
                except Exception as error:
                    self._on_error(error)
            if self._stopped.wait(self._every):
                return

    def _log(self, error: Exception) -> None:
        logging.getLogger("neuralcf").error("%s: the new model is refused, the old one stays: %s", self._folder, error)


def _state(folder: str) -> _State:
    """Return what tells one content of a directory from another, without reading it."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(((entry.name, entry.stat()) for entry in entries), key=lambda pair: pair[0])
    except OSError as error:
        return (error.errno,)
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found)

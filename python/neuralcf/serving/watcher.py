"""Watches the files of a model, and calls when they have changed."""

import logging
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from threading import Event, Thread
from typing import TypeAlias

from neuralcf.errors import ArgumentError

__all__ = ["Changes", "Watcher"]

_State: TypeAlias = tuple[object, ...]


class Changes:
    """Whether the files of a model are others than before, by their inodes, sizes and times; none is read."""

    def __init__(self, path: str | PathLike[str], *, known: bool) -> None:
        """Look for the first time.

        Args:
            path: a model directory or a file.
            known: whether what is there now is no change; then make this before the model is loaded.
        """
        self._path = Path(path)
        self._before = _state(self._path)
        self._known = self._before if known else None

    def settled(self) -> bool:
        """Look again; return whether there was a change after which two looks have seen the same, once for each."""
        now = _state(self._path)
        changed = now == self._before != self._known
        if changed:
            self._known = now
        self._before = now
        return changed


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
        changes = Changes(self._folder, known=False)  # it may have changed since it was loaded: the first look reloads
        while True:
            if changes.settled():
                try:
                    if (generation := self._exchange()) is not None and self._on_reload is not None:
                        self._on_reload(generation)
                except Exception as error:
                    self._on_error(error)
            if self._stopped.wait(self._every):
                return

    def _log(self, error: Exception) -> None:
        logging.getLogger("neuralcf").error("%s: the new model is refused, the old one stays: %s", self._folder, error)


def _state(path: Path) -> _State:
    try:
        files = [path, *sorted(path.iterdir())] if path.is_dir() else [path]
        return tuple((file.name, (s := file.stat()).st_ino, s.st_size, s.st_mtime_ns) for file in files)
    except OSError as error:
        return (error.errno,)

"""Files that appear whole: after an error or a kill the one that stood there before still does."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["sync_directory", "write_atomically"]


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file beside its place, synchronise it and rename it there.

    A kill may leave `.NAME.part` beside it, which the next writing replaces. A symbolic link is followed; what is no
    regular file, such as /dev/stdout, is written to where it stands.

    Raises:
        OSError: it cannot be written; what stood there before still does.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        target.write_bytes(content)
        return
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException as error:
        with suppress(OSError):  # it is the first error that tells what happened
            part.unlink()
        if isinstance(error, OSError):
            error.filename = os.fspath(path)  # the name that the caller knows
        raise
    sync_directory(target.parent)


def sync_directory(path: Path) -> None:
    """Make sure that a directory's entries, such as a file renamed into it, outlast a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

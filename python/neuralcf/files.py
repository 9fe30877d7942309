"""Atomic writes: after an error or a kill, the previous file is still intact."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["sync_directory", "write_atomically"]


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a temporary file in the same directory, sync it to disk, and rename it to `path`.

    A kill may leave `.NAME.part` behind, which the next write overwrites. Symbolic links are followed. Anything but a
    regular file, such as /dev/stdout, is written directly.

    Raises:
        OSError: the file cannot be written; a previous file stays intact.
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
        with suppress(OSError):  # the first error is the one to report
            part.unlink()
        if isinstance(error, OSError):
            error.filename = os.fspath(path)  # report the caller's path, not the temporary file
        raise
    sync_directory(target.parent)


def sync_directory(path: Path) -> None:
    """Sync a directory's entries to disk, so that a file renamed into it survives a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

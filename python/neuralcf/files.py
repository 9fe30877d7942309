"""Atomic writes: after an error or a kill, the previous content is still intact.

New content is staged beside its target, under a name that is each writer's own, and moved into place when it is whole.
A writer holds a lock on what it stages. What nobody holds was left by a kill, and the next writer of the same target
removes it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from neuralcf.errors import PublishedError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["is_staged", "staged", "sync_published", "try_lock", "write_atomically"]

_FOREIGN_AGE: Final = 24 * 3600.0
"""Seconds after which what another machine has staged is taken for left: its locks may not be seen here."""


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Stage a file in the same directory, sync it to disk, and rename it to `path`.

    A kill may leave `.NAME.*.part` behind, which the next write removes. Symbolic links are followed. Anything but a
    regular file, such as /dev/stdout, is written directly.

    Raises:
        PublishedError: the file is written, but may not survive a power failure.
        OSError: the file cannot be written; a previous file stays intact.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        target.write_bytes(content)
        return
    try:
        with staged(target) as part:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
    except OSError as error:
        error.filename = os.fspath(path)  # report the caller's path, not the staged file
        raise
    sync_published(target)


@contextmanager
def staged(target: Path, *, directory: bool = False) -> Iterator[Path]:
    """Yield a new empty file or directory beside `target`, to be filled and moved there; remove it after an error.

    What a killed writer of the same target has left is removed first.
    """
    _remove_leftovers(target)
    part, handle = _create(target, directory)
    try:
        yield part
    except BaseException:
        _remove(part)
        raise
    finally:
        if handle is not None:
            os.close(handle)


def is_staged(name: str, target: str) -> bool:
    """Whether `name` is that of a file or directory staged for `target`, in the same directory."""
    return _host_of(name, target) is not None


def sync_published(target: Path) -> None:
    """Sync the directory of `target` to disk, so that what was just moved there survives a power failure.

    Raises:
        PublishedError: that is not certain.
    """
    if sys.platform == "win32":  # a directory cannot be opened there
        return
    try:
        handle = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        text = f"{target}: published; not yet durable: cannot sync {target.parent}: {error.strerror}"
        raise PublishedError(error.errno, text) from error


def try_lock(handle: int) -> bool:
    """Lock an open file until it is closed; return False if it is locked already.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _create(target: Path, directory: bool) -> tuple[Path, int | None]:
    """Create what is staged, and lock it if the system can."""
    while True:
        part = target.with_name(f".{target.name}.{_host()}-{uuid.uuid4().hex[:12]}.part")
        if directory:
            part.mkdir()
        else:
            part.touch(exist_ok=False)
        if sys.platform == "win32":
            return part, None
        handle = None
        try:
            handle = os.open(part, os.O_RDONLY)
            if try_lock(handle) and os.path.samestat(os.fstat(handle), part.stat()):
                return part, handle
        except FileNotFoundError:
            pass  # another writer took it for left, before it was locked: create another
        except OSError:
            if handle is not None:
                os.close(handle)
            return part, None  # no locks here: then nobody removes it either
        if handle is not None:
            os.close(handle)


def _remove_leftovers(target: Path) -> None:
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            host = _host_of(entry.name, target.name)
            if host is None:
                continue
            with suppress(OSError):
                foreign = sys.platform == "win32" or host != _host()
                if foreign and time.time() - entry.stat(follow_symlinks=False).st_mtime < _FOREIGN_AGE:
                    continue
                if sys.platform == "win32":
                    _remove(Path(entry.path))
                    continue
                handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    if try_lock(handle):
                        _remove(Path(entry.path))
                finally:
                    os.close(handle)


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        with suppress(OSError):
            part.unlink()


def _host_of(name: str, target: str) -> str | None:
    """Return the machine that staged the file `name` for `target`; None if it is another file."""
    found = re.fullmatch(re.escape(f".{target}.") + r"([0-9a-f]{8})-[0-9a-f]{12}\.part", name)
    return found[1] if found else None


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]

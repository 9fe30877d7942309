"""Opening an input once, whatever a shell or a program hands over, and telling by its first bytes what it is.

An input is a file, a pipe (`<(...)`, a named pipe) or `-` for standard input. gzip, bzip2, xz, Zstandard and LZ4 are
decompressed, and a zip archive of one file; an archive of several files and other formats are refused with a remedy.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import sys
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from typing import IO, Any, Final, Literal

from neuralcf.errors import ArgumentError

__all__ = ["STANDARD_INPUT", "Input", "open_input", "stored_as"]

STANDARD_INPUT: Final = "-"
_HEAD: Final = 1 << 12
"""Bytes from which a format is told."""
_SECONDS_FOR_A_WRITER: Final = 10.0

_COMPRESSIONS: Final = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
}
_UNPACK: Final = "unpack it and pass the file inside"
_EXPORT: Final = "export it as CSV or Parquet"
_FOREIGN: Final = {
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", _UNPACK),
    b"Rar!": ("a RAR archive", _UNPACK),
    b"\x1f\x9d": ("a file of compress (.Z)", "unpack it with uncompress"),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook of old", _EXPORT),
    b"SQLite format 3\0": ("an SQLite database", _EXPORT),
    b"\x89HDF": ("an HDF5 file", _EXPORT),
    b"\x93NUMPY": ("a NumPy array", "pass its columns as a table in Python"),
    b"ORC": ("an ORC file", "write it as Parquet"),
    b"Obj\x01": ("an Avro file", "write it as Parquet"),
    b"%PDF": ("a PDF", _EXPORT),
    b"version https://git-lfs": ("a pointer of Git LFS", "fetch the file itself with git lfs pull"),
}
"""Formats that are not read, by their first bytes: a name and a remedy."""
_PICKLES: Final = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))

_DAMAGE: Final = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Input:
    """An open input."""

    name: str
    """For messages."""
    kind: Literal["text", "parquet", "arrow"]
    file: IO[bytes]
    """At its beginning, decompressed."""

    def whole(self) -> IO[bytes]:
        """Return the file, or its content in memory where it is not seekable."""
        return self.file if self.file.seekable() else io.BytesIO(self.file.read())


@contextmanager
def open_input(path: str | PathLike[str]) -> Iterator[Input]:
    """Open an input; it is opened once, because a pipe can be read once.

    Args:
        path: a file, a pipe, or `-` for standard input.

    Raises:
        ArgumentError: a format that is not read, an archive of several files, a pipe that nobody writes to, or standard
            input for the second time; also, on any later read, damaged compression.
        ImportError: Zstandard or LZ4, and pyarrow is not installed.
        OSError: the file cannot be read.
    """
    name = _name(path)
    compression = None
    with ExitStack() as stack:
        try:
            file = stack.enter_context(_open(name))
            file, head = _with_head(file, seekable=file.seekable())
            while True:
                _refuse_foreign(name, head)
                found = next((kind for magic, kind in _COMPRESSIONS.items() if head.startswith(magic)), None)
                if found is None:
                    break
                compression = found
                file = stack.enter_context(_decompressed(name, file, compression))
                file, head = _with_head(file, seekable=False)
            yield Input(name, stored_as(head), file)
        except _DAMAGE as error:
            raise ArgumentError(f"{name}: damaged {compression} file: {error}") from error
        except OSError as error:
            if error.errno is not None or compression is None:
                raise
            raise ArgumentError(f"{name}: damaged {compression} file: {error}") from error


def stored_as(head: bytes) -> Literal["text", "parquet", "arrow"]:
    """Tell tables from text by the first bytes."""
    return "parquet" if head[:4] == b"PAR1" else "arrow" if head[:6] == b"ARROW1" else "text"


def _name(path: str | PathLike[str]) -> str:
    name = fspath(path)
    if not isinstance(name, str) or not name or "\0" in name:
        raise ArgumentError(f"expected the path of a file, got {name!r}")
    return name


_standard_input_read: list[Any] = []


@contextmanager
def _open(name: str) -> Iterator[IO[bytes]]:
    if name == STANDARD_INPUT:
        if sys.stdin is None or sys.stdin.closed:
            raise ArgumentError("-: expected data on standard input, which is closed")
        if any(each is sys.stdin for each in _standard_input_read):
            raise ArgumentError("-: standard input can be read only once; write it to a file first")
        _standard_input_read[:] = [sys.stdin]
        yield sys.stdin.buffer
        return
    if name.startswith("/dev/fd/") or not _is_named_pipe(name):
        with open(name, "rb") as file:  # noqa: PTH123
            yield file
        return
    with os.fdopen(_opened_for_a_writer(name), "rb") as file:
        yield file


def _is_named_pipe(name: str) -> bool:
    return stat.S_ISFIFO(os.stat(name).st_mode)  # noqa: PTH116


def _opened_for_a_writer(name: str) -> int:
    """Open a named pipe, unless no program opens it for writing within some seconds: that would wait for ever."""
    opened: list[int] = []
    thread = threading.Thread(target=lambda: opened.append(os.open(name, os.O_RDONLY)), daemon=True)
    thread.start()
    thread.join(_SECONDS_FOR_A_WRITER)
    if not opened:
        os.close(os.open(name, os.O_RDWR))  # lets the thread go on
        thread.join()
        os.close(opened[0])
        raise ArgumentError(
            f"{name}: expected a program that writes to this pipe, got none for {_SECONDS_FOR_A_WRITER:g} seconds"
        )
    return opened[0]


class _Chained(io.RawIOBase):
    """Bytes that were read from a file, and then the rest of the file."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(part) :]
        buffer[: len(part)] = part
        return len(part)


def _with_head(file: IO[bytes], *, seekable: bool) -> tuple[IO[bytes], bytes]:
    """Return a file at its beginning, and its first bytes."""
    start = file.tell() if seekable else None
    head = b""
    while len(head) < _HEAD and (more := file.read(_HEAD - len(head))):
        head += more
    if start is not None:
        file.seek(start)
        return file, head
    return io.BufferedReader(_Chained(head, file), 1 << 20), head


def _refuse_foreign(name: str, head: bytes) -> None:
    """Raise for a format that is not read, with its name and a remedy."""
    what, remedy = next((known for magic, known in _FOREIGN.items() if head.startswith(magic)), (None, ""))
    if head[257:262] == b"ustar":
        inside = head[:100].split(b"\0")[0].decode(errors="replace")
        what, remedy = f"a tar archive, which begins with {inside!r}", _UNPACK
    elif head.startswith(_PICKLES) and b"." in head:
        what, remedy = "a Python pickle, which is never opened", _EXPORT
    elif head.lstrip()[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        what, remedy = "HTML or XML, perhaps the page of a failed download", "fetch the file itself"
    if what:
        raise ArgumentError(f"{name}: expected delimited text, JSON lines or Parquet, got {what}; {remedy}")


def _decompressed(name: str, file: IO[bytes], compression: str) -> Any:
    """Decompress a file; a context manager."""
    if compression == "gzip":
        return gzip.GzipFile(fileobj=file)
    if compression == "bzip2":
        return bz2.BZ2File(file)
    if compression == "xz":
        return lzma.LZMAFile(file)
    if compression == "zip":
        return _only_member(name, file if file.seekable() else io.BytesIO(file.read()))
    try:
        import pyarrow as pa
    except ModuleNotFoundError as error:
        raise ImportError(f"{name}: a {compression} file needs pyarrow: pip install 'neuralcf[data]'") from error
    return io.BufferedReader(_Chained(b"", pa.CompressedInputStream(file, compression)), 1 << 20)


def _only_member(name: str, file: IO[bytes]) -> IO[bytes]:
    """Open the one file in a zip archive, without what macOS adds."""
    archive = zipfile.ZipFile(file)
    files = [each for each in archive.infolist() if not each.is_dir() and not each.filename.startswith("__MACOSX/")]
    names = [each.filename for each in files]
    if "[Content_Types].xml" in names:
        raise ArgumentError(f"{name}: expected delimited text, JSON lines or Parquet, got an Excel workbook; {_EXPORT}")
    if len(files) != 1:
        listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise ArgumentError(
            f"{name}: expected a zip archive of one file, got {len(files)} ({listed}); unpack it and pass those needed"
        )
    if files[0].flag_bits & 1:
        raise ArgumentError(f"{name}: expected a zip archive without a password; {_UNPACK}")
    try:
        return archive.open(files[0])
    except NotImplementedError as error:
        raise ArgumentError(f"{name}: a compression of zip that Python does not read: {error}; {_UNPACK}") from error

"""Opening and decoding text files: byte order mark, gzip, UTF-8, delimiter detection."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from neuralcf.errors import ArgumentError

__all__ = ["BLOCK", "LONGEST_ROW", "detect_delimiter", "is_parquet", "lines_of", "open_text", "read_text", "shown"]

BLOCK: Final = 16 << 20
"""Bytes read at a time."""
LONGEST_ROW: Final = 4 * BLOCK
"""Bytes; a longer line means that the file is not text."""

_DELIMITERS: Final = ("::", "\t", ";", ",")


def is_parquet(path: Path) -> bool:
    """Detect a Parquet file by its first bytes."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


@contextmanager
def open_text(path: Path) -> Iterator[IO[bytes]]:
    """Open a text file, decompress gzip (detected by its first bytes), and skip the byte order mark.

    Raises:
        ArgumentError: UTF-16; also, on any later read, a damaged gzip file.
        OSError: the file cannot be read.
    """
    with path.open("rb") as probe:
        compressed = probe.read(2) == b"\x1f\x8b"
    file: IO[bytes]
    with gzip.open(path) if compressed else path.open("rb") as file:  # type: ignore[assignment]  # GzipFile is no IO
        try:
            mark = file.read(3)
            if mark.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise ArgumentError(f"{path}:1: expected UTF-8 text, got UTF-16")
            if mark != b"\xef\xbb\xbf":
                file.seek(0)
            yield file
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ArgumentError(f"{path}: damaged gzip file: {error}") from error


def read_text(path: Path, *, or_else: str | None = None) -> str:
    """Read a text file as UTF-8, or in the encoding `or_else` if it is not valid UTF-8.

    Raises:
        ArgumentError: as `open_text`; bytes that are not UTF-8, without an `or_else`.
        OSError: the file cannot be read.
    """
    with open_text(path) as file:
        content = file.read()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        if or_else is not None:
            return content.decode(or_else)
        line = content.count(b"\n", 0, error.start) + 1
        wrong = content[error.start : error.end]
        raise ArgumentError(f"{path}:{line}: expected UTF-8 text, got {wrong!r}") from error


def lines_of(block: bytes) -> io.StringIO:
    """Decode a block into lines that end in a line feed; bytes that are not UTF-8 become lone surrogates."""
    return io.StringIO(block.decode("utf-8", "surrogateescape"), newline="\n")


def detect_delimiter(path: Path, block: bytes, line: int) -> str:
    """Detect the delimiter, a tab, `,`, `;` or `::`, in the first row of a block that begins at line `line`.

    Raises:
        ArgumentError: the row contains none of them.
    """
    at, first = next((n, text) for n, text in enumerate(lines_of(block[:LONGEST_ROW]), start=line) if text.strip())
    for delimiter in _DELIMITERS:
        if delimiter in first:
            return delimiter
    raise ArgumentError(
        f"{path}:{at}: expected columns separated by a tab, ',', ';' or '::', got {shown(first.strip())}"
    )


def shown(value: str | list[str]) -> str:
    """Format a wrong value for a message, in at most 120 characters."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."

"""Text files, opened: what every reader of text shares, whatever stands in the lines."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from neuralcf.errors import ArgumentError

__all__ = ["BLOCK", "LONGEST_ROW", "is_parquet", "lines_of", "open_text", "read_text", "recognise_delimiter", "shown"]

BLOCK: Final = 16 << 20
"""Bytes read at a time."""
LONGEST_ROW: Final = 4 * BLOCK
"""Bytes; what has no end of line for so long is not text."""

_DELIMITERS: Final = ("::", "\t", ";", ",")


def is_parquet(path: Path) -> bool:
    """Tell by its first bytes that a file is no text but Parquet."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


@contextmanager
def open_text(path: Path) -> Iterator[IO[bytes]]:
    """Open a file behind its byte order mark, and behind gzip's compression, recognised by its first bytes.

    Raises:
        ArgumentError: UTF-16; at any moment while it is open, a damaged gzip file.
        OSError: the file cannot be read.
    """
    with path.open("rb") as probe:
        compressed = probe.read(2) == b"\x1f\x8b"
    file: IO[bytes]
    with gzip.open(path) if compressed else path.open("rb") as file:  # type: ignore[assignment]  # it reads like one
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
    """Read a whole file, opened as by `open_text`, in UTF-8, or where it is not, in the encoding `or_else`.

    Raises:
        ArgumentError: as `open_text`; bytes that are not UTF-8, where there is no other encoding to try.
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
    """Give a block as lines, which end in a line feed; bytes that are not UTF-8 become lone surrogates."""
    return io.StringIO(block.decode("utf-8", "surrogateescape"), newline="\n")


def recognise_delimiter(path: Path, block: bytes, line: int) -> str:
    """Find what separates the columns, a tab, `,`, `;` or `::`, in the first row of a block that begins at a line.

    Raises:
        ArgumentError: nothing of the kind.
    """
    at, first = next((n, text) for n, text in enumerate(lines_of(block[:LONGEST_ROW]), start=line) if text.strip())
    for delimiter in _DELIMITERS:
        if delimiter in first:
            return delimiter
    raise ArgumentError(
        f"{path}:{at}: expected columns separated by a tab, ',', ';' or '::', got {shown(first.strip())}"
    )


def shown(value: str | list[str]) -> str:
    """Show what is wrong, one line of it."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."

"""Rows of a small text file about items or users: any delimiter, UTF-8 or Latin-1, plain or gzip, read whole."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Final

from neuralcf.data.readers.text import read_text
from neuralcf.errors import ArgumentError

__all__ = ["read_rows"]

_DELIMITERS: Final = ("::", "\t", "|", ";", ",")
_NEVER_QUOTED: Final = ("::", "|")


def read_rows(path: Path, what: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with its line; the delimiter is the first one in the first row.

    Args:
        path: the file: UTF-8, or Latin-1 if it is not valid UTF-8.
        what: what is expected in it, for messages.

    Raises:
        ArgumentError: a file that is not text, has no delimiter, or is not well-formed.
        OSError: the file cannot be read.
    """
    text = read_text(path, or_else="latin-1")
    if "\0" in text:
        raise ArgumentError(f"{path}: expected a text or Parquet file of {what}, got a binary file")
    first = next((line.rstrip() for line in StringIO(text) if line.strip()), "")
    places = {delimiter: first.find(delimiter) for delimiter in _DELIMITERS if delimiter in first}
    if first and not places:
        raise ArgumentError(f"{path}: expected {what}, separated by a tab, ',', ';', '|' or '::', got {first[:60]!r}")
    delimiter = min(places, key=places.__getitem__, default=",")
    if delimiter in _NEVER_QUOTED:
        for number, line in enumerate(StringIO(text), start=1):
            if line.strip():
                yield number, line.rstrip("\r\n").split(delimiter)
        return
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise ArgumentError(
            f"{path}:{reader.line_num}: expected columns separated by {delimiter!r}: {error}"
        ) from error

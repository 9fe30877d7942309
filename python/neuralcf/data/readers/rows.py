"""Rows of a small file about items or users: any delimiter, UTF-8 or Latin-1, or Parquet; read whole."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import StringIO
from os import PathLike
from typing import Any

from neuralcf.attributes import SEPARATOR
from neuralcf.data.readers.opening import Input, open_input
from neuralcf.data.readers.text import detect_delimiter, is_quoted, split_lines, text_of, without_preamble
from neuralcf.errors import ArgumentError

__all__ = ["read_rows"]


def read_rows(
    path: str | PathLike[str], what: str, encoding: str | None = None
) -> tuple[bool, Iterator[tuple[int, list[str]]]]:
    """Read the rows that are not blank, each with its line, or its position in a table.

    Args:
        path: a file of text, UTF-8 or Latin-1 if it is not valid UTF-8, or a Parquet file.
        what: what is expected in it, for messages.
        encoding: the encoding of a text file without a byte order mark; UTF-8 or Latin-1 if None.

    Returns:
        Whether the first row is known to name the columns, as in Parquet files; the rows.

    Raises:
        ArgumentError: a file that is not text, has no delimiter, or is not well-formed.
        ImportError: a Parquet file, and pyarrow is not installed.
        OSError: the file cannot be read.
    """
    with open_input(path) as source:
        if source.kind != "text":
            return True, _stored_rows(source)
        text = text_of(source, encoding=encoding, or_else="latin-1")
    if "\0" in text:
        raise ArgumentError(f"{path}: expected a text or Parquet file of {what}, got a binary file")
    return False, _text_rows(str(path), text, what)


def _text_rows(path: str, text: str, what: str) -> Iterator[tuple[int, list[str]]]:
    lines = text.splitlines(keepends=True)
    skipped, delimiter = without_preamble([line for line in lines[:1000] if line])
    lines = lines[skipped:]
    if not any(line.strip() for line in lines):
        return
    start = next(n for n, line in enumerate(lines) if line.strip())
    delimiter = delimiter or detect_delimiter(f"{path}", lines[start : start + 100], what, spaces=False)
    quoted = is_quoted(delimiter, lines[start])
    for at, row in split_lines(StringIO("".join(lines), newline=""), delimiter, quoted=quoted):
        if isinstance(row, csv.Error):
            raise ArgumentError(f"{path}:{at + skipped}: expected columns separated by {delimiter!r}: {row}") from row
        if any(cell.strip() for cell in row):
            yield at + skipped, row


def _stored_rows(source: Input) -> Iterator[tuple[int, list[str]]]:
    """Yield the names of the columns, then the rows as text; lists become multi-valued cells."""
    try:
        from neuralcf.data.readers.tables import stored_columns
    except ModuleNotFoundError as error:
        raise ImportError(f"{source.name}: a Parquet file needs pyarrow: pip install 'neuralcf[data]'") from error
    table = stored_columns(source, lambda names: list(range(len(names))))
    columns = [column.to_pylist() for column in table.columns]
    rows = zip(*columns, strict=True)
    return iter([(0, list(table.column_names)), *((n, [_cell(value) for value in row]) for n, row in enumerate(rows))])


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return SEPARATOR.join(str(part) for part in value if part is not None)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None or value != value else str(value)

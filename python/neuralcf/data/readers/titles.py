"""Item titles, from the item file that comes with a data set.

Detected automatically: MovieLens' `movies.csv` (with a header), `movies.dat` (`::`) and `u.item` (`|`), any text or
Parquet file with recognizable names of both columns, and text files without a header whose first two columns are id and
title. UTF-8, or Latin-1 if it is not valid UTF-8; plain or gzip. Parquet files need pyarrow, text needs NumPy alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from os import PathLike
from typing import Final, TypeAlias

import numpy as np

from neuralcf.data.dataset import ExternalIds
from neuralcf.data.readers.columns import HEADER_NAMES, chosen_column, find_name
from neuralcf.data.readers.rows import read_rows
from neuralcf.data.values import float_hint
from neuralcf.errors import ArgumentError, argument

__all__ = ["read_titles"]

_Choice: TypeAlias = str | int | None
"""A column: its name, its position from 0, or None to detect it."""

_ID_NAMES: Final = (*HEADER_NAMES["item"], "id")
_THINGS: Final = ("item", "movie", "product", "track", "book", "artist", "song", "business", "article", "game")
_TITLE_NAMES: Final = (
    "title",
    "name",
    *(f"{thing}{part}" for part in ("title", "name") for thing in _THINGS),
    "prodname",
)


def read_titles(
    path: str | PathLike[str],
    item_ids: ExternalIds,
    *,
    id_column: _Choice = None,
    title_column: _Choice = None,
    encoding: str | None = None,
) -> dict[int | str, str]:
    """Read item titles.

    Args:
        path: the file.
        item_ids: the ids to find titles for, such as all items of a model: int64 [I] or strings. Ids are not coerced:
            the row `007` gives the title of "007", not of 7.
        id_column: the column of ids, by name or by position from 0; detected if None.
        title_column: the column of titles, likewise.
        encoding: the encoding of a text file without a byte order mark; UTF-8 or Latin-1 if None.

    Returns:
        Titles by id, for the items that have one in the file. The first title of an id counts.

    Raises:
        ArgumentError: a file that is not text, a missing column, a row that is too short, or no title for any item.
        ImportError: a Parquet file, and pyarrow is not installed.
        OSError: the file cannot be read.
    """
    wanted = {str(item): item for item in (item_ids.tolist() if isinstance(item_ids, np.ndarray) else item_ids)}
    titles: dict[int | str, str] = {}
    example = None
    for text, title in _pairs(path, id_column, title_column, encoding):
        example = example or text
        item = wanted.get(text)
        if item is not None and title:
            titles.setdefault(item, title)
    if not titles and wanted:
        known = next(iter(wanted.values()))
        found = "no rows" if example is None else f"only others, such as {example!r}"
        raise ArgumentError(
            f"{path}: expected ids of the model's items, such as {known!r}, got {found}{float_hint(example)}"
        )
    return titles


def _pairs(
    path: str | PathLike[str], id_column: _Choice, title_column: _Choice, encoding: str | None
) -> Iterator[tuple[str, str]]:
    """Yield the id and title of each row."""
    named, rows = read_rows(path, "ids and titles", encoding)
    start, first = next(rows, (1, []))
    if not first:
        raise ArgumentError(f"{path}: expected ids and titles, got an empty file")
    where = str(path) if named else f"{path}:{start}"
    header, id_at, title_at = _columns(where, first, id_column, title_column, named=named)
    for line, row in rows if header else chain([(start, first)], rows):
        if len(row) <= max(id_at, title_at):
            raise ArgumentError(f"{path}:{line}: expected at least {max(id_at, title_at) + 1} columns, got {len(row)}")
        yield row[id_at].strip(), row[title_at].strip()


def _columns(
    source: str, first: Sequence[str], id_column: _Choice, title_column: _Choice, *, named: bool
) -> tuple[bool, int, int]:
    """Detect whether the first row is a header, and the positions of the id and title columns."""
    found = find_name(first, _ID_NAMES), find_name(first, _TITLE_NAMES)
    given = id_column, title_column
    header = named or found != (None, None) or any(isinstance(column, str) for column in given)
    if not header and given == (None, None):
        found = 0, 1
    places = []
    for what, column, detected in zip(("id", "title"), given, found, strict=True):
        place = detected if column is None else chosen_column(source, f"{what}_column", column, first, header)
        if place is None:
            raise ArgumentError(
                f"{source}: expected a column of {what}s, detected none among {list(first)}; pass "
                f"{argument(f'{what}_column=')}"
            )
        places.append(place)
    if places[0] == places[1]:
        raise ArgumentError(f"{source}: expected ids and titles in different columns, got {places[0]} for both")
    return header, places[0], places[1]

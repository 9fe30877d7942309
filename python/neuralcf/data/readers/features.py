"""Features, from the file of attributes that comes with a data set, such as MovieLens' movies.csv or users.dat.

A text file (delimited, with or without a header, UTF-8 or Latin-1, plain or gzip) or a Parquet file with a row for each
user or item: an id, and any number of columns of attributes. Parquet files need pyarrow, text needs NumPy alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from neuralcf.attributes import FEATURE_KINDS, SEPARATOR, FeatureColumn, FeatureKind, parse_number, values_of
from neuralcf.data.dataset import ExternalIds
from neuralcf.data.features import Features, fit_column
from neuralcf.data.readers.columns import HEADER_NAMES, find_name
from neuralcf.data.readers.rows import read_rows
from neuralcf.data.readers.text import shown
from neuralcf.data.values import float_hint
from neuralcf.errors import ArgumentError

__all__ = ["FeatureReport", "Side", "encode_features", "parse_choice", "read_features"]

Side: TypeAlias = Literal["user", "item"]
Choice: TypeAlias = Mapping[str, FeatureKind | Literal["id"] | None]
"""The columns to use, each with its kind, or None to detect it; `id` marks the column of ids."""


@dataclass(frozen=True)
class FeatureReport:
    """Account of a file of attributes: `rows` = `matched` + `unknown` + `duplicates`."""

    source: str
    rows: int
    """Rows in the file, without the header and blank lines."""
    matched: int
    """Rows that are used."""
    unknown: int
    """Rows with an id that has no interactions."""
    duplicates: int
    """Rows that repeat the id of another; the first one counts."""
    without: int
    """Ids that have no row: entities without attributes."""
    columns: tuple[str, ...]
    """The columns that are used, with their kinds, such as `genres:multi`."""
    missing: Mapping[str, int]
    """Empty cells of each column that has some, in matched rows."""
    left_out: Mapping[str, int]
    """Values of each column that are left out, because they are rare."""
    unused: tuple[str, ...]
    """Columns from which nothing can be learned."""


def read_features(
    path: str | PathLike[str],
    ids: ExternalIds,
    side: Side,
    choice: Choice | None = None,
    *,
    encoding: str | None = None,
) -> tuple[Features, FeatureReport]:
    """Read the attributes of users or items, learn the values of their columns, and encode them.

    Args:
        path: the file.
        ids: the ids of all users or items, int64 [n] or n strings; not coerced: the row `007` is not that of 7.
        side: whose attributes they are; a header may name the ids accordingly.
        choice: the columns to use; all but the ids if None. `title.year` and `title.words` are made from `title`: the
            year in brackets at its end, and its words, of a multi-valued column.
        encoding: the encoding of a text file without a byte order mark; UTF-8 or Latin-1 if None.

    Returns:
        Features of n rows, in the order of the ids, and a report.

    Raises:
        ArgumentError: a file that is not a table, a missing column, a row of the wrong length, text in a column of
            numbers, or no id and no column that can be used.
        ImportError: a Parquet file, and pyarrow is not installed.
        OSError: the file cannot be read.
    """
    table = _Table.read(Path(path), side, choice, encoding)
    places = {str(id_): place for place, id_ in enumerate(_listed(ids))}
    found: dict[int, int] = {}  # the row of each id
    unknown = 0
    for row, text in enumerate(table.ids):
        place = places.get(text)
        unknown += place is None
        if place is not None:
            found.setdefault(place, row)
    if not found:
        got = f"only others, such as {table.ids[0]!r}" if table.ids else "no rows"
        known = f", such as {_listed(ids)[0]!r}" if len(ids) else ""
        hint = float_hint(table.ids[0] if table.ids else None)
        raise ArgumentError(f"{path}: expected the ids of {side}s{known}, got {got}{hint}")
    matched = sorted(found.values())
    fitted, left_out, unused, missing = [], {}, [], {}
    kinds = {name: kind for name, kind in (choice or {}).items() if kind != "id"}
    for name, cells in table.columns.items():
        column, fewer = table.fit(name, kinds.get(name), [cells[row] for row in matched])
        if empty := sum(not cells[row] for row in matched):
            missing[name] = empty
        if column is None:
            unused.append(name)
            continue
        fitted.append(column)
        if fewer:
            left_out[name] = fewer
    if not fitted:
        raise ArgumentError(
            f"{path}: expected a column with values that several {side}s share, got {list(table.columns)}"
        )
    nothing = [""] * len(fitted)
    rows = [
        [table.columns[column.name][found[place]] for column in fitted] if place in found else nothing
        for place in range(len(ids))
    ]
    report = FeatureReport(
        source=str(path),
        rows=len(table.ids),
        matched=len(found),
        unknown=unknown,
        duplicates=len(table.ids) - unknown - len(found),
        without=len(ids) - len(found),
        columns=tuple(f"{column.name}:{column.kind}" for column in fitted),
        missing=missing,
        left_out=left_out,
        unused=tuple(unused),
    )
    return Features.encode(fitted, rows), report


def encode_features(
    path: str | PathLike[str],
    columns: Sequence[FeatureColumn],
    side: Side,
    id_column: str | None = None,
    *,
    encoding: str | None = None,
) -> tuple[list[str], Features, Mapping[str, int]]:
    """Read the attributes of new users or items, and encode them by columns that were learned before.

    Args:
        path: the file.
        columns: the columns; the file must have them under the same names.
        side: whose attributes they are.
        id_column: name of the column of ids; detected if None.
        encoding: as for `read_features`.

    Returns:
        The ids as texts; their features, in the order of the file; how many values of each column are not known.

    Raises:
        ArgumentError, ImportError, OSError: as `read_features`; also a duplicate id.
    """
    choice: dict[str, Any] = {column.name: column.kind for column in columns}
    table = _Table.read(Path(path), side, choice | ({id_column: "id"} if id_column else {}), encoding)
    twice = [text for text, count in Counter(table.ids).items() if count > 1]
    if twice:
        raise ArgumentError(f"{path}: expected unique ids, got {twice[0]!r} more than once")
    unknown: dict[str, int] = {}
    for column in columns:
        cells = table.columns[column.name]
        if column.kind == "number":
            table.check_numbers(column.name, cells)
        elif new := {value for text in cells for value in values_of(text, column.kind)} - column.places.keys():
            unknown[column.name] = len(new)
    rows = list(zip(*(table.columns[column.name] for column in columns), strict=True))
    return table.ids, Features.encode(columns, rows), unknown


def parse_choice(text: str) -> Choice:
    """Parse columns and kinds, such as `genres:multi,year:number,country,movieId:id`.

    Raises:
        ArgumentError: a column without a name, or one that is given twice.
    """
    kinds = (*FEATURE_KINDS, "id")
    choice: dict[str, Any] = {}
    for part in text.split(","):
        name, _, kind = part.strip().rpartition(":")
        if kind not in kinds or not name:
            name, kind = part.strip(), ""
        if not name or name in choice:
            raise ArgumentError(
                f"expected columns such as genres:multi,year:number (of the kinds {', '.join(kinds)}), each once, "
                f"got {text!r}"
            )
        choice[name] = kind or None
    return choice


@dataclass(frozen=True)
class _Table:
    """A file of attributes as read."""

    path: Path
    lines: list[int]
    ids: list[str]
    columns: dict[str, list[str]]
    """The stripped cells of each chosen column."""

    @classmethod
    def read(cls, path: Path, side: Side, choice: Choice | None, encoding: str | None) -> _Table:
        """Read the ids and the chosen columns.

        Raises:
            ArgumentError: as `read_features`.
        """
        parquet, rows = read_rows(path, "ids and attributes", encoding)
        start, first = next(rows, (1, []))
        if not first:
            raise ArgumentError(f"{path}: expected ids and attributes, got an empty file")
        header, names, id_at = _header(first, side, choice, named=parquet)
        wanted = [name for name, kind in choice.items() if kind != "id"] if choice else []
        of_ids = [name for name, kind in choice.items() if kind == "id"] if choice else []
        if len(of_ids) > 1:
            raise ArgumentError(f"{path}: expected one column of ids, got {', '.join(of_ids)}")
        sources = {name: _source(name, names) for name in wanted}
        for name in (*wanted, *of_ids):
            if sources.get(name, name) not in names:
                what = "names" if header else "numbers from 0, as there is no header"
                raise ArgumentError(f"{path}:{start}: expected one of the columns {names} ({what}), got {name!r}")
        places = {name: names.index(sources.get(name, name)) for name in wanted or names}
        places = {name: place for name, place in places.items() if place != id_at}
        if not places:
            raise ArgumentError(f"{path}:{start}: expected columns of attributes beside the ids, got {names}")
        lines: list[int] = []
        ids: list[str] = []
        columns: dict[str, list[str]] = {name: [] for name in places}
        for line, row in rows if header else chain([(start, first)], rows):
            if len(row) != len(names):
                raise ArgumentError(f"{path}:{line}: expected {len(names)} columns, got {len(row)}: {shown(row)}")
            text = row[id_at].strip()
            if not text:
                raise ArgumentError(f"{path}:{line}: {names[id_at]}: expected an id, got nothing")
            lines.append(line)
            ids.append(text)
            for name, place in places.items():
                cell = row[place].strip()
                columns[name].append(cell if name in names else _DERIVED[name.rpartition(".")[2]](cell))
        return cls(path, lines, ids, columns)

    def fit(self, name: str, kind: FeatureKind | None, texts: Sequence[str]) -> tuple[FeatureColumn | None, int]:
        """Learn a column from some of its cells; see `fit_column`."""
        if kind == "number":
            self.check_numbers(name, self.columns[name])
        return fit_column(name, kind, texts)

    def check_numbers(self, name: str, texts: Sequence[str]) -> None:
        """Check that a column holds numbers, with the line of the first cell that does not."""
        for line, text in zip(self.lines, texts, strict=True):
            try:
                if text:
                    parse_number(text)
            except ValueError:
                raise ArgumentError(f"{self.path}:{line}: {name}: expected a number, got {shown(text)}") from None


def _header(first: Sequence[str], side: Side, choice: Choice | None, *, named: bool) -> tuple[bool, list[str], int]:
    """Detect whether the first row names the columns; return the names, positions without a header, and the ids' place.

    It does if it is `named`, has a name of ids, or one of the chosen names that is not a number. The ids are in the
    first column unless their name is chosen or detected.
    """
    titles = [cell.strip() for cell in first]
    chosen_id = next((name for name, kind in (choice or {}).items() if kind == "id"), None)
    detected = find_name(titles, (*HEADER_NAMES[side], "id"))
    sources = [_source(name, titles) for name in choice or ()]
    header = named or detected is not None or any(name in titles and not name.isdecimal() for name in sources)
    names = titles if header else [str(place) for place in range(len(first))]
    if chosen_id in names:
        return header, names, names.index(str(chosen_id))
    return header, names, detected or 0


def _source(name: str, names: Sequence[str]) -> str:
    """Give the column that a chosen one is made from: itself, or that before a derived one's ending."""
    stem, _, ending = name.rpartition(".")
    return stem if name not in names and ending in _DERIVED else name


def _year(title: str) -> str:
    """Find the year in brackets at the end of a title, such as `Alien (1979)`."""
    found = _YEAR.search(title)
    return found[1] if found else ""


def _words(title: str) -> str:
    """Give the distinct words of a title, without a year at its end, as values of a multi-valued column."""
    return SEPARATOR.join(dict.fromkeys(_WORD.findall(_YEAR.sub("", title).casefold())))


_YEAR = re.compile(r"\((\d{4})\)\W*$")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_DERIVED: Mapping[str, Callable[[str], str]] = {"year": _year, "words": _words}
"""What can be made from a column of titles, by the ending of its name."""


def _listed(ids: ExternalIds) -> list[Any]:
    return ids.tolist() if isinstance(ids, np.ndarray) else ids

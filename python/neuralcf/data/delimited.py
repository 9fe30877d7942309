"""Interactions from text files: one line an interaction, its columns separated by a tab, `,`, `;` or `::`.

Recognised without being told: MovieLens' `u.data` and `ratings.dat` (no header: user, item, rating, timestamp),
`ratings.csv` (a header), files of two or three columns (user, item, rating), all of them compressed with gzip or not.
UTF-8, with or without a byte order mark. What cannot be understood is an error that tells the line; nothing is skipped
in silence but empty lines.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Final, TextIO

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.interactions import Dataset
from neuralcf.errors import ArgumentError

__all__ = ["ReadReport", "read_delimited"]

DELIMITERS: Final = ("::", "\t", ";", ",")
FIELDS: Final = ("user", "item", "rating", "timestamp")
HEADER_NAMES: Final = {
    "user": {"user", "userid", "uid", "user_idx"},
    "item": {"item", "itemid", "iid", "movieid", "movie", "productid", "trackid", "bookid", "asin"},
    "rating": {"rating", "ratings", "score", "stars"},
    "timestamp": {"timestamp", "time", "ts", "unixtime", "datetime"},
}
"""Names of columns in a header, in lower case and without `_`, `-` and spaces."""


@dataclass(frozen=True)
class ReadReport:
    """What became of the lines of a file."""

    rows: int
    """Interactions in the file."""

    below_threshold: int
    """... of which this many were rated below `min_rating` and left out."""

    duplicates: int
    """... and this many of the rest repeat an earlier interaction of the same user and item and were left out."""

    delimiter: str
    """The separator in use."""

    columns: tuple[str, ...]
    """What was read, by name (in a file with a header) or by position from 0, such as `user=userId`."""


def read_delimited(
    path: str | PathLike[str],
    *,
    user: str | int | None = None,
    item: str | int | None = None,
    rating: str | int | None = None,
    timestamp: str | int | None = None,
    min_rating: float | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
) -> tuple[Dataset, ReadReport]:
    """Read interactions.

    Each line counts as an interaction; with `min_rating` only those rated at least so high. A user and an item count
    once: the first by time is kept, or the first in the file where there are no timestamps. Ids that are all integers,
    written plainly (`7`, not `007`), become int64; others stay strings.

    Args:
        path: the file; gzip is recognised by its first bytes.
        user: the column of the users, by name in the header or by position from 0; recognised when None.
        item: the column of the items, likewise.
        rating: the column of the ratings, likewise; it need not exist.
        timestamp: the column of the timestamps, numbers, likewise; it need not exist.
        min_rating: the least rating that counts as an interaction.
        delimiter: the separator; recognised in the first line when None.
        header: whether the first line names the columns; recognised when None.

    Raises:
        ArgumentError: no such column, a bad line, or nothing left; the message names the file and the line.
        OSError: the file cannot be read.
    """
    path = Path(path)
    if delimiter == "":
        raise ArgumentError("delimiter: expected at least one character, got an empty string")
    with _open_text(path) as file:
        lines = enumerate(file, start=1)
        first = next((line for _, line in lines if line.strip()), None)
        if first is None:
            raise ArgumentError(f"{path}: expected interactions, got an empty file")
        if delimiter is None:
            delimiter = _recognise_delimiter(path, first)
        file.seek(0)
        rows = _rows(path, file, delimiter)
        first_line, first_row = next(rows)
        layout = _Layout.recognise(
            path, first_row, {"user": user, "item": item, "rating": rating, "timestamp": timestamp}, header
        )
        if min_rating is not None and layout.rating is None:
            raise ArgumentError(f"{path}: min_rating: expected a column of ratings, got columns {layout.described()}")
        columns = _Columns(path, layout, min_rating)
        if not layout.header:
            columns.append(first_line, first_row)
        for line, row in rows:
            columns.append(line, row)
    return columns.finish(delimiter)


@dataclass(frozen=True)
class _Layout:
    """Which column holds what, by position."""

    header: bool
    names: tuple[str, ...]
    """The columns' names, or their positions in a file without a header."""
    user: int
    item: int
    rating: int | None
    timestamp: int | None

    @property
    def width(self) -> int:
        return len(self.names)

    def described(self) -> tuple[str, ...]:
        places = ((field, getattr(self, field)) for field in FIELDS)
        return tuple(f"{field}={self.names[place]}" for field, place in places if place is not None)

    @classmethod
    def recognise(
        cls, path: Path, first: Sequence[str], wanted: dict[str, str | int | None], header: bool | None
    ) -> _Layout:
        recognised = {field: _find_name(first, field) for field in FIELDS}
        if header is None:
            named = any(isinstance(column, str) for column in wanted.values())
            header = named or any(place is not None for place in recognised.values())
        if not header:
            # Without names, the usual order; of more than four columns the caller must say which.
            usual = len(first) <= len(FIELDS) and all(column is None for column in wanted.values())
            recognised = {field: n if usual and n < len(first) else None for n, field in enumerate(FIELDS)}
        names = tuple(first) if header else tuple(str(n) for n in range(len(first)))
        places = {
            field: recognised[field] if column is None else _place(path, field, column, names, header)
            for field, column in wanted.items()
        }
        for field in ("user", "item"):
            if places[field] is None:
                raise ArgumentError(
                    f"{path}: expected a column of {field}s, recognised none among {list(first)}; "
                    f"pass {field}= with its {'name or ' if header else ''}position"
                )
        used = [place for place in places.values() if place is not None]
        if len(set(used)) < len(used):
            raise ArgumentError(f"{path}: expected a column of its own for each field, got {places}")
        user, item = places["user"], places["item"]
        assert user is not None
        assert item is not None
        return cls(header, names, user, item, places["rating"], places["timestamp"])


def _find_name(first: Sequence[str], field: str) -> int | None:
    for place, name in enumerate(first):
        if name.strip().lower().replace("_", "").replace("-", "").replace(" ", "") in HEADER_NAMES[field]:
            return place
    return None


def _place(path: Path, field: str, column: str | int, names: tuple[str, ...], header: bool) -> int:
    if isinstance(column, str):
        if not header or column not in names:
            raise ArgumentError(f"{path}: {field}: expected one of the columns {list(names)}, got {column!r}")
        return names.index(column)
    if not 0 <= column < len(names):
        raise ArgumentError(f"{path}: {field}: expected a position from 0 to {len(names) - 1}, got {column}")
    return column


class _Columns:
    """The columns as they are read: compact, each value checked as it comes."""

    def __init__(self, path: Path, layout: _Layout, min_rating: float | None) -> None:
        self.path = path
        self.layout = layout
        self.min_rating = min_rating
        self.rows = 0
        self.below = 0
        self.user_index: dict[str, int] = {}
        self.item_index: dict[str, int] = {}
        self.users = array("q")
        self.items = array("q")
        self.timestamps = array("d")

    def append(self, line: int, row: Sequence[str]) -> None:
        layout = self.layout
        if len(row) != layout.width:
            raise ArgumentError(f"{self.path}:{line}: expected {layout.width} columns, got {len(row)}: {list(row)}")
        user, item = row[layout.user].strip(), row[layout.item].strip()
        if not user or not item:
            raise ArgumentError(f"{self.path}:{line}: {'item' if user else 'user'}: expected an id, got nothing")
        self.rows += 1
        rating = None if layout.rating is None else self._number(line, "rating", row[layout.rating])
        time = None if layout.timestamp is None else self._number(line, "timestamp", row[layout.timestamp])
        if self.min_rating is not None and rating is not None and rating < self.min_rating:
            self.below += 1
            return
        self.users.append(self.user_index.setdefault(user, len(self.user_index)))
        self.items.append(self.item_index.setdefault(item, len(self.item_index)))
        if time is not None:
            self.timestamps.append(time)

    def _number(self, line: int, field: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            hint = " (if this line names the columns, pass header=True)" if self.rows == 1 else ""
            raise ArgumentError(f"{self.path}:{line}: {field}: expected a number, got {text!r}{hint}")
        return value

    def finish(self, delimiter: str) -> tuple[Dataset, ReadReport]:
        if not self.users:
            raise ArgumentError(
                f"{self.path}: expected interactions, got {self.rows} rows, {self.below} of them rated below min_rating"
            )
        users = np.frombuffer(self.users, dtype=np.int64)
        items = np.frombuffer(self.items, dtype=np.int64)
        times = None if self.layout.timestamp is None else np.frombuffer(self.timestamps, dtype=np.float64)
        kept = _first_of_each_pair(users, items, times)
        dataset = Dataset.from_ids(
            self._ids("user", self.user_index)[users[kept]],
            self._ids("item", self.item_index)[items[kept]],
            None if times is None else _as_integers(times[kept]),
        )
        duplicates = len(users) - len(kept)
        return dataset, ReadReport(self.rows, self.below, duplicates, delimiter, self.layout.described())

    def _ids(self, field: str, index: dict[str, int]) -> NDArray[np.int64] | NDArray[np.object_]:
        """Give the distinct ids as int64 where all of them are integers, as strings otherwise."""
        texts = list(index)
        integers = [_is_integer(text) for text in texts]
        if all(integers):
            return np.array(texts, dtype=np.int64)
        if not self.layout.header and len(texts) > 2 and not integers[0] and all(integers[1:]):
            raise ArgumentError(
                f"{self.path}: {field}: the first line has {texts[0]!r} where all others have an integer; "
                "pass header=True if it names the columns, header=False if it is an interaction"
            )
        return np.array(texts, dtype=object)


def _is_integer(text: str) -> bool:
    """Tell whether the text is an int64 as Python writes it, so that reading it as a number loses nothing."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
        return False
    return str(int(text)) == text and -(2**63) <= int(text) < 2**63


def _first_of_each_pair(
    users: NDArray[np.int64], items: NDArray[np.int64], times: NDArray[np.float64] | None
) -> NDArray[np.int64]:
    """Give the positions, ascending, of the first interaction by time of each user and item; ties by position."""
    keys = users * (items.max() + 1) + items
    order = np.arange(keys.size) if times is None else np.argsort(times, kind="stable")
    _, first = np.unique(keys[order], return_index=True)  # the first occurrence
    return np.sort(order[first])


def _as_integers(times: NDArray[np.float64]) -> NDArray[np.int64] | NDArray[np.float64]:
    whole = np.abs(times) < 2**53
    if whole.all() and (times == np.floor(times)).all():
        return times.astype(np.int64)
    return times


@contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    with path.open("rb") as probe:
        compressed = probe.read(2) == b"\x1f\x8b"
    with gzip.open(path) if compressed else path.open("rb") as raw:
        file = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
        try:
            yield file
        except UnicodeDecodeError as error:
            raise ArgumentError(f"{path}: expected UTF-8 text: {error}") from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ArgumentError(f"{path}: damaged gzip file: {error}") from error


def _recognise_delimiter(path: Path, line: str) -> str:
    for delimiter in DELIMITERS:
        if delimiter in line:
            return delimiter
    raise ArgumentError(f"{path}:1: expected columns separated by a tab, ',', ';' or '::', got {line.strip()[:80]!r}")


def _rows(path: Path, file: TextIO, delimiter: str) -> Iterator[tuple[int, Sequence[str]]]:
    """Give the lines that are not empty, split, each with its number from 1."""
    if len(delimiter) > 1:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.rstrip("\r\n").split(delimiter)
        return
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise ArgumentError(f"{path}:{reader.line_num}: {error}") from error

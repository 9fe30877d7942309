"""The raw table: what every reader returns, an Arrow table of ids as read, with the place of each row in its source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neuralcf.data.readers.columns import Columns
from neuralcf.errors import ArgumentError, argument

__all__ = ["BadRows", "OnBadRows", "Places", "RawTable", "Reading"]

OnBadRows: TypeAlias = Literal["raise", "report"]


@dataclass(frozen=True)
class Reading:
    """How to read a source, beside the choice of its columns."""

    delimiter: str | None = None
    """The delimiter of a text file; detected if None."""
    header: bool | None = None
    """Whether the first line of a text file names the columns; detected if None."""
    encoding: str | None = None
    """The encoding of a text file without a byte order mark; UTF-8 if None."""
    text_ids: bool = False
    """Whether all ids are text."""
    ratings_count: bool = True
    """Whether ratings matter; if not, a rating that is not a number is no error."""
    on_bad_rows: OnBadRows = "raise"


class BadRows:
    """Rows that cannot be parsed: the first one raises, or all are counted and described.

    Args:
        on_bad_rows: `raise` or `report`.
        where: formats a place in the source, such as `ratings.csv:7`.
    """

    MOST_SENTENCES = 1000

    def __init__(self, on_bad_rows: OnBadRows, where: Callable[[int], str]) -> None:
        if on_bad_rows not in ("raise", "report"):
            raise ArgumentError(f"{argument('on_bad_rows')}: expected 'raise' or 'report', got {on_bad_rows!r}")
        self.on_bad_rows: OnBadRows = on_bad_rows
        self.raises = on_bad_rows == "raise"
        self.where = where
        self.places: list[int] = []
        self.sentences: list[str] = []
        self.missing = 0

    def add(self, place: int, problem: str, *, missing: bool = False) -> None:
        """Raise or count a bad row.

        Args:
            place: its line from 1, or its position in a table from 0.
            problem: what was expected and what was found.
            missing: whether a value is missing, rather than invalid.

        Raises:
            ArgumentError: under `on_bad_rows="raise"`.
        """
        sentence = f"{self.where(place)}: {problem}"
        if self.raises:
            raise ArgumentError(sentence)
        self.places.append(place)
        self.missing += missing
        if len(self.sentences) < self.MOST_SENTENCES:
            self.sentences.append(sentence)


class Places:
    """The place of each row in its source: a line or a position.

    Stored in runs of rows. Most runs are consecutive, and the place of their first row is enough.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []  # the first row of each run
        self._runs: list[int | NDArray[np.int64]] = []  # the place of its first row, or the places of all its rows
        self._rows = 0

    def append(self, run: int | NDArray[np.int64], rows: int) -> None:
        """Append a run of `rows` rows: the place of the first one if consecutive, else all places, int64 [rows]."""
        if rows:
            self._starts.append(self._rows)
            self._runs.append(run)
            self._rows += rows

    def at(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of rows, int64 [n]."""
        runs = np.searchsorted(self._starts, rows, side="right") - 1
        places = np.empty(rows.size, dtype=np.int64)
        for run in np.unique(runs).tolist():
            here = runs == run
            within, places_of_run = rows[here] - self._starts[run], self._runs[run]
            places[here] = places_of_run + within if isinstance(places_of_run, int) else places_of_run[within]
        return places


@dataclass(frozen=True)
class RawTable:
    """Interactions as read: bad rows are gone, thresholds and duplicates are not yet applied."""

    source: str
    """Name of the source, for messages."""

    table: pa.Table
    """Columns `user` and `item` (dictionary-encoded int64 or strings), `rating` and `weight` (float64),
    `timestamp` (int64 or float64) and `event` (dictionary-encoded strings); all but the first two are optional. No
    nulls; NaN only among ratings that do not count."""

    places: Places
    bad: BadRows
    columns: Columns
    """The columns of the source, and which of them were read."""

    delimiter: str | None
    """The delimiter of a text file, `JSON`, or None for tables."""

    notes: tuple[str, ...] = ()
    """What was guessed or passed over, for the user to know."""

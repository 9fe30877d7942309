"""What every source of interactions becomes before it is indexed: an Arrow table, and where its rows came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neuralcf.errors import ArgumentError

__all__ = ["BadRows", "OnBadRows", "Places", "RawTable"]

OnBadRows: TypeAlias = Literal["raise", "report"]


class BadRows:
    """Rows that cannot be understood: the first one raises, or all are counted and described.

    Args:
        on_bad_rows: `raise` or `report`.
        where: gives the text that names a place in the source, such as `ratings.csv:7`.
    """

    MOST_SENTENCES = 1000

    def __init__(self, on_bad_rows: OnBadRows, where: Callable[[int], str]) -> None:
        if on_bad_rows not in ("raise", "report"):
            raise ArgumentError(f"on_bad_rows: expected 'raise' or 'report', got {on_bad_rows!r}")
        self.raises = on_bad_rows == "raise"
        self.where = where
        self.places: list[int] = []
        self.sentences: list[str] = []
        self.missing = 0

    def add(self, place: int, problem: str, *, missing: bool = False) -> None:
        """Count a row.

        Args:
            place: its line, from 1, or its position in a table, from 0.
            problem: what was expected and what was there.
            missing: whether a value is absent, rather than wrong.

        Raises:
            ArgumentError: the first bad row is to be raised.
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

    Rows come in runs. In most runs the places are consecutive, and one number tells them all.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []  # the first row of each run
        self._runs: list[int | NDArray[np.int64]] = []  # its place, or the places of all its rows
        self._rows = 0

    def append(self, run: int | NDArray[np.int64], rows: int) -> None:
        """Add a run of `rows` rows: the place of the first of consecutive ones, or all places, int64 [rows]."""
        if rows:
            self._starts.append(self._rows)
            self._runs.append(run)
            self._rows += rows

    def at(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the places of rows, int64 [n]."""
        runs = np.searchsorted(self._starts, rows, side="right") - 1
        places = np.empty(rows.size, dtype=np.int64)
        for run in np.unique(runs).tolist():
            here = runs == run
            within, places_of_run = rows[here] - self._starts[run], self._runs[run]
            places[here] = places_of_run + within if isinstance(places_of_run, int) else places_of_run[within]
        return places


@dataclass(frozen=True)
class RawTable:
    """Interactions as they were read; every value is there and is what it should be."""

    source: str
    """Its name, for messages."""

    table: pa.Table
    """Columns `user` and `item` (dictionaries of int64 or of strings), `rating` (float64), `timestamp` (int64 or
    float64); the last two may be absent. No nulls, no NaN."""

    places: Places
    bad: BadRows
    columns: tuple[str, ...]
    """What was read, such as `user=userId`."""

    delimiter: str | None
    """The separator of a text file."""

"""From any source of interactions to a data set: read, apply the threshold, drop duplicates, assign dense indices."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neuralcf.data.dataset import Dataset, ExternalIds
from neuralcf.data.readers.columns import Wanted
from neuralcf.data.readers.delimited import read_delimited
from neuralcf.data.readers.raw_table import OnBadRows, RawTable
from neuralcf.data.readers.tables import read_parquet, read_table
from neuralcf.data.readers.text import is_parquet
from neuralcf.errors import ArgumentError

__all__ = ["ReadReport", "read_interactions"]


@dataclass(frozen=True, eq=False)
class ReadReport:
    """Account of every row of a source: `rows` = `bad` + `below_threshold` + `duplicates` + size of the data set."""

    source: str
    """The file, or `table`."""

    rows: int
    """Rows in the source, without the header and blank lines."""

    bad: int
    """Rows that could not be parsed and were skipped; nonzero only with `on_bad_rows="report"`."""

    missing: int
    """Bad rows whose problem is a missing value."""

    bad_lines: NDArray[np.int64]
    """int64 [bad], ascending: line numbers of the bad rows from 1, or in a table their positions from 0."""

    problems: tuple[str, ...]
    """A description of each of the first 1000 bad rows, with file and line."""

    below_threshold: int
    """Rows skipped because they are rated below `min_rating`."""

    duplicates: int
    """Rows skipped because they repeat an interaction of the same user and item."""

    duplicate_lines: NDArray[np.int64]
    """int64 [duplicates], ascending: line numbers or positions of the duplicates."""

    ratings: tuple[float, float] | None
    """The lowest and the highest rating of all good rows; None without a column of ratings."""

    delimiter: str | None
    """The delimiter of a text file; None for tables."""

    columns: tuple[str, ...]
    """The columns that were read, by name or, without a header, by position from 0, such as `user=userId`."""


def read_interactions(
    source: str | PathLike[str] | Any,
    *,
    user: str | int | None = None,
    item: str | int | None = None,
    rating: str | int | None = None,
    timestamp: str | int | None = None,
    weight: str | int | None = None,
    min_rating: float | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    on_bad_rows: OnBadRows = "raise",
) -> tuple[Dataset, ReadReport]:
    """Read interactions from a file or a table.

    Each row is an interaction; with `min_rating`, only rows rated at least that high. Each pair of user and item counts
    once: the earliest row is kept, or the first in the source if there are no timestamps. In text, ids become int64 if
    every value of the column is a plain integer (`7`, not `007`), and stay strings otherwise; in tables they keep their
    type. Dates in text become microseconds; timestamps in tables keep their unit.

    Args:
        source: a delimited text file, plain or gzip; a Parquet file; or a pandas, polars or Arrow table. File types are
            detected by content.
        user: the column of users, by name or by position from 0; detected if None.
        item: the column of items, likewise.
        rating: the column of ratings, likewise; optional.
        timestamp: the column of timestamps, likewise; optional.
        weight: the column of weights, numbers above 0, by name or by position; none if None.
        min_rating: the lowest rating that counts as an interaction.
        delimiter: the delimiter of a text file; detected from the first line if None.
        header: whether the first line of a text file names the columns; detected if None.
        on_bad_rows: `raise` raises an error for the first row that cannot be parsed; `report` skips such rows, and
            counts and describes them in the report.

    Raises:
        TypeError: a source that is neither a path nor a table.
        ArgumentError: a missing column, a bad row, or no interactions left; the message names the file and the line.
        OSError: the file cannot be read.
    """
    wanted: Wanted = {"user": user, "item": item, "rating": rating, "timestamp": timestamp, "weight": weight}
    if isinstance(source, str | PathLike) and not is_parquet(Path(source)):
        raw = read_delimited(Path(source), wanted, delimiter=delimiter, header=header, on_bad_rows=on_bad_rows)
    elif delimiter is not None or header is not None:
        raise ArgumentError("delimiter, header: apply to text files only, got a table or a Parquet file")
    elif isinstance(source, str | PathLike):
        raw = read_parquet(Path(source), wanted, on_bad_rows)
    else:
        raw = read_table(source, wanted, on_bad_rows)
    return _index(raw, min_rating)


def _index(raw: RawTable, min_rating: float | None) -> tuple[Dataset, ReadReport]:
    """Apply the threshold, drop duplicates and assign dense indices."""
    table, bad = raw.table, raw.bad
    ratings = table["rating"].to_numpy() if "rating" in table.column_names else None
    if min_rating is not None and ratings is None:
        raise ArgumentError(f"{raw.source}: min_rating: expected a column of ratings, got columns {raw.columns}")
    liked = None if min_rating is None or ratings is None else np.flatnonzero(ratings >= min_rating)
    counted = table.num_rows if liked is None else liked.size
    below = table.num_rows - counted
    if counted == 0:
        raise ArgumentError(
            f"{raw.source}: expected interactions, got {table.num_rows + len(bad.places)} rows, "
            f"{below} of them rated below min_rating and {len(bad.places)} bad"
        )
    users, user_ids = _dense(table["user"], liked)
    items, item_ids = _dense(table["item"], liked)
    times = table["timestamp"].to_numpy() if "timestamp" in table.column_names else None
    if times is not None and liked is not None:
        times = times[liked]
    weights = table["weight"].to_numpy() if "weight" in table.column_names else None
    if weights is not None:
        weights = weights if liked is None else weights[liked]
        _check_weights(raw, weights, liked)
    repeated = _repeated(users, items, len(item_ids), times)
    if repeated.size:
        kept = np.ones(counted, dtype=np.bool_)
        kept[repeated] = False
        users, items, times = users[kept], items[kept], None if times is None else times[kept]
        weights = None if weights is None else weights[kept]
    report = ReadReport(
        source=raw.source,
        rows=table.num_rows + len(bad.places),
        bad=len(bad.places),
        missing=bad.missing,
        bad_lines=np.array(bad.places, dtype=np.int64),
        problems=tuple(bad.sentences),
        below_threshold=below,
        duplicates=repeated.size,
        duplicate_lines=raw.places.at(repeated if liked is None else liked[repeated]),
        ratings=None if ratings is None else (float(ratings.min()), float(ratings.max())),
        delimiter=raw.delimiter,
        columns=raw.columns,
    )
    return Dataset(users, items, times, user_ids, item_ids, weights=weights), report


def _check_weights(raw: RawTable, weights: NDArray[np.float64], which: NDArray[np.int64] | None) -> None:
    """Raise for a weight that is not above 0, as float32; rows `which` of the table, or all of them."""
    wrong = np.flatnonzero(~(weights.astype(np.float32) > 0))
    if wrong.size:
        row = wrong[:1] if which is None else which[wrong[:1]]
        where = raw.bad.where(int(raw.places.at(row)[0]))
        raise ArgumentError(f"{where}: weight: expected a number above 0, got {weights[wrong[0]]:g}")


def _dense(column: pa.ChunkedArray, which: NDArray[np.int64] | None) -> tuple[NDArray[np.int64], ExternalIds]:
    """Assign dense indices to a dictionary-encoded column, or to the rows `which` of it; also return the sorted ids."""
    encoded = column.unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = pa.concat_arrays(encoded.chunks)
    codes = encoded.indices.to_numpy()
    if which is not None:
        codes = codes[which]
    present = np.flatnonzero(np.bincount(codes, minlength=len(encoded.dictionary)))
    ids = encoded.dictionary.take(pa.array(present))
    dense = np.empty(len(encoded.dictionary), dtype=np.int64)
    if pa.types.is_integer(ids.type):
        values = ids.to_numpy()
        order = np.argsort(values)
        dense[present[order]] = np.arange(present.size)
        return dense[codes], values[order]
    texts: list[str] = ids.to_pylist()
    places = sorted(range(len(texts)), key=texts.__getitem__)
    dense[present[places]] = np.arange(present.size)
    return dense[codes], [texts[place] for place in places]


def _repeated(
    users: NDArray[np.int64], items: NDArray[np.int64], num_items: int, times: NDArray[Any] | None
) -> NDArray[np.int64]:
    """Find the duplicates: all but the earliest interaction of each pair, as ascending positions.

    Equal timestamps are ordered by position.
    """
    keys = users * num_items + items
    ordered: NDArray[np.int64] = np.sort(keys)
    twice: NDArray[np.int64] = ordered[1:][ordered[1:] == ordered[:-1]]
    if not twice.size:
        return twice
    suspects = np.flatnonzero(np.isin(keys, twice))
    order = suspects if times is None else suspects[np.argsort(times[suspects], kind="stable")]
    _, first = np.unique(keys[order], return_index=True)
    return np.sort(np.delete(order, first))

"""From any source of interactions to a data set: read, apply the threshold, keep each pair once, index."""

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
    """What became of the rows of a source: `rows` = bad + below the threshold + duplicates + those in the data set."""

    source: str
    """The file, or `table`."""

    rows: int
    """Rows in the source, without a header and blank lines."""

    bad: int
    """Rows that could not be understood; more than none only with `on_bad_rows="report"`."""

    missing: int
    """... and this many of them because a value is missing."""

    bad_lines: NDArray[np.int64]
    """int64 [bad], ascending: their lines from 1, in a table their positions from 0."""

    problems: tuple[str, ...]
    """A sentence for each of the first 1000 of them, with file and line."""

    below_threshold: int
    """Rows rated below `min_rating`, left out."""

    duplicates: int
    """Rows that repeat an interaction of the same user and item, left out."""

    duplicate_lines: NDArray[np.int64]
    """int64 [duplicates], ascending: their lines or positions."""

    ratings: tuple[float, float] | None
    """The least and the greatest rating of all good rows; None where there is no column of ratings."""

    delimiter: str | None
    """The separator in use; None for tables."""

    columns: tuple[str, ...]
    """What was read, by name (where columns have names) or by position from 0, such as `user=userId`."""


def read_interactions(
    source: str | PathLike[str] | Any,
    *,
    user: str | int | None = None,
    item: str | int | None = None,
    rating: str | int | None = None,
    timestamp: str | int | None = None,
    min_rating: float | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    on_bad_rows: OnBadRows = "raise",
) -> tuple[Dataset, ReadReport]:
    """Read interactions from a file or a table.

    Each row counts as an interaction; with `min_rating` only those rated at least so high. A user and an item count
    once: the first by time is kept, or the first in the source where there are no timestamps. In text, ids that are all
    integers, written plainly (`7`, not `007`), become int64, and others stay strings; in tables ids keep their type.
    Timestamps in text that are dates become microseconds; those of tables keep their unit.

    Args:
        source: a delimited text file, plain or gzip; a Parquet file; or a table of pandas, polars or Arrow. Files are
            recognised by what is in them.
        user: the column of the users, by name or by position from 0; recognised when None.
        item: the column of the items, likewise.
        rating: the column of the ratings, likewise; it need not exist.
        timestamp: the column of the timestamps, likewise; it need not exist.
        min_rating: the least rating that counts as an interaction.
        delimiter: the separator of a text file; recognised in the first line when None.
        header: whether the first line of a text file names the columns; recognised when None.
        on_bad_rows: `raise`: the first row that cannot be understood is an error. `report`: such rows are left out,
            counted and described in the report.

    Raises:
        TypeError: neither a path nor a table.
        ArgumentError: no such column, a bad row, or nothing left; the message names the file and the line.
        OSError: the file cannot be read.
    """
    wanted: Wanted = {"user": user, "item": item, "rating": rating, "timestamp": timestamp}
    if isinstance(source, str | PathLike) and not is_parquet(Path(source)):
        raw = read_delimited(Path(source), wanted, delimiter=delimiter, header=header, on_bad_rows=on_bad_rows)
    elif delimiter is not None or header is not None:
        raise ArgumentError("delimiter, header: expected with a text file, got a table or a Parquet file")
    elif isinstance(source, str | PathLike):
        raw = read_parquet(Path(source), wanted, on_bad_rows)
    else:
        raw = read_table(source, wanted, on_bad_rows)
    return _index(raw, min_rating)


def _index(raw: RawTable, min_rating: float | None) -> tuple[Dataset, ReadReport]:
    """Give dense indices to the ids of the interactions that count."""
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
    repeated = _repeated(users, items, len(item_ids), times)
    if repeated.size:
        kept = np.ones(counted, dtype=np.bool_)
        kept[repeated] = False
        users, items, times = users[kept], items[kept], None if times is None else times[kept]
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
    return Dataset(users, items, times, user_ids, item_ids), report


def _dense(column: pa.ChunkedArray, which: NDArray[np.int64] | None) -> tuple[NDArray[np.int64], ExternalIds]:
    """Index a column of dictionaries, some rows of it or all: the place of each row's id among the sorted ids."""
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
    """Give the positions, ascending, of the interactions that are not the first, by time, of their user and item.

    Among equal times the earlier position is the first.
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

"""From any source of interactions to a data set: read, apply the threshold, drop duplicates, assign dense indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neuralcf.data.core import core
from neuralcf.data.dataset import Dataset, ExternalIds, with_text_ids
from neuralcf.data.readers.columns import Wanted
from neuralcf.data.readers.delimited import read_text_rows
from neuralcf.data.readers.opening import STANDARD_INPUT, open_input
from neuralcf.data.readers.raw_table import BadRows, OnBadRows, Places, RawTable, Reading
from neuralcf.data.readers.tables import read_stored_table, read_table
from neuralcf.errors import ArgumentError, Message, argument

__all__ = ["ReadReport", "of_one_type", "read_interactions"]


@dataclass(frozen=True, eq=False)
class ReadReport:
    """Account of every row of a source.

    `rows` = `bad` + `below_threshold` + `dislikes` + `weightless` + `duplicates` + `below_core` + size of the data set.
    """

    source: str
    """The file, or `table`."""

    rows: int
    """Rows in the source, without the header, blank lines and comments above the table."""

    bad: int
    """Rows that could not be parsed and were skipped; nonzero only with `on_bad_rows="report"`."""

    missing: int
    """Bad rows whose problem is a missing value."""

    bad_lines: NDArray[np.int64]
    """int64 [bad], ascending: line numbers of the bad rows from 1, or in a table their positions from 0; of several
    files one file after the other."""

    problems: tuple[Message, ...]
    """A description of each of the first 1000 bad rows, with file and line."""

    below_threshold: int
    """Rows skipped because they are rated below `min_rating`, and are no dislikes."""

    dislikes: int
    """Rows rated below `dislike_below` that are kept as dislikes."""

    weightless: int
    """Rows skipped because their event has the weight 0."""

    duplicates: int
    """Rows skipped because they repeat an interaction of the same user and item."""

    duplicate_lines: NDArray[np.int64]
    """int64 [duplicates]: line numbers or positions of the duplicates, ascending within a file."""

    below_core: int
    """Interactions left out because their user or item has fewer than `min_user` or `min_item`."""

    ratings: tuple[float, float] | None
    """The lowest and the highest rating of all good rows; None without any."""

    unrated: int
    """Good rows without a rating, or with one that is not a number; nonzero only without `min_rating`."""

    delimiter: str | None
    """The delimiter of a text file, `JSON`, or None for tables."""

    columns: tuple[str, ...]
    """The columns that were read, by name or, without a header, by position from 0, such as `user=userId`."""

    passed_over: tuple[str, ...]
    """The columns that were not read."""

    notes: tuple[str, ...]
    """What was guessed, for the user to know."""


def read_interactions(
    source: str | PathLike[str] | Sequence[str | PathLike[str]] | Any,
    *,
    user: str | int | None = None,
    item: str | int | None = None,
    rating: str | int | None = None,
    timestamp: str | int | None = None,
    weight: str | int | None = None,
    event: str | int | None = None,
    event_weights: Mapping[str, float] | None = None,
    repeats: Literal["first", "sum"] | None = None,
    min_rating: float | None = None,
    dislike_below: float | None = None,
    min_user: int = 1,
    min_item: int = 1,
    delimiter: str | None = None,
    header: bool | None = None,
    encoding: str | None = None,
    text_ids: bool = False,
    on_bad_rows: OnBadRows = "raise",
) -> tuple[Dataset, ReadReport]:
    """Read interactions from a file, several files, or a table.

    Each row is an interaction; with `min_rating`, only rows rated at least that high. With `dislike_below`, rows rated
    lower are dislikes, unless another row makes them interactions, or their user or item has none. Each pair of user
    and item counts once: the earliest row is kept, or the first in the source if there are no timestamps. In text, ids
    become int64 if every value of the column is a plain integer (`7`, not `007`), and stay strings otherwise; in tables
    they keep their type. Dates in text become microseconds; timestamps in tables keep their unit.

    Args:
        source: a path, or several; or a pandas, polars or Arrow table. A path is that of a file, of a pipe, of a folder
            whose files are read, or `-`, standard input. Files hold delimited text, JSON (an object on each line, or an
            array of objects), adjacency lists, Parquet or Arrow, plain or compressed; types are detected by content.
        user: the column of users, by name or by position from 0; detected if None.
        item: the column of items, likewise.
        rating: the column of ratings, likewise; optional, `-` if there is none.
        timestamp: the column of timestamps, likewise; optional, `-` if there is none.
        weight: the column of weights, numbers above 0, by name or by position; none if None.
        event: the column of events, such as `view`, likewise; detected if None and `event_weights` are given.
        event_weights: the weight of each event, 0 to leave it out; events that are not named have the weight 1. With a
            column of weights the two are multiplied.
        repeats: the weight of a pair that occurs several times: that of its `first` row, or the `sum` of all; None
            means `sum` if there are weights or events. Without them each row weighs 1.
        min_rating: the lowest rating that counts as an interaction; `dislike_below` if None.
        dislike_below: rows rated below this are `Dataset.dislikes`; at most `min_rating`. None for no dislikes.
        min_user: leave out users with fewer items than this, and
        min_item: items with fewer users than this, in turns until none is left to leave out.
        delimiter: the delimiter of a text file, a space for any blanks; detected from the first lines if None.
        header: whether the first line of a text file names the columns; detected if None.
        encoding: the encoding of text files, such as `latin-1`; a byte order mark counts more; UTF-8 if None.
        text_ids: whether all ids are text, also plain integers.
        on_bad_rows: `raise` raises an error for the first row that cannot be parsed; `report` skips such rows, and
            counts and describes them in the report.

    Raises:
        TypeError: a source that is neither a path nor a table.
        ArgumentError: a missing column, a bad row, or no interactions left; the message names the file and the line.
        OSError: the file cannot be read.
    """
    wanted: Wanted = {"user": user, "item": item, "rating": rating, "timestamp": timestamp, "weight": weight}
    if event is not None or event_weights is not None:
        wanted["event"] = event
    if repeats not in (None, "first", "sum"):
        raise ArgumentError(f"{argument('repeats')}: expected 'first' or 'sum', got {repeats!r}")
    if dislike_below is not None and min_rating is not None and dislike_below > min_rating:
        raise ArgumentError(
            f"{argument('dislike_below')}: expected at most {argument('min_rating')}, {min_rating:g}, got "
            f"{dislike_below:g}"
        )
    min_rating = dislike_below if min_rating is None else min_rating
    reading = Reading(delimiter, header, encoding, text_ids, min_rating is not None, on_bad_rows)
    thresholds = min_rating, dislike_below
    if isinstance(source, str | PathLike):
        paths = _files_of(source)
    elif isinstance(source, list | tuple) and source and all(isinstance(each, str | PathLike) for each in source):
        paths = [file for each in source for file in _files_of(each)]
    else:
        if delimiter is not None or header is not None or encoding is not None:
            raise ArgumentError(
                f"{argument('delimiter')}, {argument('header')}, {argument('encoding')}: apply to text files only, got "
                "a table"
            )
        return _index(read_table(source, wanted, reading), thresholds, event_weights, repeats, (min_user, min_item))
    raws: list[RawTable] = []
    for path in paths:
        with open_input(path) as opened:
            if opened.kind == "text":
                raws.append(read_text_rows(opened, wanted, reading, raws[-1].columns if raws else None))
                continue
            if delimiter is not None or header is not None:
                raise ArgumentError(
                    f"{path}: {argument('delimiter')}, {argument('header')}: apply to text files only, got "
                    f"{opened.kind.capitalize()}"
                )
            raws.append(read_stored_table(opened, wanted, reading))
    return _index(joined(raws), thresholds, event_weights, repeats, (min_user, min_item))


def _files_of(path: str | PathLike[str]) -> list[str | PathLike[str]]:
    """Return the path, or the files in a folder, in order, without hidden ones and those that begin with `_`."""
    if path == STANDARD_INPUT or not path or "\0" in str(path) or not Path(path).is_dir():
        return [path]
    folder = Path(path)
    files: list[str | PathLike[str]] = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
    ]
    if not files:
        raise ArgumentError(f"{path}: expected a file or a folder of files, got a folder without any")
    return files


def joined(raws: Sequence[RawTable]) -> RawTable:
    """Join the interactions of several files.

    Raises:
        ArgumentError: files that differ in their kinds of columns, or tables in the types of their ids.
    """
    first = raws[0]
    if len(raws) == 1:
        return first
    for raw in raws[1:]:
        if raw.columns.places.keys() != first.columns.places.keys():
            described = [", ".join(each.columns.described()) for each in (first, raw)]
            raise ArgumentError(
                f"{raw.source}: expected the columns {described[0]} as in {first.source}, got {described[1]}"
            )
    tables = []
    for field in first.table.column_names:
        columns = [raw.table[field] for raw in raws]
        if field in ("user", "item"):
            columns = _of_one_type(field, raws, columns)
        elif field == "timestamp":
            if any(column.type == pa.float64() for column in columns):
                columns = [column.cast(pa.float64(), safe=False) for column in columns]
        elif field == "event":
            columns = [_plain(column).cast(pa.large_string()) for column in columns]
        chunks = [chunk for column in columns for chunk in column.chunks]
        tables.append(pa.chunked_array(chunks, type=columns[0].type))
    tables = [
        column.dictionary_encode() if name in ("user", "item", "event") else column
        for name, column in zip(first.table.column_names, tables, strict=True)
    ]
    bad = BadRows(first.bad.on_bad_rows, first.bad.where)
    places = Places()
    for raw in raws:
        places.append(raw.places.at(np.arange(raw.table.num_rows)), raw.table.num_rows)
        bad.places += raw.bad.places
        bad.sentences += raw.bad.sentences
        bad.missing += raw.bad.missing
    notes = dict.fromkeys(note for raw in raws for note in raw.notes)
    return replace(
        first,
        source=f"{first.source} and {len(raws) - 1} more",
        table=pa.table(dict(zip(first.table.column_names, tables, strict=True))),
        places=places,
        bad=bad,
        notes=tuple(notes),
    )


def of_one_type(*parts: tuple[Dataset, ReadReport], sides: Sequence[str] = ("user", "item")) -> tuple[Dataset, ...]:
    """Give the ids of data sets from several files one type: text if any of them has text.

    In text, a file's own content told the type, so its integers can be turned back; in tables they cannot.

    Raises:
        ArgumentError: integer ids of a table, and text elsewhere.
    """
    datasets = [dataset for dataset, _ in parts]
    for side in sides:
        all_ids = [getattr(dataset, f"{side}_ids") for dataset in datasets]
        texts = next((n for n, ids in enumerate(all_ids) if isinstance(ids, list)), None)
        if texts is None:
            continue
        for n, (ids, (_, report)) in enumerate(zip(all_ids, parts, strict=True)):
            if not isinstance(ids, list) and report.delimiter is None:
                raise ArgumentError(
                    f"{report.source}: {side}: expected text as in {parts[texts][1].source}, such as "
                    f"{all_ids[texts][0]!r}, got integers, such as {ids[0]}; pass {argument('text_ids', True)} to "
                    "read all ids as text"
                )
            datasets[n] = with_text_ids(datasets[n], side)
    return tuple(datasets)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type)


def _of_one_type(field: str, raws: Sequence[RawTable], columns: Sequence[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
    """Decode the ids of several files, as text if any of them are."""
    plain = [_plain(column) for column in columns]
    integers = [pa.types.is_integer(column.type) for column in plain]
    if all(integers):
        return plain
    for raw, column, integer in zip(raws, plain, integers, strict=True):
        if integer and raw.delimiter is None and len(column):
            other = integers.index(False)
            raise ArgumentError(
                f"{raw.source}: {field}: expected text as in {raws[other].source}, such as "
                f"{plain[other][0].as_py()!r}, got integers, such as {column[0].as_py()}; pass "
                f"{argument('text_ids', True)} to read all ids as text"
            )
    return [column.cast(pa.large_string()) for column in plain]


def _index(
    raw: RawTable,
    thresholds: tuple[float | None, float | None],
    event_weights: Mapping[str, float] | None,
    repeats: str | None,
    least: tuple[int, int],
) -> tuple[Dataset, ReadReport]:
    """Apply the thresholds, drop duplicates and assign dense indices."""
    table, bad, (min_rating, dislike_below) = raw.table, raw.bad, thresholds
    threshold = "min_rating" if dislike_below is None else "dislike_below"
    ratings = table["rating"].to_numpy() if "rating" in table.column_names else None
    if min_rating is not None and ratings is None:
        raise ArgumentError(
            f"{raw.source}: {argument(threshold)}: expected a column of ratings, got columns "
            f"{raw.columns.described()}, not read: {list(raw.columns.passed_over)}"
        )
    kept = np.ones(table.num_rows, dtype=np.bool_)
    if min_rating is not None and ratings is not None:
        kept &= ratings >= min_rating
    below = table.num_rows - int(kept.sum())
    disliked = np.zeros(table.num_rows, np.bool_)
    if dislike_below is not None and ratings is not None:
        disliked = ratings < dislike_below
    weights = table["weight"].to_numpy() if "weight" in table.column_names else None
    if event_weights is not None:
        of_events = _event_weights(raw, event_weights)
        kept &= of_events > 0
        disliked &= of_events > 0
        weights = of_events if weights is None else of_events * weights
    counted = int(kept.sum())
    weightless = table.num_rows - below - counted
    if counted == 0:
        rows = table.num_rows + len(bad.places)
        what = (
            f"{rows} rows" if rows else "no rows, but the header" if raw.columns.header and raw.delimiter else "no rows"
        )
        if min_rating is not None and rows:
            what += f", {below} of them rated below {argument(threshold)}"
        if weightless:
            what += f", {weightless} of events with the weight 0"
        if bad.sentences:
            what += f", {len(bad.places)} bad, such as {bad.sentences[0]}"
        raise ArgumentError(f"{raw.source}: expected interactions, got {what}")
    which = None if counted == table.num_rows else np.flatnonzero(kept)
    del kept
    users, user_ids = _dense(table["user"], which)
    items, item_ids = _dense(table["item"], which)
    times = table["timestamp"].to_numpy() if "timestamp" in table.column_names else None
    if times is not None and which is not None:
        times = times[which]
    if weights is not None:
        weights = weights if which is None else weights[which]
        _check_weights(raw, weights, which)
    repeated = _repeated(users, items, len(item_ids), times)
    if repeats == "sum" or (repeats is None and weights is not None):
        weights = _summed(users * len(item_ids) + items, np.ones(counted) if weights is None else weights)
    if repeated.size:
        once = np.ones(counted, dtype=np.bool_)
        once[repeated] = False
        users, items, times = users[once], items[once], None if times is None else times[once]
        weights = None if weights is None else weights[once]
    dataset = Dataset(users, items, times, user_ids, item_ids, weights=weights)  # type: ignore[arg-type]  # made float32
    whole = len(dataset)
    if least != (1, 1):
        dataset = core(dataset, *least)
    if disliked.any():
        dataset = dataset.with_dislikes(_pairs_at(table, np.flatnonzero(disliked)))
    dislikes = 0 if dataset.dislikes is None else len(dataset.dislikes)
    rated = ratings
    if ratings is not None and not (finite := np.isfinite(ratings)).all():
        rated = ratings[finite]
    report = ReadReport(
        source=raw.source,
        rows=table.num_rows + len(bad.places),
        bad=len(bad.places),
        missing=bad.missing,
        bad_lines=np.array(bad.places, dtype=np.int64),
        problems=tuple(map(Message, bad.sentences)),
        below_threshold=below - dislikes,
        dislikes=dislikes,
        weightless=weightless,
        duplicates=repeated.size,
        duplicate_lines=raw.places.at(repeated if which is None else which[repeated]),
        below_core=whole - len(dataset),
        ratings=None if rated is None or not rated.size else (float(rated.min()), float(rated.max())),
        unrated=0 if ratings is None or rated is None else ratings.size - rated.size,
        delimiter=raw.delimiter,
        columns=raw.columns.described(),
        passed_over=raw.columns.passed_over,
        notes=raw.notes,
    )
    return dataset, report


def _pairs_at(table: pa.Table, which: NDArray[np.int64]) -> Dataset:
    """Return the pairs of user and item at some rows, with their times."""
    users, user_ids = _dense(table["user"], which)
    items, item_ids = _dense(table["item"], which)
    times = table["timestamp"].to_numpy()[which] if "timestamp" in table.column_names else None
    return Dataset(users, items, times, user_ids, item_ids)


def _event_weights(raw: RawTable, weights: Mapping[str, float]) -> NDArray[np.float64]:
    """Return the weight of the event of each row, float64 [n]."""
    what = f"{raw.source}: {argument('event_weights')}"
    if "event" not in raw.table.column_names:
        raise ArgumentError(
            f"{what}: expected a column of events, got columns {raw.columns.described()}, not read: "
            f"{list(raw.columns.passed_over)}; pass it as {argument('event=')}"
        )
    events = raw.table["event"].unify_dictionaries().combine_chunks()
    if isinstance(events, pa.ChunkedArray):
        events = pa.concat_arrays(events.chunks)
    names = [str(name).strip() for name in events.dictionary.to_pylist()]
    for name, weight in weights.items():
        if not 0 <= weight < np.inf:
            raise ArgumentError(f"{what}: {name}: expected a number of at least 0, got {weight}")
        if name not in names:
            known = ", ".join(map(repr, names[:20]))
            raise ArgumentError(f"{what}: expected events of the column, {known}, got {name!r}")
    of_names = np.array([float(weights.get(name, 1)) for name in names])
    return np.asarray(of_names[events.indices.to_numpy()])


def _summed(keys: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each row the sum of the weights of all rows with its key."""
    _, place = np.unique(keys, return_inverse=True)
    return np.asarray(np.bincount(place, weights=weights)[place])


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

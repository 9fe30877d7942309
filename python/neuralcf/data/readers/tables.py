"""Interactions from tables with named columns: Parquet and Arrow files; pandas, polars or Arrow tables in memory."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet

from neuralcf.data.readers.columns import Columns, Wanted
from neuralcf.data.readers.opening import Input
from neuralcf.data.readers.raw_table import BadRows, Places, RawTable, Reading
from neuralcf.data.values import MISSING, date_problem, is_number, parse_date
from neuralcf.errors import ArgumentError

__all__ = ["as_table", "read_stored_table", "read_table", "stored_columns", "text_column"]


def read_stored_table(source: Input, wanted: Wanted, reading: Reading) -> RawTable:
    """Read a Parquet or Arrow file, with the same column types as `read_table`.

    Raises:
        ArgumentError: as `read_table`, and for a damaged file.
        OSError: the file cannot be read.
    """
    columns: Columns | None = None

    def chosen(names: list[str]) -> list[int]:
        nonlocal columns
        columns = Columns.detect(source.name, names, wanted, header=True)
        return list(dict.fromkeys(columns.places.values()))

    table = stored_columns(source, chosen)
    assert columns is not None
    return _take(source.name, table, columns, reading)


def stored_columns(source: Input, chosen: Any) -> pa.Table:
    """Read the columns that `chosen(names)` returns positions of from a Parquet or Arrow file.

    Raises:
        ArgumentError: a damaged file.
        OSError: the file cannot be read.
    """
    try:
        if source.kind == "arrow":
            table = pa.ipc.open_file(source.whole()).read_all()
            return table.select(chosen(table.column_names))
        with pa.parquet.ParquetFile(source.whole()) as file:
            names = list(file.schema_arrow.names)
            places = chosen(names)
            return file.read(columns=[names[place] for place in places])
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ArgumentError(f"{source.name}: damaged {source.kind.capitalize()} file: {error}") from error


def as_table(data: Any) -> pa.Table:
    """Return a pandas, polars or Arrow table, or any object with Arrow's C stream interface, as an Arrow table.

    Raises:
        TypeError: `data` is not a table.
        ArgumentError: a column of several types.
    """
    if not (hasattr(data, "__arrow_c_stream__") or hasattr(data, "__dataframe__") or isinstance(data, dict)):
        hint = "; call its collect()" if type(data).__name__ == "LazyFrame" else ""
        raise TypeError(
            f"expected a path, several paths, or a pandas, polars or Arrow table, got {type(data).__name__}{hint}"
        )
    names = list(map(str, data if isinstance(data, dict) else getattr(data, "columns", [])))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None and not hasattr(data, "column_names"):  # pandas
        raise ArgumentError(f"table: expected one column {twice!r}, got {names.count(twice)}; rename all but one")
    try:
        table = pa.table(data)
    except (pa.ArrowException, ValueError, TypeError, KeyError, AttributeError) as error:
        mixed = re.search("Conversion failed for column (.*) with type object", str(error))
        which = f", got several types in the column {mixed[1]!r}" if mixed else f": {error}"
        raise ArgumentError(f"table: expected columns of one type each{which}") from error
    return table


def read_table(data: Any, wanted: Wanted, reading: Reading) -> RawTable:
    """Read a table in memory; see `as_table`.

    Ids are integers or strings (or categoricals of them); ratings and weights are numbers; timestamps are numbers,
    dates or times, or texts of them.

    Raises:
        TypeError: `data` is not a table.
        ArgumentError: a missing column, a column of the wrong type, or a bad row under `raise`.
    """
    table = as_table(data)
    names = [str(name) for name in table.column_names]
    return _take("table", table, Columns.detect("table", names, wanted, header=True), reading, whole=True)


def _take(source: str, table: pa.Table, columns: Columns, reading: Reading, *, whole: bool = False) -> RawTable:
    """Convert the columns and skip bad rows; `table` has all columns, or just those that are read."""
    read = list(range(columns.width)) if whole else list(dict.fromkeys(columns.places.values()))
    given = {field: table.column(read.index(place)) for field, place in columns.places.items()}
    arrays: dict[str, pa.ChunkedArray] = {}
    problems: dict[str, pa.ChunkedArray] = {}  # for each field, a mask of rows with a missing or invalid value
    for field, column in given.items():
        try:
            if field == "rating" and not reading.ratings_count:
                arrays[field] = _ratings_or_nan(column)
                continue
            arrays[field] = _CONVERT[field](column)
            if field in ("user", "item") and reading.text_ids:
                arrays[field] = arrays[field].cast(pa.large_string())
        except (_WrongTypeError, pa.ArrowException) as error:
            raise ArgumentError(f"{source}: {field}: {error}") from error
        if field != "event":
            problems[field] = _unusable(arrays[field])
    bad = BadRows(reading.on_bad_rows, lambda row: f"{source}[{row}]")
    good = np.ones(table.num_rows, dtype=np.bool_)
    for mask in problems.values():
        good &= ~mask.to_numpy()
    for row in np.flatnonzero(~good).tolist():
        field = next(field for field, mask in problems.items() if mask[row].as_py())
        value = given[field][row].as_py()
        missing = value is None or value != value or str(value) in MISSING
        expected = "an id" if field in ("user", "item") else "a number"
        problem = f"expected {expected}, got {'nothing' if missing else repr(value)}"
        if field == "timestamp" and isinstance(value, str) and not missing:
            problem = date_problem(value)
        bad.add(row, f"{field}: {problem}", missing=missing)
    places = Places()
    if good.all():
        places.append(0, table.num_rows)
    else:
        keep = np.flatnonzero(good)
        places.append(keep, keep.size)
        arrays = {field: column.take(pa.array(keep)) for field, column in arrays.items()}
    for field in {"user", "item", "event"} & arrays.keys():
        arrays[field] = arrays[field].dictionary_encode()
    if "timestamp" in arrays:
        arrays["timestamp"] = _integers_if_exact(arrays["timestamp"])
    return RawTable(source, pa.table(arrays), places, bad, columns, None)


class _WrongTypeError(Exception):
    def __init__(self, expected: str, got: pa.DataType) -> None:
        hint = ""
        if "integers" in expected and pa.types.is_floating(got):
            hint = " (pandas turns integers with missing values into float64; use Int64)"
        elif pa.types.is_list(got) or pa.types.is_large_list(got):
            hint = " (one row for each interaction: pandas and polars have explode)"
        elif pa.types.is_null(got):
            hint = ", which is empty"
        super().__init__(f"expected {expected}, got a column of {got}{hint}")


def text_column(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return a column of text, in whatever form Arrow holds it, as large_string; None for another type."""
    column = _decoded(column)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):  # text of a writer that does not say so
        try:
            return column.cast(pa.large_string())
        except pa.ArrowInvalid:
            raise pa.ArrowInvalid(f"expected UTF-8 text, got other bytes in a column of {kind}") from None
    return None


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the values of a dictionary, also of a view, which Arrow does not decode itself."""
    kind = column.type
    if not pa.types.is_dictionary(kind):
        return column
    values = pa.large_string() if pa.types.is_string_view(kind.value_type) else kind.value_type
    chunks = [
        pa.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary.cast(values)).dictionary_decode()
        for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, type=values)


def _ids(column: pa.ChunkedArray) -> pa.ChunkedArray:
    column = _decoded(column)
    kind = column.type
    if pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0):
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise pa.ArrowInvalid(f"{error}; pass such ids as strings") from error
    texts = text_column(column)
    if texts is None:
        raise _WrongTypeError("integers or strings", kind)
    return texts


def _ratings(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if _is_number(column.type) or pa.types.is_decimal(column.type):
        return column.cast(pa.float64(), safe=False)
    if pa.types.is_boolean(column.type):
        return column.cast(pa.int8()).cast(pa.float64())
    texts = text_column(column)
    if texts is None:
        raise _WrongTypeError("numbers", column.type)
    cells = [None if text is None else text.strip() for text in texts.to_pylist()]
    numbers = [float(cell) if cell is not None and is_number(cell) else None for cell in cells]
    return pa.chunked_array([pa.array(numbers, pa.float64())])


def _ratings_or_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        numbers = _ratings(column).combine_chunks()
        return pa.chunked_array([pc.if_else(pc.fill_null(pc.is_finite(numbers), False), numbers, np.nan)])
    except (_WrongTypeError, pa.ArrowException):
        return pa.chunked_array([np.full(len(column), np.nan)])


def _times(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_date32(column.type):
        return column.cast(pa.timestamp("s")).cast(pa.int64())
    if _is_number(column.type) or pa.types.is_timestamp(column.type) or pa.types.is_date64(column.type):
        return column.cast(pa.float64() if pa.types.is_floating(column.type) else pa.int64())
    if pa.types.is_decimal(column.type):
        return column.cast(pa.float64(), safe=False)
    texts = text_column(column)
    if texts is None:
        raise _WrongTypeError("numbers, dates or times", column.type)
    values = [None if text is None else text.strip() for text in texts.to_pylist()]
    if all(text is None or text in MISSING or is_number(text) for text in values):
        numbers = [float(text) if text is not None and text not in MISSING else None for text in values]
        return pa.chunked_array([pa.array(numbers, pa.float64())])
    dates = [None if text is None else parse_date(text) for text in values]
    return pa.chunked_array([pa.array(dates, pa.int64())])


def _events(column: pa.ChunkedArray) -> pa.ChunkedArray:
    texts = text_column(column)
    if texts is None:
        texts = column.cast(pa.large_string())
    return pc.fill_null(texts, "")


_CONVERT = {
    "user": _ids,
    "item": _ids,
    "rating": _ratings,
    "weight": _ratings,
    "timestamp": _times,
    "event": _events,
}


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def _unusable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Mark values that are null, NaN, infinite or an empty string."""
    if pa.types.is_floating(column.type):
        return pc.invert(pc.fill_null(pc.is_finite(column), False))
    if pa.types.is_large_string(column.type):
        return pc.fill_null(pc.equal(column, ""), True)
    return pc.is_null(column)


def _integers_if_exact(times: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return times.cast(pa.int64())  # a safe cast: rejects fractions and overflow
    except pa.ArrowInvalid:
        return times

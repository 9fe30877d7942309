"""Interactions from tables with named columns: Parquet files, and pandas, polars or Arrow tables in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from neuralcf.data.readers.columns import Columns, Wanted
from neuralcf.data.readers.raw_table import BadRows, OnBadRows, Places, RawTable
from neuralcf.errors import ArgumentError

__all__ = ["read_parquet", "read_table"]


def read_parquet(path: Path, wanted: Wanted, on_bad_rows: OnBadRows) -> RawTable:
    """Read a Parquet file, with the same column types as `read_table`.

    Raises:
        ArgumentError: as `read_table`, and for a damaged file.
        OSError: the file cannot be read.
    """
    try:
        with pa.parquet.ParquetFile(path) as file:
            columns = Columns.detect(str(path), file.schema_arrow.names, wanted, header=True)
            return _take(
                str(path), file.read(columns=[columns.names[n] for n in columns.places.values()]), columns, on_bad_rows
            )
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ArgumentError(f"{path}: damaged Parquet file: {error}") from error


def read_table(data: Any, wanted: Wanted, on_bad_rows: OnBadRows) -> RawTable:
    """Read a table in memory: a pandas, polars or Arrow table, or any object with Arrow's C stream interface.

    Ids are integers or strings (or categoricals of them); ratings and weights are numbers; timestamps are numbers,
    dates or times.

    Raises:
        TypeError: `data` is not a table.
        ArgumentError: a missing column, a column of the wrong type, or a bad row under `raise`.
    """
    if not (hasattr(data, "__arrow_c_stream__") or hasattr(data, "__dataframe__") or isinstance(data, dict)):
        raise TypeError(f"expected a path or a pandas, polars or Arrow table, got {type(data).__name__}")
    try:
        table = pa.table(data)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ArgumentError(f"table: expected columns of one type each: {error}") from error
    return _take("table", table, Columns.detect("table", table.column_names, wanted, header=True), on_bad_rows)


def _take(source: str, table: pa.Table, columns: Columns, on_bad_rows: OnBadRows) -> RawTable:
    """Convert the columns and skip bad rows."""
    arrays: dict[str, pa.ChunkedArray] = {}
    problems: dict[str, pa.ChunkedArray] = {}  # for each field, a mask of rows with a missing or invalid value
    for field, place in columns.places.items():
        convert = {"rating": _ratings, "weight": _ratings, "timestamp": _times}.get(field, _ids)
        try:
            arrays[field] = convert(table[columns.names[place]])
        except (_WrongTypeError, pa.ArrowInvalid) as error:
            raise ArgumentError(f"{source}: {field}: {error}") from error
        problems[field] = _unusable(arrays[field])
    bad = BadRows(on_bad_rows, lambda row: f"{source}[{row}]")
    good = np.ones(table.num_rows, dtype=np.bool_)
    for mask in problems.values():
        good &= ~mask.to_numpy()
    for row in np.flatnonzero(~good).tolist():
        field = next(field for field, mask in problems.items() if mask[row].as_py())
        value = table[columns.names[columns.places[field]]][row].as_py()
        expected = "an id" if field in ("user", "item") else "a number"
        missing = value is None or value == "" or value != value
        bad.add(row, f"{field}: expected {expected}, got {'nothing' if missing else repr(value)}", missing=missing)
    places = Places()
    if good.all():
        places.append(0, table.num_rows)
    else:
        keep = np.flatnonzero(good)
        places.append(keep, keep.size)
        arrays = {field: column.take(pa.array(keep)) for field, column in arrays.items()}
    for field in ("user", "item"):
        arrays[field] = arrays[field].dictionary_encode()
    if "timestamp" in arrays:
        arrays["timestamp"] = _integers_if_exact(arrays["timestamp"])
    return RawTable(source, pa.table(arrays), places, bad, columns.described(), None)


class _WrongTypeError(Exception):
    def __init__(self, expected: str, got: pa.DataType) -> None:
        hint = " (pandas turns integers with missing values into float64; use Int64)" if got == pa.float64() else ""
        super().__init__(f"expected {expected}, got a column of {got}{hint if 'integers' in expected else ''}")


def _ids(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        return column.cast(pa.large_string())
    raise _WrongTypeError("integers or strings", column.type)


def _ratings(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if _is_number(column.type) or pa.types.is_decimal(column.type):
        return column.cast(pa.float64(), safe=False)
    raise _WrongTypeError("numbers", column.type)


def _times(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_date32(column.type):
        return column.cast(pa.int32()).cast(pa.int64())
    if _is_number(column.type) or pa.types.is_timestamp(column.type) or pa.types.is_date64(column.type):
        return column.cast(pa.float64() if pa.types.is_floating(column.type) else pa.int64())
    raise _WrongTypeError("numbers, dates or times", column.type)


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

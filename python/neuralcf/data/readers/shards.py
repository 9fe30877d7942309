"""Parquet files that need not fit in memory, read by row groups into shards of users on disk.

The files are read twice: for the ids and how often each occurs, then to send each pair to the shard of its user. At any
time there are in memory the ids, one row group or one shard, and 8 bytes for each user.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from neuralcf.data.csr import csr_from_pairs
from neuralcf.data.readers.columns import Columns
from neuralcf.data.shards import Shards, shard_file, stored_ids
from neuralcf.errors import ArgumentError

__all__ = ["write_shards"]

_MERGED_ROWS = 1 << 22
_MOST_SHARDS = 500
"""Each is an open file while they are written."""


def write_shards(
    source: str | PathLike[str] | Sequence[str | PathLike[str]],
    folder: str | PathLike[str],
    *,
    user: str | int | None = None,
    item: str | int | None = None,
    rows_per_shard: int = 4_000_000,
) -> Shards:
    """Read Parquet files by row groups and write shards of users.

    Args:
        source: Parquet files, or a folder of them.
        folder: where to write; created if absent, and empty otherwise.
        user: the column of users, by name or by position from 0; detected if None.
        item: the column of items, likewise.
        rows_per_shard: how many rows a shard has, about; what is in memory at a time grows with it.

    Raises:
        ArgumentError: no Parquet files, columns that are missing or neither integers nor strings, a missing value, or a
            folder with files.
        OSError: a file cannot be read or written.
    """
    into = Path(folder)
    into.mkdir(parents=True, exist_ok=True)
    if any(into.iterdir()):
        raise ArgumentError(f"{into}: expected an empty folder for shards, got one with {next(into.iterdir()).name}")
    files = _files(source)
    wanted: dict[str, Any] = {"user": user, "item": item, "rating": "-", "timestamp": "-"}
    counted = [_Counts(), _Counts()]
    for columns in _row_groups(files, wanted):
        for counts, column in zip(counted, columns, strict=True):
            counts.add(column)
    (users, per_user), (items, _) = (counts.sorted() for counts in counted)
    for ids, name in ((users, "users"), (items, "items")):
        np.save(into / f"{name}.npy", stored_ids(ids.to_numpy() if ids.type == pa.int64() else ids.to_pylist()))
    bounds = _bounds(per_user, rows_per_shard)
    np.save(into / "bounds.npy", bounds)
    _scatter(_row_groups(files, wanted), users, items, bounds, into)
    lengths = [
        _sort(into, shard, int(bounds[shard + 1] - bounds[shard]), len(items)) for shard in range(len(bounds) - 1)
    ]
    np.save(into / "indptr.npy", np.concatenate([[0], np.cumsum(np.concatenate(lengths))]))
    return Shards.open(into)


class _Counts:
    """How often each id occurs."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []

    def add(self, column: pa.ChunkedArray) -> None:
        counted = pc.value_counts(column)
        self._tables.append(pa.table({"id": counted.field(0), "count": counted.field(1)}))
        if sum(map(len, self._tables)) > _MERGED_ROWS:
            self._merge()

    def sorted(self) -> tuple[pa.Array, NDArray[np.int64]]:
        """Give the ids, ascending, and their counts."""
        self._merge()
        table = self._tables[0].sort_by("id").combine_chunks()
        return table.column("id").combine_chunks(), table.column("count_sum").to_numpy()

    def _merge(self) -> None:
        parts = [table.rename_columns(["id", "count"]) for table in self._tables]
        merged = pa.concat_tables(parts).group_by("id").aggregate([("count", "sum")])
        self._tables = [merged.select(["id", "count_sum"])]


def _files(source: str | PathLike[str] | Sequence[str | PathLike[str]]) -> list[Path]:
    given = [Path(source)] if isinstance(source, str | PathLike) else [Path(path) for path in source]
    files = [file for path in given for file in (sorted(path.rglob("*.parquet")) if path.is_dir() else [path])]
    if not files:
        raise ArgumentError(f"{given[0]}: expected Parquet files, named *.parquet, got none")
    return files


def _row_groups(files: list[Path], wanted: dict[str, Any]) -> Iterator[tuple[pa.ChunkedArray, pa.ChunkedArray]]:
    """Read the columns of users and items, one row group after the other."""
    types: list[pa.DataType] | None = None
    for path in files:
        try:
            with pa.parquet.ParquetFile(path, memory_map=False) as file:
                names = list(file.schema_arrow.names)
                places = Columns.detect(str(path), names, wanted, header=True).places
                chosen = [names[places[side]] for side in ("user", "item")]
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=chosen)
                    columns = [_checked(path, name, table.column(name)) for name in chosen]
                    types = types or [column.type for column in columns]
                    for name, column, type_ in zip(chosen, columns, types, strict=True):
                        if column.type != type_:
                            raise ArgumentError(f"{path}: {name}: expected {type_}, as before, got {column.type}")
                    yield columns[0], columns[1]
        except pa.ArrowException as error:
            raise ArgumentError(f"{path}: damaged Parquet file: {error}") from error


def _checked(path: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Give ids as int64 or as large strings."""
    if column.null_count:
        raise ArgumentError(f"{path}: {name}: expected a value in every row, got {column.null_count} missing ones")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts = column.cast(pa.large_string())
        if pc.any(pc.match_substring(texts, "\n")).as_py():
            raise ArgumentError(f"{path}: {name}: expected ids without line breaks, got one with a line break")
        return texts
    raise ArgumentError(f"{path}: {name}: expected integers or strings, got {column.type}")


def _bounds(per_user: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Cut the users into ranges of about so many rows, at most `_MOST_SHARDS`; int64 [S + 1]."""
    ends = np.cumsum(per_user)
    rows = max(rows, -(-int(ends[-1]) // _MOST_SHARDS))
    cuts = np.searchsorted(ends, np.arange(rows, ends[-1], rows))
    return np.unique(np.concatenate([[0], cuts, [per_user.size]])).astype(np.int64)


def _scatter(
    groups: Iterator[tuple[pa.ChunkedArray, pa.ChunkedArray]],
    users: pa.Array,
    items: pa.Array,
    bounds: NDArray[np.int64],
    into: Path,
) -> None:
    """Append each pair, as two int32, to the file of its user's shard."""
    with ExitStack() as opened:
        files = [opened.enter_context(_pairs_file(into, shard).open("wb")) for shard in range(len(bounds) - 1)]
        for of_users, of_items in groups:
            rows, columns = (
                pc.index_in(column, value_set=ids).combine_chunks().to_numpy(zero_copy_only=False)
                for column, ids in ((of_users, users), (of_items, items))
            )
            shards = (np.searchsorted(bounds, rows, side="right") - 1).astype(np.uint16)
            order = np.argsort(shards, kind="stable")
            pairs = np.stack([rows[order] - bounds[shards[order]], columns[order]], axis=1).astype(np.int32)
            starts = np.searchsorted(shards[order], np.arange(len(files) + 1))
            for file, start, stop in zip(files, starts, starts[1:], strict=False):
                file.write(pairs[start:stop].tobytes())


def _sort(into: Path, shard: int, num_users: int, num_items: int) -> NDArray[np.int64]:
    """Sort the pairs of a shard and drop duplicates; give the number of items of each user."""
    raw = _pairs_file(into, shard)
    pairs = np.fromfile(raw, np.int32).reshape(-1, 2).astype(np.int64)
    indptr, indices = csr_from_pairs(pairs[:, 0], pairs[:, 1], num_users, num_items)
    np.save(shard_file(into, shard), indices)
    raw.unlink()
    return np.diff(indptr)


def _pairs_file(folder: Path, shard: int) -> Path:
    return folder / f"{shard:06}.pairs"

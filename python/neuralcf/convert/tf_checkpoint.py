"""Reading the variables of a TensorFlow checkpoint (`PREFIX.index` and `PREFIX.data-*`) without TensorFlow.

The index is a table of LevelDB (github.com/google/leveldb/blob/main/doc/table_format.md) that is not compressed. Its
values are `BundleEntryProto` of tensorflow/core/protobuf/tensor_bundle.proto, and name the place of each variable in
the data files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neuralcf.errors import ArgumentError, ModelFormatError

__all__ = ["read_variables"]

_MAGIC: Final = 0xDB4775248B80FB57
_FOOTER, _TRAILER = 48, 5
_FLOAT: Final = 1
"""DT_FLOAT of tensorflow/core/framework/types.proto; other variables are left out."""


def read_variables(prefix: Path) -> dict[str, NDArray[np.float32]]:
    """Read the float32 variables of a checkpoint by name.

    Args:
        prefix: what `Saver.save` was given, such as `model.ckpt`.

    Raises:
        ArgumentError: no checkpoint there.
        ModelFormatError: a damaged checkpoint, or one that is compressed.
        OSError: a file cannot be read.
    """
    index = prefix.with_name(prefix.name + ".index")
    if not index.is_file():
        raise ArgumentError(f"{prefix}: expected a checkpoint of TensorFlow, with {index.name}, got none")
    table = index.read_bytes()
    try:
        return dict(_variables(prefix, table))
    except (IndexError, ValueError) as error:
        if isinstance(error, ModelFormatError):
            raise
        raise ModelFormatError(f"{index}: not the index of a checkpoint: {error}") from error


def _variables(prefix: Path, table: bytes) -> Iterator[tuple[str, NDArray[np.float32]]]:
    if len(table) < _FOOTER or int.from_bytes(table[-8:], "little") != _MAGIC:
        raise ValueError("the footer of the table is missing")
    at = len(table) - _FOOTER
    for _ in range(2):  # past the handle of the metaindex
        _, at = _varint(table, at)
    start, at = _varint(table, at)
    size, _ = _varint(table, at)
    shards: dict[int, bytes] = {}
    count = 1
    for _, handle in _block(table, start, size):
        start, at = _varint(handle, 0)
        size, _ = _varint(handle, at)
        for key, value in _block(table, start, size):
            entry = _message(value)
            if not key:
                count = int(entry.get(1, [1])[0])
                continue
            if entry.get(1, [0])[0] != _FLOAT or 7 in entry:  # 7: a variable in slices
                continue
            shape = [int(_message(dim).get(1, [0])[0]) for dim in _message(entry.get(2, [b""])[0]).get(2, [])]
            shard, offset, length = (int(entry.get(field, [0])[0]) for field in (3, 4, 5))
            if shard not in shards:
                shards[shard] = prefix.with_name(f"{prefix.name}.data-{shard:05}-of-{count:05}").read_bytes()
            yield key.decode(), np.frombuffer(shards[shard][offset : offset + length], "<f4").reshape(shape)


def _block(table: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block, whose keys share beginnings with those before them."""
    if start + size + _TRAILER > len(table):
        raise ValueError("a block ends beyond the file")
    if table[start + size] != 0:
        raise ValueError("a compressed block")
    block = table[start : start + size]
    restarts = int.from_bytes(block[-4:], "little")
    at, end, key = 0, len(block) - 4 - 4 * restarts, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        at += own
        yield key, block[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _message(data: Any) -> dict[int, list[Any]]:
    """Take a protocol buffer apart: the values of each field by its number, integers or bytes."""
    if not isinstance(data, bytes):
        raise ValueError("expected a message")
    fields: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        value: int | bytes
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 2, 5):
            length = 8 if kind == 1 else 4
            if kind == 2:
                length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            raise ValueError(f"wire type {kind}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields

"""Interactions from delimited text: one interaction per row, columns separated by a tab, `,`, `;` or `::`.

Detected automatically: MovieLens' `u.data` and `ratings.dat` (no header: user, item, rating, timestamp), `ratings.csv`
(with a header), and files of two or three columns (user, item, rating), each plain or gzip. UTF-8, with or without a
byte order mark. Timestamps are numbers, or ISO 8601 dates and times. Only blank lines are skipped.

The file is read in blocks of complete rows. Arrow parses each block. If it cannot, or a value is invalid, the block is
narrowed down to the bad part, and Python's csv parses that part again row by row, to report the line and the problem.
So a clean file is parsed at Arrow's speed, and a bad row costs a second parse of a small part.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import chain
from pathlib import Path
from typing import IO, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from neuralcf.data.readers.columns import Columns, Wanted
from neuralcf.data.readers.raw_table import BadRows, OnBadRows, Places, RawTable
from neuralcf.data.readers.text import BLOCK, LONGEST_ROW, detect_delimiter, lines_of, open_text, shown
from neuralcf.errors import ArgumentError

__all__ = ["read_delimited"]

ROW_BY_ROW: Final = 1 << 16
"""Bytes; a block with a bad row is divided further if it is larger, and parsed row by row if not."""
STAND_IN: Final = b"\x1f"
"""Replaces a longer delimiter, because Arrow supports only delimiters of one byte."""

_IDS: Final = pa.dictionary(pa.int32(), pa.string())
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_Arrays: TypeAlias = dict[str, pa.ChunkedArray]
"""The columns of a block by field; ids are dictionary-encoded strings."""


def read_delimited(
    path: Path, wanted: Wanted, *, delimiter: str | None, header: bool | None, on_bad_rows: OnBadRows
) -> RawTable:
    """Read a delimited text file; the ids of a column become int64 if all of them are plain integers.

    Raises:
        ArgumentError: a missing column, a bad row under `raise`, or a file that is empty or not text.
        OSError: the file cannot be read.
    """
    if delimiter is not None and (not delimiter or set(delimiter) & set('"\r\n\0')):
        raise ArgumentError(
            f"delimiter: expected at least one character, without quotes and line ends, got {delimiter!r}"
        )
    with open_text(path) as file:
        blocks = _blocks(path, file, BLOCK)
        line, block = 1, next(blocks, b"")
        while block and not block.strip():
            line, block = line + block.count(b"\n"), next(blocks, b"")
        if not block:
            raise ArgumentError(f"{path}: expected interactions, got an empty file")
        reader = _Reader(path, delimiter or detect_delimiter(path, block, line), on_bad_rows)
        first_row, rest = reader.first_row(block, line)
        reader.columns = Columns.detect(str(path), first_row, wanted, header)
        if reader.columns.header:
            line, block = line + block.count(b"\n") - rest.count(b"\n"), rest
        for part in chain([block], blocks):
            reader.read(part, line)
            line += part.count(b"\n")
    return reader.finish()


# ------------------------------------------------------------------------------------------------------ file to blocks


def _blocks(path: Path, file: IO[bytes], size: int) -> Iterator[bytes]:
    """Cut a file into blocks of complete rows, of about `size` bytes."""
    block = b""
    while read := file.read(size):
        block += read
        cut = _end_of_rows(block)
        if cut == 0 and len(block) > LONGEST_ROW:
            cut = block.rfind(b"\n") + 1  # its quotes are not csv quotes
            if cut == 0:
                raise ArgumentError(f"{path}: expected lines of text, got one of more than {LONGEST_ROW >> 20} MiB")
        if cut:
            yield block[:cut]
        block = block[cut:]
    if block:
        yield block


def _end_of_rows(block: bytes) -> int:
    """Find the end of the last complete row: behind the last line feed that an even number of quotes precede."""
    end = block.rfind(b"\n") + 1
    odd = block.count(b'"', 0, end) % 2
    while end and odd:
        before = block.rfind(b"\n", 0, block.rfind(b'"', 0, end)) + 1
        odd = (odd + block.count(b'"', before, end)) % 2
        end = before
    return end


# ---------------------------------------------------------------------------------------------------- blocks to columns


class _Problem(NamedTuple):
    """The problem with a bad row."""

    text: str
    missing: bool = False


class _Reader:
    """Parses blocks into columns."""

    columns: Columns

    def __init__(self, path: Path, delimiter: str, on_bad_rows: OnBadRows) -> None:
        self.path = path
        self.delimiter = delimiter
        self.bad = BadRows(on_bad_rows, lambda line: f"{path}:{line}")
        self.places = Places()
        self._blocks: list[_Arrays] = []
        self._dates: bool | None = None  # whether timestamps are dates; decided by the first row that has one
        code = delimiter.encode()
        self._one_byte = len(code) == 1
        ordinary = b'[^"\r\n%s]' % re.escape(code)
        self._stray_quote = re.compile(ordinary + b'"' + ordinary)

    def first_row(self, block: bytes, line: int) -> tuple[list[str], bytes]:
        """Return the first row that is not blank, and the rest of the block."""
        text = lines_of(block)
        at, row = next(self._split(text, line), (line, []))
        if isinstance(row, _Problem):
            raise ArgumentError(f"{self.path}:{at}: {row.text}")
        return row, text.read().encode("utf-8", "surrogateescape")

    def read(self, block: bytes, line: int) -> None:
        """Parse a block that begins at line `line`."""
        if self._dates is None:
            self._dates = self._begins_with_a_date(block, line)
        places: int | NDArray[np.int64] = line
        arrays = self._by_arrow(block)
        if arrays is None and len(block) > ROW_BY_ROW:  # narrow down where the bad row is
            parts = list(_blocks(self.path, io.BytesIO(block), len(block) // 16 + 1))
            if len(parts) > 1:
                for part in parts:
                    self.read(part, line)
                    line += part.count(b"\n")
                return
        if arrays is None:
            arrays, places = self._by_row(block, line)
        self.places.append(places, len(arrays["user"]))
        self._blocks.append(arrays)

    def finish(self) -> RawTable:
        """Join the blocks."""
        arrays = {field: _join([block.pop(field) for block in self._blocks]) for field in self.columns.places}
        for field in ("user", "item"):
            arrays[field] = self._integers_if_plain(field, arrays[field])
        return RawTable(
            str(self.path), pa.table(arrays), self.places, self.bad, self.columns.described(), self.delimiter
        )

    def _integers_if_plain(self, field: str, ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """Convert ids to int64 if all of them are plain integers; otherwise they stay strings."""
        ids = ids.unify_dictionaries()
        texts = ids.chunk(0).dictionary.to_pylist() if ids.num_chunks else []
        plain = [_is_integer(text) for text in texts]
        if all(plain):
            integers = pa.array([int(text) for text in texts], type=pa.int64())
            arrays = [pa.DictionaryArray.from_arrays(chunk.indices, integers) for chunk in ids.chunks]
            return pa.chunked_array(arrays, type=pa.dictionary(pa.int32(), pa.int64()))
        if not self.columns.header and len(texts) > 2 and not plain[0] and all(plain[1:]):
            raise ArgumentError(
                f"{self.path}: {field}: the first line has {texts[0]!r}, all other lines have integers; "
                "pass header=True if it names the columns, header=False if it is an interaction"
            )
        return ids

    # ---- by Arrow

    def _by_arrow(self, block: bytes) -> _Arrays | None:
        """Parse a block in which each line is a good row; return None for any other block."""
        lines = block.count(b"\n") + (not block.endswith(b"\n"))
        quoted = self._one_byte and b'"' in block
        if b"\0" in block or (quoted and (block.count(b'"') % 2 == 1 or self._stray_quote.search(block))):
            return None
        if not self._one_byte:
            if STAND_IN in block:
                return None
            block = block.replace(self.delimiter.encode(), STAND_IN)
        names = [str(place) for place in range(self.columns.width)]
        places = {field: str(place) for field, place in self.columns.places.items()}
        types = {name: _IDS if field in ("user", "item") else pa.string() for field, name in places.items()}
        try:
            table = pa.csv.read_csv(
                pa.py_buffer(block),
                read_options=pa.csv.ReadOptions(column_names=names, block_size=len(block) + 1),
                parse_options=pa.csv.ParseOptions(
                    delimiter=self.delimiter if self._one_byte else STAND_IN.decode(),
                    quote_char='"' if self._one_byte else False,
                    newlines_in_values=quoted,
                ),
                convert_options=pa.csv.ConvertOptions(
                    include_columns=list(types), column_types=types, strings_can_be_null=False
                ),
            )
            if table.num_rows != lines:
                return None  # blank lines, or line feeds within quotes
            arrays = {field: table[name] for field, name in places.items()}
            for field in ("user", "item"):
                arrays[field] = _trimmed(arrays[field])
            for field in {"rating", "weight"} & arrays.keys():
                arrays[field] = _numbers(arrays[field])
            if "timestamp" in arrays:
                arrays["timestamp"] = (_microseconds if self._dates else _times)(arrays["timestamp"])
        except pa.ArrowInvalid:
            return None
        return arrays

    # ---- row by row

    def _by_row(self, block: bytes, line: int) -> tuple[_Arrays, NDArray[np.int64]]:
        """Parse a block, report its bad rows, and return its good ones with their lines, int64 [n]."""
        places = self.columns.places
        texts: dict[str, list[str]] = {field: [] for field in places}
        lines: list[int] = []
        for at, row in self._split(lines_of(block), line):
            problem = self._problem(row)
            if problem is not None:
                first = not (self.columns.header or self._blocks or lines or self.bad.places)
                hint = " (if this line names the columns, pass header=True)" if first else ""
                self.bad.add(at, problem.text + hint, missing=problem.missing)
                continue
            assert isinstance(row, list)
            lines.append(at)
            for field, place in places.items():
                texts[field].append(row[place].strip())
        arrays: _Arrays = {
            field: pa.chunked_array([pa.array(texts[field], type=pa.string())]) for field in ("user", "item")
        }
        arrays = {field: column.dictionary_encode() for field, column in arrays.items()}
        for field in {"rating", "weight"} & texts.keys():
            arrays[field] = pa.chunked_array([np.array([float(text) for text in texts[field]], dtype=np.float64)])
        if "timestamp" in texts:
            times = [self._time(text) for text in texts["timestamp"]]
            integers = all(isinstance(time, int) for time in times)
            arrays["timestamp"] = pa.chunked_array([np.array(times, dtype=np.int64 if integers else np.float64)])
        return arrays, np.array(lines, dtype=np.int64)

    def _split(self, text: io.StringIO, line: int) -> Iterator[tuple[int, list[str] | _Problem]]:
        """Split text that begins at line `line` into rows, each with its first line; blank lines are skipped."""
        if not self._one_byte:
            for at, one_line in enumerate(text, start=line):
                if one_line.strip():
                    yield at, one_line.rstrip("\r\n").split(self.delimiter)
            return
        reader = csv.reader(text, delimiter=self.delimiter, strict=True)
        while True:
            at = line + reader.line_num
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end" in str(error):  # where the quoted text should have ended is unknown
                    raise ArgumentError(f"{self.path}:{at}: a quote is opened here and never closed") from error
                if "new-line" in str(error):
                    yield at, _Problem("expected lines that end in a line feed, got a bare carriage return")
                else:
                    yield at, _Problem(f"expected columns separated by {self.delimiter!r}: {error}")
                continue
            if len(row) > 1 or (row and row[0].strip()):
                yield at, row

    def _problem(self, row: list[str] | _Problem) -> _Problem | None:
        if isinstance(row, _Problem):
            return row
        if len(row) != self.columns.width:
            return _Problem(f"expected {self.columns.width} columns, got {len(row)}: {shown(row)}")
        for field, place in self.columns.places.items():
            text = row[place].strip()
            if not text.isascii() and not _is_unicode(text):
                return _Problem(f"{field}: expected UTF-8 text, got {shown(text)}")
            if "\0" in text:
                return _Problem(f"{field}: expected text without NUL bytes, got {shown(text)}")
            if field in ("user", "item"):
                if not text:
                    return _Problem(f"{field}: expected an id, got nothing", missing=True)
            elif field == "timestamp" and self._dates:
                if _date(text) is None:
                    return _Problem(f"timestamp: expected a date, got {shown(text)}", missing=not text)
            elif not _NUMBER.fullmatch(text) or abs(float(text)) == float("inf"):
                return _Problem(f"{field}: expected a number, got {shown(text)}", missing=not text)
        return None

    def _time(self, text: str) -> int | float:
        if self._dates:
            moment = _date(text)
            assert moment is not None
            return moment
        value = float(text)
        if not value.is_integer() or not -(2**63) <= value < 2**63:
            return value
        return int(text) if _is_integer(text) else int(value)

    def _begins_with_a_date(self, block: bytes, line: int) -> bool | None:
        place = self.columns.timestamp
        if place is None or not block.strip():
            return None
        start = block[: 1 << 16]  # some rows at least
        for _, row in self._split(lines_of(start[: _end_of_rows(start)] or block), line):
            if not isinstance(row, _Problem) and len(row) == self.columns.width and row[place].strip():
                return _date(row[place].strip()) is not None
        return None


def _is_integer(text: str) -> bool:
    """Check whether the text is an int64 in canonical form, so that parsing it loses nothing."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
        return False
    return str(int(text)) == text and -(2**63) <= int(text) < 2**63


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _date(text: str) -> int | None:
    """Parse an ISO 8601 date and time as microseconds since 1970, in UTC if it names no time zone."""
    if _NUMBER.fullmatch(text):  # such as 20150309
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)) - _EPOCH) // timedelta(microseconds=1)


# ------------------------------------------------------------------------------------------------------- Arrow columns


def _trimmed(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Strip white space around ids; raise ArrowInvalid if one is empty."""
    chunks = []
    for chunk in ids.chunks:
        values = pc.utf8_trim_whitespace(chunk.dictionary)
        if pc.any(pc.equal(values, "")).as_py():
            raise pa.ArrowInvalid("an empty id")
        if not values.equals(chunk.dictionary):
            chunk = values.take(chunk.indices).dictionary_encode()
        chunks.append(chunk)
    return pa.chunked_array(chunks, type=_IDS)


def _numbers(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Parse finite numbers as float64; raise ArrowInvalid for anything else."""
    try:
        numbers = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        numbers = pc.utf8_trim_whitespace(texts).cast(pa.float64())
    if not pc.all(pc.is_finite(numbers)).as_py():
        raise pa.ArrowInvalid("not finite")
    return numbers


def _times(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Parse finite numbers, as int64 if all of them are integers."""
    numbers = _numbers(texts)
    values = numbers.to_numpy()
    if not (values == np.floor(values)).all():
        return numbers
    if (np.abs(values) < 2**53).all():
        return pa.chunked_array([values.astype(np.int64)])
    return texts.cast(pa.int64())  # float64 would lose digits


def _microseconds(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Parse ISO 8601 dates and times as microseconds since 1970, in UTC if they name no time zone."""
    try:
        moments = texts.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        moments = texts.cast(pa.timestamp("us", "UTC"))
    return moments.cast(pa.int64())


def _join(parts: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    """Concatenate the parts of a column; float64 if any part is."""
    if any(part.type == pa.float64() for part in parts):
        parts = [part.cast(pa.float64(), safe=False) for part in parts]
    return pa.chunked_array(list(chain.from_iterable(part.chunks for part in parts)), type=parts[0].type)

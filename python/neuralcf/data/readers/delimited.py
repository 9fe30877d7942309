"""Interactions from text: one interaction per row, delimited or JSON, or adjacency lists.

Detected automatically: MovieLens' `u.data` and `ratings.dat` (no header: user, item, rating, timestamp), `ratings.csv`
(with a header), files of two or three columns (user, item, rating or time), and the files of other public data sets, by
the names in their headers; adjacency lists (a user and any number of items on a line, separated by spaces); JSON, one
object on a line. Timestamps are numbers, or dates and times. Blank lines are skipped, and comments above the table.

The file is read in blocks of complete rows. Arrow parses each block. If it cannot, or a value is invalid, the block is
narrowed down to the bad part, and Python's csv parses that part again row by row, to report the line and the problem.
So a clean file is parsed at Arrow's speed, and a bad row costs a second parse of a small part.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import IO, Any, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from neuralcf.data.readers.columns import Columns, Wanted
from neuralcf.data.readers.opening import Input
from neuralcf.data.readers.raw_table import BadRows, Places, RawTable, Reading
from neuralcf.data.readers.text import (
    BLOCK,
    LONGEST_ROW,
    SPACE,
    check_delimiter,
    decoded,
    detect_delimiter,
    is_quoted,
    is_unclosed,
    lines_of,
    shown,
    split_lines,
    without_preamble,
)
from neuralcf.data.values import (
    MISSING,
    date_problem,
    is_integer,
    is_number,
    looks_like_time,
    number_problem,
    parse_date,
)
from neuralcf.errors import ArgumentError, argument

__all__ = ["read_text_rows"]

ROW_BY_ROW: Final = 1 << 16
"""Bytes; a block with a bad row is divided further if it is larger, and parsed row by row if not."""
STAND_IN: Final = b"\x1f"
"""Replaces a longer delimiter, because Arrow supports only delimiters of one byte."""

_CONTROL: Final = bytes({*range(32)} - {*b"\t\n\r\x1f"})
_SAMPLE: Final = 1 << 16
"""Bytes of the first block from which the layout is told."""
_IDS: Final = pa.dictionary(pa.int32(), pa.string())
_WORDS: Final = re.compile(r"[^\W\d][^\W\d\s.:-]*(?:[\s.:-][^\W\d]+)*")
_FLOAT_ID: Final = re.compile(r"-?[0-9]+\.0")
_HEADER_OR_NOT: Final = (
    f"pass {argument('header', True)} if it names the columns, {argument('header', False)} if it is an interaction"
)
_Arrays: TypeAlias = dict[str, pa.ChunkedArray]
"""The columns of a block by field; ids are dictionary-encoded strings."""


def read_text_rows(source: Input, wanted: Wanted, reading: Reading, like: Columns | None = None) -> RawTable:
    """Read a text file; the ids of a column become int64 if all of them are plain integers.

    Args:
        source: the open file.
        wanted: the caller's choice of columns.
        reading: how to read.
        like: the columns of the file before it, of several; they hold for a file of as many without a header.

    Raises:
        ArgumentError: a missing column, a bad row under `raise`, or a file that is empty or not text.
        OSError: the file cannot be read.
    """
    check_delimiter(reading.delimiter)
    file = decoded(source, reading.encoding)
    blocks = _blocks(source.name, file, BLOCK)
    line, block = 1, next(blocks, b"")
    while block and not block.strip():
        line, block = line + block.count(b"\n"), next(blocks, b"")
    if not block:
        raise ArgumentError(f"{source.name}: expected interactions, got an empty file")
    beginning = block[:_SAMPLE]
    if len(beginning.translate(None, _CONTROL)) < 0.95 * len(beginning):
        raise ArgumentError(f"{source.name}: expected delimited text, JSON lines or Parquet, got a binary file")
    first = block.lstrip()[:1]
    if first == b"[" or (first == b"{" and reading.delimiter is None):
        return _JsonReader(source.name, reading).read_all(block, blocks, line, wanted)
    skipped, named = without_preamble(list(lines_of(block[:_SAMPLE])))
    preamble = b"".join(block.split(b"\n", skipped)[:skipped])
    for _ in range(skipped):
        block = block.partition(b"\n")[2]
    line += skipped
    sample = lines_of(_beginning(block))
    texts = list(sample)
    where = f"{source.name}:{line + next((n for n, text in enumerate(texts) if text.strip()), 0)}"
    if not any(text.strip() for text in texts):
        raise ArgumentError(f"{source.name}: expected interactions, got an empty file")
    spaced = preamble.lstrip()[:1] == b"%" and not re.search("[,;:|]", texts[0])  # KONECT mixes tabs and spaces
    delimiter = reading.delimiter or named or (SPACE if spaced else detect_delimiter(where, texts))
    reader = _Reader(source.name, reading, delimiter, quoted=is_quoted(delimiter, texts[0]))
    if reading.header is None and _is_adjacency(delimiter, texts) and all(each is None for each in wanted.values()):
        return _AdjacencyReader(source.name, reading).read_all(block, blocks, line)
    rest = reader.detect(block, line, wanted, like)
    line, block = line + block.count(b"\n") - rest.count(b"\n"), rest
    for part in chain([block], blocks):
        reader.read(part, line)
        line += part.count(b"\n")
    return reader.finish()


def _beginning(block: bytes) -> bytes:
    """Cut the first rows from a block: at least one, complete."""
    start = block[:_SAMPLE]
    return block if len(start) == len(block) else start[: _end_of_rows(start)] or block


def _is_adjacency(delimiter: str, lines: Sequence[str]) -> bool:
    """Tell adjacency lists: integers, over four or differently many on a line, separated by spaces; each user once."""
    if delimiter != SPACE:
        return False
    rows = [line.split() for line in lines if line.strip()]
    return (
        (len({len(row) for row in rows}) > 1 or len(rows[0]) > 4)
        and len({row[0] for row in rows}) == len(rows)
        and all(is_integer(cell) for row in rows for cell in row)
    )


# ------------------------------------------------------------------------------------------------------ file to blocks


def _blocks(name: str, file: IO[bytes], size: int) -> Iterator[bytes]:
    """Cut a file into blocks of complete rows, of about `size` bytes."""
    block = b""
    while read := file.read(size):
        block += read
        cut = _end_of_rows(block)
        if cut == 0 and len(block) > LONGEST_ROW:
            cut = block.rfind(b"\n") + 1  # its quotes are not csv quotes
            if cut == 0:
                raise ArgumentError(f"{name}: expected lines of text, got one of more than {LONGEST_ROW >> 20} MiB")
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

    def __init__(self, name: str, reading: Reading, delimiter: str, *, quoted: bool) -> None:
        self.name = name
        self.reading = reading
        self.delimiter = delimiter
        self.quoted = quoted
        self.bad = BadRows(reading.on_bad_rows, lambda line: f"{name}:{line}")
        self.places = Places()
        self.first: list[str] | None = None  # the names in the header, which joined files repeat
        self.notes: list[str] = []
        self._blocks: list[_Arrays] = []
        self._dates: bool | None = None  # whether timestamps are dates; decided by the first row that has one
        self._by_arrow_alone = len(delimiter.encode()) == 1 and delimiter != SPACE
        ordinary = b'[^"\r\n%s]' % re.escape(delimiter.encode())
        self._stray_quote = re.compile(ordinary + b'"' + ordinary)

    def detect(self, block: bytes, line: int, wanted: Wanted, like: Columns | None) -> bytes:
        """Detect the columns from the first rows of a block; return the block without its header."""
        text = lines_of(block)
        at, row = next(self._split(text, line), (line, []))
        if isinstance(row, _Problem):
            raise ArgumentError(f"{self.name}:{at}: {row.text}")
        behind = text.read().encode("utf-8", "surrogateescape")
        sample = [each for _, each in self._split(lines_of(_beginning(behind)), at) if not isinstance(each, _Problem)]
        row = self._with_trailing_column(row, sample)
        where = f"{self.name}:{at}"
        header = self.reading.header
        if header is None and like is not None and like.width == len(row) and list(like.names) != row:
            try:
                self.columns = Columns.detect(where, row, wanted, None, sample)
            except ArgumentError:
                self.columns = replace(like, header=False)
            if not self.columns.header:
                self.columns = replace(like, header=False, notes=())
        else:
            self.columns = Columns.detect(where, row, wanted, header, sample)
        self.notes += self.columns.notes
        if not self.columns.header:
            if header is None:
                self._refuse_text_in_first(where, row)
            return block
        self.first = row
        widths = {len(each) for each in sample}
        if widths == {len(row) + 1}:
            raise ArgumentError(
                f"{where}: the header has {len(row)} columns, each row {len(row) + 1}, such as {shown(sample[0])}; "
                "pandas and R write row numbers without a name: leave them out, or name them"
            )
        return behind

    def _with_trailing_column(self, row: list[str], sample: Sequence[list[str]]) -> list[str]:
        """Add a nameless column to a header, if all rows end in a delimiter."""
        if sample and all(len(each) == len(row) + 1 and not each[-1].strip() for each in sample):
            return [*row, ""]
        return row

    def _refuse_text_in_first(self, where: str, row: Sequence[str]) -> None:
        """Raise for a first row whose rating or time is text."""
        for field in ("rating", "timestamp"):
            place = self.columns.places.get(field)
            text = "" if place is None else row[place].strip()
            if text not in MISSING and not is_number(text) and not looks_like_time(text):
                raise ArgumentError(
                    f"{where}: {field}: {number_problem(text)}; pass {argument('header', True)} if this line names "
                    "the columns"
                )

    def read(self, block: bytes, line: int) -> None:
        """Parse a block that begins at line `line`."""
        if self._dates is None:
            self._dates = self._begins_with_a_date(block, line)
        places: int | NDArray[np.int64] = line
        arrays = self._by_arrow(block)
        if arrays is None and len(block) > ROW_BY_ROW:  # narrow down where the bad row is
            parts = list(_blocks(self.name, io.BytesIO(block), len(block) // 16 + 1))
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
            arrays[field] = arrays[field].unify_dictionaries()
        if not self.columns.header and self.reading.header is None:
            self._refuse_names_in_first(arrays)
        if not self.reading.text_ids:
            for field in ("user", "item"):
                arrays = self._without_missing_ids(field, arrays)
            for field in ("user", "item"):
                arrays[field] = self._integers_if_plain(field, arrays[field])
        return RawTable(
            self.name, pa.table(arrays), self.places, self.bad, self.columns, self.delimiter, tuple(self.notes)
        )

    def _without_missing_ids(self, field: str, arrays: _Arrays) -> _Arrays:
        """Take `NULL` and the like for bad rows in a column whose other ids are integers."""
        ids = arrays[field]
        texts = _dictionary(ids).to_pylist()
        odd = [code for code, text in enumerate(texts) if not is_integer(text)]
        if not odd or len(odd) == len(texts) or not all(texts[code] in MISSING for code in odd):
            return arrays
        codes = np.concatenate([chunk.indices.to_numpy() for chunk in ids.chunks])
        missing = np.isin(codes, odd)
        for row, place in zip(np.flatnonzero(missing), self.places.at(np.flatnonzero(missing)), strict=True):
            self.bad.add(int(place), f"{field}: expected an id, got {texts[codes[row]]!r}", missing=True)
        self.bad.places.sort()
        kept = np.flatnonzero(~missing)
        places = self.places.at(kept)
        self.places = Places()
        self.places.append(places, kept.size)
        arrays = {name: column.take(pa.array(kept)) for name, column in arrays.items()}
        return {
            name: column.cast(pa.string()).dictionary_encode().unify_dictionaries()
            if name in ("user", "item")
            else column
            for name, column in arrays.items()
        }

    def _integers_if_plain(self, field: str, ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """Convert ids to int64 if all of them are plain integers; otherwise they stay strings."""
        texts = _dictionary(ids).to_pylist()
        plain = [is_integer(text) for text in texts]
        if all(plain):
            integers = pa.array([int(text) for text in texts], type=pa.int64())
            arrays = [pa.DictionaryArray.from_arrays(chunk.indices, integers) for chunk in ids.chunks]
            return pa.chunked_array(arrays, type=pa.dictionary(pa.int32(), pa.int64()))
        guessed = not self.columns.header and self.reading.header is None
        if guessed and len(texts) > 2 and not plain[0] and all(plain[1:]):
            raise ArgumentError(
                f"{self.name}: {field}: the first line has {texts[0]!r}, all other lines have integers; "
                f"{_HEADER_OR_NOT}"
            )
        if all(_FLOAT_ID.fullmatch(text) for text in texts):
            raise ArgumentError(
                f"{self.name}: {field}: expected integers or text, got numbers such as {texts[0]!r} (pandas turns "
                f"integers with missing values into float64; use Int64, or pass {argument('text_ids', True)})"
            )
        return ids

    def _refuse_names_in_first(self, arrays: _Arrays) -> None:
        """Raise if the first row looks like names: words, which occur together only, unlike all other ids."""
        rows = sum(len(chunk) for chunk in arrays["user"].chunks)
        if rows < 2:
            return
        is_first, texts = {}, {}
        for field in ("user", "item"):
            dictionary = _dictionary(arrays[field])
            codes = np.concatenate([chunk.indices.to_numpy() for chunk in arrays[field].chunks])
            texts[field] = dictionary[int(codes[0])].as_py()
            is_first[field] = codes == codes[0]
            likely = bool(_WORDS.fullmatch(texts[field])) or (
                is_integer(texts[field]) and not any(is_integer(text) for text in dictionary.to_pylist()[:1000][1:])
            )
            if not likely:
                return
        if (is_first["user"] == is_first["item"]).all() and not is_first["user"].all():
            raise ArgumentError(
                f"{self.name}: the first line, {list(texts.values())}, looks like names of columns; {_HEADER_OR_NOT}"
            )

    # ---- by Arrow

    def _by_arrow(self, block: bytes) -> _Arrays | None:
        """Parse a block in which each line is a good row; return None for any other block."""
        lines = block.count(b"\n") + (not block.endswith(b"\n"))
        quoted = self.quoted and b'"' in block
        if b"\0" in block or (quoted and (block.count(b'"') % 2 == 1 or self._stray_quote.search(block))):
            return None
        if not self._by_arrow_alone:
            if STAND_IN in block:
                return None
            if self.delimiter == SPACE:
                block = re.sub(rb"[ \t]*(\r?\n)[ \t]*", rb"\1", block.strip(b" \t"))
                block = re.sub(rb"[ \t]+", STAND_IN, block)
            else:
                block = block.replace(self.delimiter.encode(), STAND_IN)
        names = [str(place) for place in range(self.columns.width)]
        places = {field: str(place) for field, place in self.columns.places.items()}
        types = {name: _IDS if field in _DICTIONARIES else pa.string() for field, name in places.items()}
        try:
            table = pa.csv.read_csv(
                pa.py_buffer(block),
                read_options=pa.csv.ReadOptions(column_names=names, block_size=len(block) + 1),
                parse_options=pa.csv.ParseOptions(
                    delimiter=self.delimiter if self._by_arrow_alone else STAND_IN.decode(),
                    quote_char='"' if self.quoted else False,
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
            if self._repeats_header(arrays):
                return None
            for field in {"rating", "weight"} & arrays.keys():
                lenient = field == "rating" and not self.reading.ratings_count
                arrays[field] = (_numbers_or_nan if lenient else _numbers)(arrays[field])
            if "timestamp" in arrays:
                arrays["timestamp"] = (_microseconds if self._dates else _times)(arrays["timestamp"])
        except pa.ArrowInvalid:
            return None
        return arrays

    def _repeats_header(self, arrays: _Arrays) -> bool:
        """Tell whether the names in the header are among the ids."""
        first = self.first
        return first is not None and all(
            pc.any(pc.equal(_dictionary(arrays[field]), first[self.columns.places[field]].strip())).as_py()
            for field in ("user", "item")
        )

    # ---- row by row

    def _by_row(self, block: bytes, line: int) -> tuple[_Arrays, NDArray[np.int64]]:
        """Parse a block, report its bad rows, and return its good ones with their lines, int64 [n]."""
        return self._arrays_of(self._split(lines_of(block), line))

    def _arrays_of(self, rows: Iterator[tuple[int, list[str] | _Problem]]) -> tuple[_Arrays, NDArray[np.int64]]:
        places = self.columns.places
        texts: dict[str, list[str]] = {field: [] for field in places}
        lines: list[int] = []
        for at, row in rows:
            problem = self._problem(row)
            if problem is not None:
                first = not (self.columns.header or self._blocks or lines or self.bad.places)
                hint = f" (if this line names the columns, pass {argument('header', True)})" if first else ""
                self.bad.add(at, problem.text + hint, missing=problem.missing)
                continue
            assert isinstance(row, list)
            lines.append(at)
            for field, place in places.items():
                texts[field].append(row[place].strip())
        arrays: _Arrays = {
            field: pa.chunked_array([pa.array(texts[field], type=pa.string())]).dictionary_encode()
            for field in places
            if field in _DICTIONARIES
        }
        for field in {"rating", "weight"} & texts.keys():
            numbers = [float(text) if is_number(text) else np.nan for text in texts[field]]
            arrays[field] = pa.chunked_array([np.array(numbers, dtype=np.float64)])
        if "timestamp" in texts:
            times = [self._time(text) for text in texts["timestamp"]]
            integers = all(isinstance(time, int) for time in times)
            arrays["timestamp"] = pa.chunked_array([np.array(times, dtype=np.int64 if integers else np.float64)])
        return arrays, np.array(lines, dtype=np.int64)

    def _split(self, text: io.StringIO, line: int) -> Iterator[tuple[int, list[str] | _Problem]]:
        """Split text that begins at line `line` into rows, each with its first line; blank lines are skipped."""
        for at, row in split_lines(text, self.delimiter, quoted=self.quoted):
            place = line + at - 1
            if not isinstance(row, csv.Error):
                yield place, row
            elif is_unclosed(row):  # where the quoted text should have ended is unknown
                raise ArgumentError(f"{self.name}:{place}: a quote is opened here and never closed") from row
            elif "new-line" in str(row):
                yield (
                    place,
                    _Problem(
                        "expected lines that end in a line feed, got a bare carriage return; tr '\\r' '\\n' converts it"
                    ),
                )
            else:
                yield place, _Problem(f"expected columns separated by {self.delimiter!r}: {row}")

    def _problem(self, row: list[str] | _Problem) -> _Problem | None:
        if isinstance(row, _Problem):
            return row
        if self.first is not None and [cell.strip() for cell in row] == [cell.strip() for cell in self.first]:
            return _Problem("expected an interaction, got the header again, as in files that were joined")
        if len(row) != self.columns.width:
            return _Problem(f"expected {self.columns.width} columns, got {len(row)}: {shown(row)}")
        for field, place in self.columns.places.items():
            text = row[place].strip()
            if not text.isascii() and not _is_unicode(text):
                return _Problem(
                    f"{field}: expected UTF-8 text, got {shown(text)} (if it is in another encoding, pass "
                    f"{argument('encoding')}, such as latin-1)"
                )
            if "\0" in text:
                return _Problem(f"{field}: expected text without NUL bytes, got {shown(text)}")
            if field in ("user", "item"):
                if not text:
                    return _Problem(f"{field}: expected an id, got nothing", missing=True)
            elif field == "timestamp" and self._dates:
                if parse_date(text) is None:
                    return _Problem(f"timestamp: {date_problem(text)}", missing=text in MISSING)
            elif field == "event" or (field == "rating" and not self.reading.ratings_count):
                continue
            elif not is_number(text):
                return _Problem(f"{field}: {number_problem(text)}", missing=text in MISSING)
        return None

    def _time(self, text: str) -> int | float:
        if self._dates:
            moment = parse_date(text)
            assert moment is not None
            return moment
        value = float(text)
        if not value.is_integer() or not -(2**63) <= value < 2**63:
            return value
        return int(text) if is_integer(text) else int(value)

    def _begins_with_a_date(self, block: bytes, line: int) -> bool | None:
        if "timestamp" not in self.columns.places or not block.strip():
            return None
        return self._is_date_column(self._split(lines_of(_beginning(block)), line))

    def _is_date_column(self, rows: Iterator[tuple[int, list[str] | _Problem]]) -> bool | None:
        place = self.columns.places["timestamp"]
        for _, row in rows:
            if isinstance(row, _Problem) or len(row) != self.columns.width or row == self.first:
                continue
            if (text := row[place].strip()) not in MISSING:
                return not is_number(text)
        return None


class _AdjacencyReader:
    """Reads adjacency lists: a user and their items on a line, integers separated by spaces, as LightGCN's files."""

    def __init__(self, name: str, reading: Reading) -> None:
        self.name, self.text_ids = name, reading.text_ids
        self.bad = BadRows(reading.on_bad_rows, lambda line: f"{name}:{line}")

    def read_all(self, block: bytes, blocks: Iterator[bytes], line: int) -> RawTable:
        """Read the lines from `line` on."""
        users: list[int] = []
        lengths: list[int] = []
        lines: list[int] = []
        items: list[NDArray[np.int64]] = []
        for part in chain([block], blocks):
            for at, text in enumerate(part.decode("utf-8", "replace").split("\n"), start=line):
                user, *others = text.split() or [""]
                wrong = next((cell for cell in (user, *others) if not is_integer(cell)), None)
                if not user:
                    continue
                if wrong is not None:
                    self.bad.add(at, f"expected a user and items, integers separated by spaces, got {shown(wrong)}")
                    continue
                users.append(int(user))
                lengths.append(len(others))
                lines.append(at)
                items.append(np.array(others, dtype=np.int64))
            line += part.count(b"\n")
        empty = lengths.count(0)
        notes = ["each line is taken for a user and the items they have, as in the files of LightGCN"]
        if empty:
            notes.append(f"{empty:,} users have no items")
        columns = {"user": np.repeat(np.array(users, np.int64), lengths), "item": np.concatenate([*items, [0]])[:-1]}
        places = Places()
        places.append(np.repeat(np.array(lines, np.int64), lengths), int(sum(lengths)))
        arrays = {name: pa.chunked_array([pa.array(column.astype(np.int64))]) for name, column in columns.items()}
        if self.text_ids:
            arrays = {name: column.cast(pa.string()) for name, column in arrays.items()}
        table = pa.table({name: column.dictionary_encode() for name, column in arrays.items()})
        found = Columns(False, ("0", "1..."), {"user": 0, "item": 1})
        return RawTable(self.name, table, places, self.bad, found, SPACE, tuple(notes))


class _JsonReader(_Reader):
    """Reads JSON: an object with the names of the columns on each line, or an array of such objects."""

    _ROWS: Final = 1 << 16

    def __init__(self, name: str, reading: Reading) -> None:
        super().__init__(name, reading, ",", quoted=False)

    def read_all(self, block: bytes, blocks: Iterator[bytes], line: int, wanted: Wanted) -> RawTable:
        """Read the objects from `line` on."""
        if block.lstrip()[:1] == b"[":
            rows = self._array(b"".join([block, *blocks]))
        else:
            rows = self._objects(chain([block], blocks), line)
        ahead: list[tuple[int, dict[str, Any] | _Problem]] = []
        for row in rows:
            ahead.append(row)
            if len(ahead) == 100:
                break
        if not ahead:
            raise ArgumentError(f"{self.name}: expected interactions, got an empty array")
        objects = [row for _, row in ahead if isinstance(row, dict)]
        if not objects:
            problem = ahead[0][1]
            assert isinstance(problem, _Problem)
            raise ArgumentError(f"{self.name}:{ahead[0][0]}: {problem.text}")
        names = list(dict.fromkeys(name for each in objects for name in each))
        self.columns = Columns.detect(f"{self.name}:{ahead[0][0]}", names, wanted, header=True)
        rows = chain(ahead, rows)
        cells: Iterator[tuple[int, list[str] | _Problem]] = ((at, self._cells(row)) for at, row in rows)
        if "timestamp" in self.columns.places:
            first = list(zip(range(100), cells, strict=False))
            self._dates = self._is_date_column(iter([each for _, each in first]))
            cells = chain([each for _, each in first], cells)
        while part := [each for _, each in zip(range(self._ROWS), cells, strict=False)]:
            arrays, places = self._arrays_of(iter(part))
            self.places.append(places, len(arrays["user"]))
            self._blocks.append(arrays)
        return replace(self.finish(), delimiter="JSON")

    def _objects(self, blocks: Iterator[bytes], line: int) -> Iterator[tuple[int, dict[str, Any] | _Problem]]:
        for block in blocks:
            for at, text in enumerate(block.split(b"\n"), start=line):
                if text.strip():
                    yield at, self._object(text)
            line += block.count(b"\n")

    def _object(self, text: bytes) -> dict[str, Any] | _Problem:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            hint = " (a Python dict, not JSON: write it by json.dumps)" if re.match(rb"\{u?'", text.strip()) else ""
            return _Problem(f"expected a JSON object on each line: {error}{hint}")
        return value if isinstance(value, dict) else _Problem(f"expected a JSON object, got {shown(str(value))}")

    def _array(self, content: bytes) -> Iterator[tuple[int, dict[str, Any] | _Problem]]:
        try:
            values = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ArgumentError(
                f"{self.name}: expected a JSON array of objects, or one object a line: {error}"
            ) from error
        self.bad.where = lambda at: f"{self.name}[{at}]"
        for at, value in enumerate(values):
            yield at, value if isinstance(value, dict) else _Problem(f"expected an object, got {shown(str(value))}")

    def _cells(self, row: dict[str, Any] | _Problem) -> list[str] | _Problem:
        """Return the values of an object as text, in the order of the columns."""
        if isinstance(row, _Problem):
            return row
        cells = [""] * self.columns.width
        for place in self.columns.places.values():
            value = row.get(self.columns.names[place])
            if isinstance(value, bool | list | dict):
                return _Problem(
                    f"{self.columns.names[place]}: expected text or a number, got {shown(json.dumps(value))}"
                )
            cells[place] = "" if value is None else str(value)
        return cells


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------- Arrow columns

_DICTIONARIES: Final = ("user", "item", "event")


def _dictionary(ids: pa.ChunkedArray) -> pa.Array:
    """Return the values of a dictionary-encoded column whose chunks share them."""
    return ids.chunk(0).dictionary if ids.num_chunks else pa.array([], pa.string())


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


def _numbers_or_nan(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Parse finite numbers as float64; anything else is NaN."""
    try:
        return _numbers(texts)
    except pa.ArrowInvalid:
        found = texts.to_pylist()
        numbers = [float(text) if is_number(text.strip()) else np.nan for text in found]
        return pa.chunked_array([np.array(numbers, dtype=np.float64)])


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
    """Parse dates and times as microseconds since 1970, in UTC if they name no time zone."""
    texts = pc.replace_substring_regex(pc.utf8_trim_whitespace(texts), r"\s*(UTC|GMT)$", "")
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

"""Decoding text and splitting it into rows: encodings, byte order marks, delimiters, quotes.

Interactions, the candidates of the NCF paper, titles and attributes are all read by these rules.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import IO, Any, Final

from neuralcf.data.readers.opening import Input, open_input
from neuralcf.errors import ArgumentError, argument

__all__ = [
    "BLOCK",
    "DELIMITERS",
    "LONGEST_ROW",
    "SPACE",
    "check_delimiter",
    "decoded",
    "detect_delimiter",
    "is_quoted",
    "lines_of",
    "read_lines",
    "read_text",
    "shown",
    "without_preamble",
]

BLOCK: Final = 16 << 20
"""Bytes read at a time."""
LONGEST_ROW: Final = 4 * BLOCK
"""Bytes; a longer line means that the file is not text."""

SPACE: Final = " "
"""The delimiter that stands for any run of blanks and tabs."""
DELIMITERS: Final = ("::", "\t", ";", "|", ",")
"""Those that are detected, in the order of preference; after them SPACE."""
_NAMED: Final = "a tab, ',', ';', '|' or '::'"

_MARKS: Final = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_LINES_TO_LOOK_AT: Final = 20


def decoded(source: Input, encoding: str | None = None) -> IO[bytes]:
    """Return the text of an input as UTF-8 without its byte order mark, which tells the encoding if there is one.

    Args:
        source: the input.
        encoding: name of the encoding of a text without a mark; UTF-8 if None.

    Raises:
        ArgumentError: an unknown encoding; binary content; UTF-16 without a mark; also, on any later read, bytes that
            are not in the encoding, unless it is UTF-8.
    """
    encoding = _known_encoding(encoding)
    file = source.file if hasattr(source.file, "peek") else io.BufferedReader(source.file)  # type: ignore[type-var]
    head = file.peek(4)
    mark = next((mark for mark in _MARKS if head.startswith(mark)), None)
    if mark is not None:
        file.read(len(mark))
        encoding = _MARKS[mark]
    if encoding not in (None, "utf-8", "ascii"):
        return io.BufferedReader(_Recoded(source.name, file, encoding), 1 << 20)
    if encoding is None:
        _check_no_wide_text(source.name, file.peek(1 << 10)[: 1 << 10])
    return file


def _known_encoding(encoding: str | None) -> str | None:
    if encoding is None:
        return None
    try:
        name = codecs.lookup(encoding).name
        "".encode(name)
    except (LookupError, ValueError, TypeError):
        raise ArgumentError(
            f"{argument('encoding')}: expected the name of a text encoding, such as utf-8, latin-1, cp1252 or "
            f"utf-16, got {encoding!r}"
        ) from None
    return name


def _check_no_wide_text(name: str, head: bytes) -> None:
    """Raise for UTF-16 or UTF-32 without a mark: of most texts all bytes of a character but one are zero."""
    for encoding, width, at in (("utf-32-le", 4, 0), ("utf-32-be", 4, 3), ("utf-16-le", 2, 0), ("utf-16-be", 2, 1)):
        shares = [part.count(0) / max(1, len(part)) for part in (head[n::width] for n in range(width))]
        if len(head) > 8 and shares.pop(at) < 0.1 and min(shares) > 0.8:
            raise ArgumentError(
                f"{name}:1: expected UTF-8 text, got {encoding[:6].upper()} without a byte order mark; pass "
                f"{argument('encoding', encoding)}"
            )


class _Recoded(io.RawIOBase):
    """Text of some encoding as UTF-8."""

    def __init__(self, name: str, file: IO[bytes], encoding: str) -> None:
        self._name, self._file, self._encoding = name, file, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ready, self._line = b"", 1

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = b"more"
        while not self._ready and data:
            data = self._file.read(1 << 20)
            try:
                text = self._decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                line = self._line + error.object[: error.start].decode(self._encoding, "ignore").count("\n")
                wrong = error.object[error.start : error.end]
                raise ArgumentError(f"{self._name}:{line}: expected {self._encoding} text, got {wrong!r}") from error
            self._line += text.count("\n")
            self._ready = text.encode("utf-8", "surrogatepass")
        part, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def read_text(path: str | PathLike[str], *, encoding: str | None = None, or_else: str | None = None) -> str:
    """Read a text file whole, as `decoded`, or in the encoding `or_else` if it is not valid UTF-8.

    Raises:
        ArgumentError: as `open_input` and `decoded`; bytes that are not UTF-8, without an `or_else`.
        OSError: the file cannot be read.
    """
    with open_input(path) as source:
        return text_of(source, encoding=encoding, or_else=or_else)


def read_lines(path: str | PathLike[str], *, encoding: str | None = None) -> list[str]:
    """Read the lines of a text file, as `read_text`. Only CR and LF end one: an id may hold Unicode's other breaks."""
    return [line.rstrip("\n") for line in io.StringIO(read_text(path, encoding=encoding), newline=None)]


def text_of(source: Input, *, encoding: str | None = None, or_else: str | None = None) -> str:
    """Read an open input whole; see `read_text`."""
    content = decoded(source, encoding).read()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        if or_else is not None and encoding is None:
            return content.decode(or_else)
        line = content.count(b"\n", 0, error.start) + 1
        wrong = content[error.start : error.end]
        raise ArgumentError(
            f"{source.name}:{line}: expected UTF-8 text, got {wrong!r}; pass {argument('encoding')}, such as latin-1"
        ) from error


def lines_of(block: bytes) -> io.StringIO:
    """Decode a block into lines that end in a line feed; bytes that are not UTF-8 become lone surrogates."""
    return io.StringIO(block.decode("utf-8", "surrogateescape"), newline="\n")


# ---------------------------------------------------------------------------------------------------------- delimiters


def check_delimiter(delimiter: str | None) -> None:
    """Raise for a delimiter that cannot be one."""
    if delimiter is not None and (not delimiter or set(delimiter) & set('"\r\n\0')):
        raise ArgumentError(
            f"{argument('delimiter')}: expected at least one character, without quotes and line ends, got {delimiter!r}"
        )


def without_preamble(lines: Sequence[str]) -> tuple[int, str | None]:
    """Find what stands before the table: blank lines, comments (`%` or `#`), and the line `sep=;` that Excel reads.

    Returns:
        The number of lines to skip, and the delimiter that `sep=` names. A comment directly above the table that has
        its columns is not skipped: it names them.
    """
    at = 0
    while at < len(lines) and not lines[at].strip():
        at += 1
    if at < len(lines) and (named := re.fullmatch(r"sep=(.)\s*", lines[at].strip("\r\n"), re.IGNORECASE)):
        return at + 1, named[1]
    first = at
    while at < len(lines) and lines[at].lstrip()[:1] in ("%", "#"):
        at += 1
    if at == len(lines) or at == first:
        return first, None
    while at < len(lines) and not lines[at].strip():
        at += 1
    return at, None


def detect_delimiter(where: str, lines: Sequence[str], what: str = "columns", *, spaces: bool = True) -> str:
    """Detect the delimiter from the first lines of a table.

    The delimiter that splits all of them into equally many columns, the most of them, is preferred; then one that
    splits the first. SPACE is the last resort.

    Args:
        where: place of the first line, for messages.
        lines: at least one that is not blank.
        what: what is expected, for messages.
        spaces: whether SPACE may be the delimiter.

    Raises:
        ArgumentError: the first line contains none.
    """
    sample = [line.strip("\r\n") for line in lines if line.strip()][:_LINES_TO_LOOK_AT]
    bare = [re.sub(r'"[^"]*"', '""', line) for line in sample]
    present = [delimiter for delimiter in DELIMITERS if delimiter in bare[0]]
    counts = {each: [line.count(each) for line in bare] for each in present}
    even = [each for each in present if len(set(counts[each])) == 1]
    if even:
        return max(even, key=lambda each: counts[each][0])  # of equal ones the first
    if present:
        return present[0]
    if spaces and len(bare[0].split()) > 1:
        return SPACE
    named = f"{_NAMED} or spaces" if spaces else _NAMED
    raise ArgumentError(f"{where}: expected {what}, separated by {named}, got {shown(sample[0].strip())}")


def is_quoted(delimiter: str, first: str) -> bool:
    """Tell whether cells may stand in quotes: with `|` only if the first line begins with one, with `::` never."""
    return len(delimiter) == 1 and delimiter != SPACE and (delimiter != "|" or first.startswith('"'))


def split_lines(text: io.StringIO, delimiter: str, *, quoted: bool) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Split text into rows that are not blank, each with its first line from 1; a malformed row is an error.

    A row that is never closed is the last one. Errors of the csv module do not stop the rows after it.
    """
    if not quoted:
        for at, line in enumerate(text, start=1):
            if line.strip():
                yield at, line.split() if delimiter == SPACE else line.rstrip("\r\n").split(delimiter)
        return
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        at = 1 + reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield at, error
            if is_unclosed(error):
                return
            continue
        if len(row) > 1 or (row and row[0].strip()):
            yield at, row


def is_unclosed(error: csv.Error) -> bool:
    """Tell whether the text ended within quotes."""
    return "unexpected end" in str(error)


def shown(value: str | list[str]) -> str:
    """Format a wrong value for a message, in at most 120 characters."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."

"""The columns of a source: chosen by name or position, or detected by their names, or guessed by what is in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, TypeAlias

from neuralcf.data.values import MISSING, is_number, looks_like_time
from neuralcf.errors import ArgumentError, argument

__all__ = ["FIELDS", "HEADER_NAMES", "Columns", "Wanted", "chosen_column", "find_name"]

FIELDS: Final = ("user", "item", "rating", "timestamp", "weight", "event")
_USUAL: Final = FIELDS[:4]
"""The order of the columns of a file without a header."""
_NAMES: Final = """
user: user userid uid useridx visitorid customerid reviewerid memberid accountid clientid personid profileid listenerid
    authorid customer visitor reviewer member username userkey fromuserid fromnodeid
item: item itemid iid movieid movie productid trackid bookid asin parentasin isbn businessid articleid artistid songid
    sku stockcode gameid videoid filmid newsid contentid gmapid venueid poiid locationid recipeid animeid beerid showid
    goodsid appid itemcode productcode product track book artist song article tonodeid
rating: rating ratings score stars overall bookrating starrating userrating reviewrating reviewoverall
timestamp: timestamp unixreviewtime unixtime unixtimestamp time ts datetime eventtime eventtimestamp createdat
    createdtime createdate date eventdate reviewdate reviewtime tdat invoicedate purchasedate orderdate visitdate
    purchasetime ordertime visittime clicktime logtime updatedat occurredat interactiontime localtime utctime
event: event eventtype behavior behaviour behaviortype action actiontype interactiontype
"""
HEADER_NAMES: Final[Mapping[str, Sequence[str]]] = {
    field: names.split() for field, names in re.findall(r"^(\w+):([^:]*)$", _NAMES, re.MULTILINE)
}
"""Column names that are detected, the preferred ones first, in lower case, without `_`, `-` and spaces and without the
type that RecBole appends, as in `user_id:token`; weights must be chosen."""

NONE: Final = "-"
"""Chosen as a column: there is none."""

Wanted: TypeAlias = dict[str, str | int | None]
"""The caller's choice for each of FIELDS: a name, a position from 0, NONE, or None to detect the column."""

_ASIN: Final = re.compile(r"B0[0-9A-Z]{8}|[0-9]{9}[0-9X]")
_AMAZON_USER: Final = re.compile(r"A[0-9A-Z]{9,20}")


@dataclass(frozen=True)
class Columns:
    """The position of each field's column."""

    header: bool
    names: tuple[str, ...]
    """Column names, or positions in a file without a header."""
    places: dict[str, int]
    """The position of each field that has a column, in the order of FIELDS."""
    notes: tuple[str, ...] = field(default=())
    """What was guessed, for the user to know."""

    @property
    def width(self) -> int:
        """Columns per row."""
        return len(self.names)

    def described(self) -> tuple[str, ...]:
        """Describe which columns are read, such as `user=userId`."""
        return tuple(f"{field}={self.names[place]}" for field, place in self.places.items())

    @cached_property
    def passed_over(self) -> tuple[str, ...]:
        """The columns that are not read."""
        used = set(self.places.values())
        return tuple(name for place, name in enumerate(self.names) if place not in used and (name or not self.header))

    @classmethod
    def detect(
        cls,
        source: str,
        first: Sequence[str],
        wanted: Wanted,
        header: bool | None,
        sample: Sequence[Sequence[str]] = (),
    ) -> Columns:
        """Detect the columns.

        Args:
            source: name of the source, for messages.
            first: the first row.
            wanted: the caller's choice.
            header: whether the first row names the columns; detected if None.
            sample: some rows after the first one.

        Raises:
            ArgumentError: a chosen column that does not exist, no user or item column, one column for two fields, two
                columns of a chosen name, or a first row that looks like names and like data.
        """
        named = {name: find_name(first, names) for name, names in HEADER_NAMES.items()}
        detected = header is None
        if header is None:
            header = any(isinstance(column, str) and column != NONE for column in wanted.values()) or (
                any(place is not None for place in named.values()) and not any(is_number(cell) for cell in first)
            )
            if not header:
                _refuse_unknown_header(source, first, sample)
        notes: list[str] = []
        if not header:
            named = _guessed(first, sample, notes) if all(column is None for column in wanted.values()) else {}
        names = tuple(first) if header else tuple(str(n) for n in range(len(first)))
        chosen = {
            field: chosen_column(source, field, column, names, header)
            for field in FIELDS
            if (column := wanted.get(field)) is not None
        }
        taken = {place: field for field, place in chosen.items() if place is not None}
        places: dict[str, int] = {}
        for name in (name for name in FIELDS if name in wanted):
            place = chosen[name] if name in chosen else _untaken(first, name, named.get(name), taken, header)
            if place is not None:
                places[name] = place
        for name in ("user", "item"):
            if name not in places:
                raise ArgumentError(
                    f"{source}: expected a column of {name}s, detected none among {list(first)}; "
                    f"pass its {'name or ' if header else ''}position as {argument(f'{name}=')}"
                    + (f" ({argument('header', False)} if this line is an interaction)" if header and detected else "")
                )
        for second, place in places.items():
            one = next(each for each in places if places[each] == place)
            if one != second and {one, second} != {"rating", "weight"}:
                raise ArgumentError(
                    f"{source}: expected a different column for each field, got {names[place]!r} as "
                    f"{argument(f'{one}=')} and {argument(f'{second}=')}"
                )
        if header:
            _refuse_repeated_names(source, names, places)
        return cls(header, names, places, tuple(notes))


def _untaken(row: Sequence[str], field: str, place: int | None, taken: Mapping[int, str], header: bool) -> int | None:
    """Return the detected place of a field, or the next one that was not chosen for another; ratings may be weights."""
    if place is None or place not in taken or (field, taken[place]) == ("rating", "weight"):
        return place
    rest = ["" if n in taken else cell for n, cell in enumerate(row)]
    return find_name(rest, HEADER_NAMES[field]) if header else None


def find_name(row: Sequence[str], names: Sequence[str]) -> int | None:
    """Find the column of a header with one of these names, normalized as in HEADER_NAMES; the first of them counts."""
    normal = [re.sub(r"[_\-\s.]|:\w+$", "", name.strip().strip('"').lower()) for name in row]
    return next((normal.index(name) for name in names if name in normal), None)


def chosen_column(
    source: str,
    field: str,
    column: str | int,
    names: Sequence[str],
    header: bool,
    marked: Callable[[str], str] = argument,
) -> int | None:
    """Return the position of a column chosen by name or by position, or None for NONE.

    A number is a position, unless it is the name of a column.

    Raises:
        ArgumentError: no such column.
    """
    if column == NONE and NONE not in names:
        return None
    if header and str(column) in names:
        return names.index(str(column))
    if isinstance(column, str):
        what = f"expected one of the columns {list(names)}"
        if not header:
            what += f" (numbers, as there is no header; {argument('header', True)} if the first line names them)"
        raise ArgumentError(f"{source}: {marked(field)}: {what}, got {column!r}")
    if not 0 <= column < len(names):
        raise ArgumentError(f"{source}: {marked(field)}: expected a position from 0 to {len(names) - 1}, got {column}")
    return column


def _refuse_repeated_names(source: str, names: Sequence[str], places: Mapping[str, int]) -> None:
    for name, place in places.items():
        again = [n for n, other in enumerate(names) if other == names[place]]
        if len(again) > 1:
            raise ArgumentError(
                f"{source}: {name}: expected one column {names[place]!r}, got {len(again)}, at the positions {again}"
            )


def _refuse_unknown_header(source: str, first: Sequence[str], sample: Sequence[Sequence[str]]) -> None:
    """Raise if the first row has text where all others have numbers or dates: it looks like names of columns."""
    rows = [row for row in sample if len(row) == len(first)]
    for place, cell in enumerate(first):
        others = [text for row in rows if (text := row[place].strip()) not in MISSING]
        text = cell.strip()
        if text in MISSING or _is_value(text) or len(others) < 2:
            continue
        if all(_is_value(other) for other in others):
            raise ArgumentError(
                f"{source}: the first line has {text!r}, all other lines have numbers or dates, such as {others[0]!r}; "
                f"pass {argument('header', True)} if it names the columns, {argument('header', False)} if it is an "
                "interaction"
            )


def _is_value(text: str) -> bool:
    return is_number(text) or looks_like_time(text)


def _guessed(first: Sequence[str], sample: Sequence[Sequence[str]], notes: list[str]) -> dict[str, int | None]:
    """Guess the columns of a file without a header, of at most four columns, by their order and content."""
    width = len(first) - (not first[-1].strip() and len(first) > 2)
    if not 2 <= width <= len(_USUAL):
        return {}
    rows = [row for row in (first, *sample) if len(row) == len(first)]
    columns = [[text for row in rows if (text := row[place].strip()) not in MISSING] for place in range(width)]
    guess: dict[str, int | None] = {"user": 0, "item": 1}
    if all(map(_ASIN.fullmatch, columns[0])) and all(map(_AMAZON_USER.fullmatch, columns[1])):
        guess = {"user": 1, "item": 0}
        notes.append("the first column looks like Amazon's items and the second like its users, so they are taken so")
    times = {n for n in range(2, width) if columns[n] and all(map(looks_like_time, columns[n]))}
    numbers = {n for n in range(2, width) if 2 * sum(map(is_number, columns[n])) >= len(columns[n])}
    if width == 4 and numbers == {2, 3} and times != {2}:
        return {**guess, "rating": 2, "timestamp": 3}
    guess["timestamp"] = max(times, default=None)
    ratings = numbers - times
    if width == 3 or guess["timestamp"] is not None:
        guess["rating"] = min(ratings, default=None)
    if guess["timestamp"] is not None and width == 3:
        notes.append(
            "the third column holds times, as numbers or dates, so it is taken for timestamps, not for ratings"
        )
    return guess

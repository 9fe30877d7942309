"""The columns of a source: chosen by name or position, or detected by their names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

from neuralcf.errors import ArgumentError

__all__ = ["FIELDS", "HEADER_NAMES", "Columns", "Wanted", "chosen_column", "find_name"]

FIELDS: Final = ("user", "item", "rating", "timestamp", "weight")
_USUAL: Final = FIELDS[:4]
"""The order of the columns of a file without a header."""
HEADER_NAMES: Final = {
    "user": {"user", "userid", "uid", "user_idx"},
    "item": {"item", "itemid", "iid", "movieid", "movie", "productid", "trackid", "bookid", "asin"},
    "rating": {"rating", "ratings", "score", "stars"},
    "timestamp": {"timestamp", "time", "ts", "unixtime", "datetime"},
    "weight": set[str](),
}
"""Column names that are detected, in lower case, without `_`, `-` and spaces; weights must be chosen."""

Wanted: TypeAlias = dict[str, str | int | None]
"""The caller's choice for each of FIELDS: a name, a position from 0, or None to detect the column."""


@dataclass(frozen=True)
class Columns:
    """The position of each field's column."""

    header: bool
    names: tuple[str, ...]
    """Column names, or positions in a file without a header."""
    user: int
    item: int
    rating: int | None
    timestamp: int | None
    weight: int | None

    @property
    def width(self) -> int:
        """Columns per row."""
        return len(self.names)

    @cached_property
    def places(self) -> dict[str, int]:
        """The position of each field that has a column, in the order of FIELDS."""
        places = {field: getattr(self, field) for field in FIELDS}
        return {field: place for field, place in places.items() if place is not None}

    def described(self) -> tuple[str, ...]:
        """Describe which columns are read, such as `user=userId`."""
        return tuple(f"{field}={self.names[place]}" for field, place in self.places.items())

    @classmethod
    def detect(cls, source: str, first: Sequence[str], wanted: Wanted, header: bool | None) -> Columns:
        """Detect the columns from the first row.

        Args:
            source: name of the source, for messages.
            first: the first row.
            wanted: the caller's choice.
            header: whether the first row names the columns; detected if None.

        Raises:
            ArgumentError: a chosen column that does not exist, no user or item column, or one column for two fields.
        """
        detected = {field: find_name(first, HEADER_NAMES[field]) for field in FIELDS}
        if header is None:
            named = any(isinstance(column, str) for column in wanted.values())
            header = named or any(place is not None for place in detected.values())
        if not header:
            # Up to four columns are in the usual order; with more, the caller must choose.
            usual = len(first) <= len(_USUAL) and all(column is None for column in wanted.values())
            places_of = range(len(first)) if usual else range(0)
            detected = {field: n if n in places_of else None for n, field in enumerate(FIELDS)}
        names = tuple(first) if header else tuple(str(n) for n in range(len(first)))
        places = {
            field: detected[field] if column is None else chosen_column(source, field, column, names, header)
            for field, column in wanted.items()
        }
        for field in ("user", "item"):
            if places[field] is None:
                raise ArgumentError(
                    f"{source}: expected a column of {field}s, detected none among {list(first)}; "
                    f"pass its {'name or ' if header else ''}position as {field}="
                )
        used = [place for place in places.values() if place is not None]
        if len(set(used)) < len(used):
            raise ArgumentError(f"{source}: expected a different column for each field, got {places}")
        user, item = places["user"], places["item"]
        assert user is not None
        assert item is not None
        return cls(header, names, user, item, places["rating"], places["timestamp"], places["weight"])


def find_name(row: Sequence[str], names: Collection[str]) -> int | None:
    """Find the first column of a header with one of these names, normalized as in HEADER_NAMES."""
    for place, name in enumerate(row):
        if name.strip().lower().replace("_", "").replace("-", "").replace(" ", "") in names:
            return place
    return None


def chosen_column(source: str, field: str, column: str | int, names: Sequence[str], header: bool) -> int:
    """Return the position of a column chosen by name or by position.

    Raises:
        ArgumentError: no such column.
    """
    if isinstance(column, str):
        if not header or column not in names:
            raise ArgumentError(f"{source}: {field}: expected one of the columns {list(names)}, got {column!r}")
        return names.index(column)
    if not 0 <= column < len(names):
        raise ArgumentError(f"{source}: {field}: expected a position from 0 to {len(names) - 1}, got {column}")
    return column

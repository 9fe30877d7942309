"""Which column holds what: chosen by name or position, or recognised by its name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

from neuralcf.errors import ArgumentError

__all__ = ["FIELDS", "HEADER_NAMES", "Columns", "Wanted", "chosen_column", "find_name"]

FIELDS: Final = ("user", "item", "rating", "timestamp")
HEADER_NAMES: Final = {
    "user": {"user", "userid", "uid", "user_idx"},
    "item": {"item", "itemid", "iid", "movieid", "movie", "productid", "trackid", "bookid", "asin"},
    "rating": {"rating", "ratings", "score", "stars"},
    "timestamp": {"timestamp", "time", "ts", "unixtime", "datetime"},
}
"""Names of columns in a header, in lower case and without `_`, `-` and spaces."""

Wanted: TypeAlias = dict[str, str | int | None]
"""For each of FIELDS the caller's choice: a name, a position from 0, or None to recognise it."""


@dataclass(frozen=True)
class Columns:
    """Which column holds what, by position."""

    header: bool
    names: tuple[str, ...]
    """The columns' names, or their positions in a file without a header."""
    user: int
    item: int
    rating: int | None
    timestamp: int | None

    @property
    def width(self) -> int:
        """How many columns a row has."""
        return len(self.names)

    @cached_property
    def places(self) -> dict[str, int]:
        """The fields that exist, in the order of FIELDS, and the position of each."""
        places = {field: getattr(self, field) for field in FIELDS}
        return {field: place for field, place in places.items() if place is not None}

    def described(self) -> tuple[str, ...]:
        """Say what is read, such as `user=userId`."""
        return tuple(f"{field}={self.names[place]}" for field, place in self.places.items())

    @classmethod
    def recognise(cls, source: str, first: Sequence[str], wanted: Wanted, header: bool | None) -> Columns:
        """Find the columns in the first row, which holds their names where `header` is true.

        Args:
            source: what is read, for messages.
            first: the first row.
            wanted: the caller's choice.
            header: whether the first row names the columns; recognised when None.

        Raises:
            ArgumentError: no such column, no column of users or items, or one column for two fields.
        """
        recognised = {field: find_name(first, HEADER_NAMES[field]) for field in FIELDS}
        if header is None:
            named = any(isinstance(column, str) for column in wanted.values())
            header = named or any(place is not None for place in recognised.values())
        if not header:
            # Without names, the usual order; of more than four columns the caller must say which.
            usual = len(first) <= len(FIELDS) and all(column is None for column in wanted.values())
            recognised = {field: n if usual and n < len(first) else None for n, field in enumerate(FIELDS)}
        names = tuple(first) if header else tuple(str(n) for n in range(len(first)))
        places = {
            field: recognised[field] if column is None else chosen_column(source, field, column, names, header)
            for field, column in wanted.items()
        }
        for field in ("user", "item"):
            if places[field] is None:
                raise ArgumentError(
                    f"{source}: expected a column of {field}s, recognised none among {list(first)}; "
                    f"pass {field}= with its {'name or ' if header else ''}position"
                )
        used = [place for place in places.values() if place is not None]
        if len(set(used)) < len(used):
            raise ArgumentError(f"{source}: expected a column of its own for each field, got {places}")
        user, item = places["user"], places["item"]
        assert user is not None
        assert item is not None
        return cls(header, names, user, item, places["rating"], places["timestamp"])


def find_name(row: Sequence[str], names: Collection[str]) -> int | None:
    """Find the first column of a header that has one of these names, written as in HEADER_NAMES."""
    for place, name in enumerate(row):
        if name.strip().lower().replace("_", "").replace("-", "").replace(" ", "") in names:
            return place
    return None


def chosen_column(source: str, field: str, column: str | int, names: Sequence[str], header: bool) -> int:
    """Give the position of a column that was chosen by name or by position.

    Raises:
        ArgumentError: there is no such column.
    """
    if isinstance(column, str):
        if not header or column not in names:
            raise ArgumentError(f"{source}: {field}: expected one of the columns {list(names)}, got {column!r}")
        return names.index(column)
    if not 0 <= column < len(names):
        raise ArgumentError(f"{source}: {field}: expected a position from 0 to {len(names) - 1}, got {column}")
    return column

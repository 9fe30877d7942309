"""Parsing the values of cells: integers, numbers, dates and times, missing values."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Final

from neuralcf.data.dataset import is_integer

__all__ = [
    "MISSING",
    "date_problem",
    "float_hint",
    "is_integer",
    "is_number",
    "looks_like_time",
    "number_problem",
    "parse_date",
]

MISSING: Final = frozenset({"", "NULL", "null", "\\N", "NA", "N/A", "NaN", "nan", "None", "<NA>"})
"""What databases, R and pandas write for a missing value."""

_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DECIMAL_COMMA: Final = re.compile(r"[+-]?[0-9]+,[0-9]+")
_DAY_AND_MONTH: Final = re.compile(r"[0-9]{1,2}([/.-])[0-9]{1,2}\1[0-9]{2}([0-9]{2})?(\D.*)?")
_YEAR_FIRST: Final = re.compile(r"([0-9]{4})[/.]([0-9]{1,2})[/.]([0-9]{1,2})")
_MONTHS: Final = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_NAMED_MONTH: Final = re.compile(
    r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?"
    rf"(?:(?P<day>\d{{1,2}})[\s-](?P<month>{'|'.join(_MONTHS)})[a-z]*\.?[\s,-]+"
    rf"|(?P<month2>{'|'.join(_MONTHS)})[a-z]*\.?\s+(?P<day2>\d{{1,2}}),?\s+)"
    r"(?:(?P<year>\d{4})(?:\s+(?P<time>\d\d:\d\d(?::\d\d)?))?(?:\s+(?P<zone>[+-]\d{4}))?"
    r"|(?P<time2>\d\d:\d\d(?::\d\d)?)(?:\s+(?P<zone2>[+-]\d{4}))?\s+(?P<year2>\d{4}))",
    re.IGNORECASE,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_EARLIEST: Final = 300_000_000
"""In seconds: July 1979. No count, rating or price of a usual data set is as large."""


def is_number(text: str) -> bool:
    """Tell whether the text is a finite decimal number."""
    return bool(_NUMBER.fullmatch(text)) and abs(float(text)) != float("inf")


def number_problem(text: str) -> str:
    """Say what is wrong with text that is not a number."""
    hint = " (write a decimal point for the comma)" if _DECIMAL_COMMA.fullmatch(text) else ""
    return f"expected a number, got {_shown(text)}{hint}"


def looks_like_time(text: str) -> bool:
    """Tell whether the text is a date, or a number as large as seconds since 1970 are."""
    if is_number(text):
        return float(text) >= _EARLIEST
    return parse_date(text) is not None or bool(_DAY_AND_MONTH.fullmatch(text))


def parse_date(text: str) -> int | None:
    """Parse a date, or a date and time, as microseconds since 1970, in UTC if it names no time zone.

    ISO 8601 (also with `UTC` or `GMT` after it, and with `/` or `.` after the year), and English names of months. Days
    and months as numbers, such as 3/4/2021, are ambiguous and refused.
    """
    if _NUMBER.fullmatch(text):  # such as 20150309
        return None
    bare = re.sub(r"\s*(UTC|GMT|Z)$", "+00:00" if ":" in text else "", text)
    if found := _YEAR_FIRST.match(bare):
        bare = "{:0>4}-{:0>2}-{:0>2}".format(*found.groups()) + bare[found.end() :]
    try:
        moment = datetime.fromisoformat(_padded(bare))
    except ValueError:
        found = _NAMED_MONTH.fullmatch(bare.removesuffix("+00:00").strip())
        if found is None:
            return None
        parts = found.groupdict()
        month = _MONTHS.index((parts["month"] or parts["month2"])[:3].lower()) + 1
        day, year = parts["day"] or parts["day2"], parts["year"] or parts["year2"]
        clock, zone = parts["time"] or parts["time2"] or "00:00", parts["zone"] or parts["zone2"] or "+0000"
        try:
            moment = datetime.fromisoformat(f"{year}-{month:02}-{int(day):02} {clock}{zone[:3]}:{zone[3:]}")
        except ValueError:
            return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)) - _EPOCH) // timedelta(microseconds=1)


def _padded(text: str) -> str:
    """Write fractions of a second and time zones as Python 3.10 reads them."""
    text = re.sub(r"(?<=:\d\d)[.,](\d+)", lambda found: "." + (found[1] + "000000")[:6], text)
    return re.sub(r"\s*([+-]\d\d):?(\d\d)$", r"\1:\2", text) if ":" in text else text


def date_problem(text: str) -> str:
    """Say what is wrong with text that is not a date."""
    if _DAY_AND_MONTH.fullmatch(text):
        return f"expected a date, got {_shown(text)}: ambiguous, day or month first? write it as 2021-04-03 10:15"
    return f"expected a date, got {_shown(text)}"


def float_hint(text: str | None) -> str:
    """Explain an id such as `7.0`; nothing for any other."""
    if text is None or not re.fullmatch(r"-?[0-9]+\.0", text):
        return ""
    return " (pandas turns integers with missing values into float64; use Int64)"


def _shown(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 120 else f"{shown[:117]}..."

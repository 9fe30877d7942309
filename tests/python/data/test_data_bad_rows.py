"""Bad rows: each kind raises or is reported with file and line; no row is dropped silently."""

import gzip

import numpy as np
import pytest

from neuralcf import ArgumentError
from neuralcf.data import read_interactions

HEADER = "user,item,rating,timestamp\n"
GOOD = "1,2,3,4\n"

BAD_ROWS = {  # name: (text inserted between good rows, from line 3 on, {line of a bad row: its message})
    "a column too few": ("5,6,3\n", {3: "expected 4 columns, got 3: ['5', '6', '3']"}),
    "a column too many": ("5,6,3,4,5\n", {3: "expected 4 columns, got 5: ['5', '6', '3', '4', '5']"}),
    "no columns": ("5 6 3 4\n", {3: "expected 4 columns, got 1: ['5 6 3 4']"}),
    "no user": (",6,3,4\n", {3: "user: expected an id, got nothing"}),
    "a user of spaces": ("  ,6,3,4\n", {3: "user: expected an id, got nothing"}),
    "no item": ("5,,3,4\n", {3: "item: expected an id, got nothing"}),
    "no rating": ("5,6,,4\n", {3: "rating: expected a number, got ''"}),
    "a rating in words": ("5,6,good,4\n", {3: "rating: expected a number, got 'good'"}),
    "a decimal comma": ('5,6,"3,5",4\n', {3: "rating: expected a number, got '3,5'"}),
    "a rating that is NaN": ("5,6,nan,4\n", {3: "rating: expected a number, got 'nan'"}),
    "an infinite rating": ("5,6,-inf,4\n", {3: "rating: expected a number, got '-inf'"}),
    "a rating too large": ("5,6,1e999,4\n", {3: "rating: expected a number, got '1e999'"}),
    "no timestamp": ("5,6,3,\n", {3: "timestamp: expected a number, got ''"}),
    "a timestamp in words": ("5,6,3,today\n", {3: "timestamp: expected a number, got 'today'"}),
    "a date among numbers": ("5,6,3,2015-03-09\n", {3: "timestamp: expected a number, got '2015-03-09'"}),
    "a hexadecimal timestamp": ("5,6,3,0x10\n", {3: "timestamp: expected a number, got '0x10'"}),
    "digits of another script": ("5,6,٣,4\n", {3: "rating: expected a number, got '٣'"}),
    "bytes that are not UTF-8": (b"\xe9,6,3,4\n", {3: r"user: expected UTF-8 text, got '\udce9'"}),
    "a NUL byte": ("5\0,6,3,4\n", {3: r"user: expected text without NUL bytes, got '5\x00'"}),
    "text after a closing quote": ('"5"x,6,3,4\n', {3: "expected columns separated by ','"}),
    "a bare carriage return": ("5,6,3,4\r7,8,3,4\n", {3: "expected lines that end in a line feed"}),
    "a second header": (HEADER, {3: "expected an interaction, got the header again, as in files that were joined"}),
    "after blank lines": ("\n \n5,6,x,4\n", {5: "rating: expected a number, got 'x'"}),
    "after a line feed in quotes": ('"a\nb",6,3,4\n5,6,x,4\n', {5: "rating: expected a number, got 'x'"}),
    "several": (",6,3,4\n7,8,3,4\n5,6,x,4\n", {3: "user: expected an id", 5: "rating: expected a number"}),
}


def as_bytes(text):
    return text if isinstance(text, bytes) else text.encode()


@pytest.mark.parametrize(("inserted", "messages"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
@pytest.mark.parametrize("compressed", [False, True])
def test_each_kind_of_bad_row_is_raised_or_reported_with_its_line(tmp_path, inserted, messages, compressed):
    data = as_bytes(HEADER + GOOD) + as_bytes(inserted) + b"9,9,3,4\n"
    path = tmp_path / "ratings.csv"
    path.write_bytes(gzip.compress(data) if compressed else data)
    with pytest.raises(ArgumentError) as raised:
        read_interactions(path, min_rating=0)
    first = next(iter(messages))
    assert str(raised.value).startswith(f"{path}:{first}: ")
    assert messages[first] in str(raised.value)

    dataset, report = read_interactions(path, on_bad_rows="report", min_rating=0)
    assert report.bad_lines.tolist() == list(messages)
    assert len(report.problems) == report.bad == len(messages)
    for (line, message), problem in zip(messages.items(), report.problems, strict=True):
        assert problem.startswith(f"{path}:{line}: ")
        assert message in problem
        assert "\n" not in problem
    assert report.rows == report.bad + len(dataset)
    assert {"1", "9"} <= {str(user) for user in dataset.user_ids}


def test_missing_values_are_counted_apart_from_invalid_ones(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text(HEADER + GOOD + ",6,3,4\n5,6,,4\n5,6,x,4\n5,6,3\n")
    _, report = read_interactions(path, on_bad_rows="report", min_rating=0)
    assert (report.rows, report.bad, report.missing) == (5, 4, 2)


def test_duplicate_lines_are_right_after_every_kind_of_row(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text(HEADER + '\n1,2,3,9\n1,2,3,4\n"x\ny",2,3,4\n1,2,1,1\nbad\n1,2,3,5\n')
    dataset, report = read_interactions(path, on_bad_rows="report", min_rating=2)
    assert report.duplicate_lines.tolist() == [3, 9]  # line 4, the earliest, is kept
    assert (report.rows, report.bad, report.below_threshold, report.duplicates, len(dataset)) == (6, 1, 1, 2, 2)


@pytest.mark.parametrize("on_bad_rows", ["raise", "report"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            (HEADER + GOOD + '5,"6,3,4\n' + GOOD).encode(),
            "ratings.csv:3: a quote is opened here and never closed",
        ),
        (
            (HEADER + GOOD).encode("utf-16-le"),
            "ratings.csv:1: expected UTF-8 text, got UTF-16 without a byte order mark",
        ),
        (HEADER.encode(), "got no rows, but the header"),
        (gzip.compress((HEADER + GOOD).encode() * 100)[:-12], "damaged gzip file"),
        (b"PAR1 and no more", "damaged Parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_on_raises_either_way(tmp_path, data, message, on_bad_rows):
    path = tmp_path / "ratings.csv"
    path.write_bytes(data)
    with pytest.raises(ArgumentError, match=message):
        read_interactions(path, on_bad_rows=on_bad_rows)


def test_a_bad_first_row_is_counted_once(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text(HEADER + '"5"x,6,3,4\n' + GOOD)
    assert read_interactions(path, on_bad_rows="report")[1].bad_lines.tolist() == [2]
    path.write_text('"5"x,6,3,4\n' + GOOD)
    with pytest.raises(ArgumentError, match=r"ratings\.csv:1: expected columns separated by ','"):
        read_interactions(path, on_bad_rows="report")  # without a header, the first row defines the columns


def test_a_file_of_bad_rows_only_raises_with_their_count(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text(HEADER + "x\ny\n")
    with pytest.raises(ArgumentError, match=r"got 2 rows, 2 bad, such as .*:2: expected 4 col"):
        read_interactions(path, on_bad_rows="report")


def test_an_endless_line_is_rejected_before_memory_runs_out(tmp_path, monkeypatch):
    monkeypatch.setattr("neuralcf.data.readers.delimited.BLOCK", 1 << 10)
    monkeypatch.setattr("neuralcf.data.readers.delimited.LONGEST_ROW", 1 << 12)
    path = tmp_path / "ratings.csv"
    path.write_text("1,2" * 10_000)
    with pytest.raises(ArgumentError, match="expected lines of text"):
        read_interactions(path)


TABLES = [
    ({"user": ["a", None], "item": [1, 2]}, [1], "table[1]: user: expected an id, got nothing", 1),
    ({"user": ["a", ""], "item": [1, 2]}, [1], "table[1]: user: expected an id, got nothing", 1),
    ({"user": [None, 7], "item": [1, 2]}, [0], "table[0]: user: expected an id, got nothing", 1),
    (
        {"user": [7, 8], "item": [1, 2], "rating": [1.0, np.nan]},
        [1],
        "table[1]: rating: expected a number, got nothing",
        1,
    ),
    ({"user": [7, 8], "item": [1, 2], "rating": [1.0, np.inf]}, [1], "table[1]: rating: expected a number, got inf", 0),
    ({"user": [7, 8], "item": [1, 2], "timestamp": [None, 5]}, [0], "table[0]: timestamp: expected a number", 1),
]


def strict(columns):
    """Make ratings count, where there are any."""
    return {"min_rating": 0} if "rating" in columns else {}


@pytest.mark.parametrize(("columns", "positions", "message", "missing"), TABLES)
def test_bad_rows_of_tables_are_reported_by_position(columns, positions, message, missing):
    with pytest.raises(ArgumentError) as raised:
        read_interactions(columns, **strict(columns))
    assert str(raised.value).startswith(message)
    dataset, report = read_interactions(columns, on_bad_rows="report", **strict(columns))
    assert (report.bad_lines.tolist(), report.missing, len(dataset)) == (positions, missing, 1)


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        (
            {"user": [1.0, 2.0], "item": [1, 2]},
            ArgumentError,
            "user: expected integers or strings, got a column of double",
        ),
        ({"user": [True], "item": [1]}, ArgumentError, "user: .* bool"),
        (
            {"user": [1], "item": [1], "rating": [[5]]},
            ArgumentError,
            "rating: expected numbers, got a column of list",
        ),
        ({"user": [1], "item": [1], "timestamp": [True]}, ArgumentError, "timestamp: expected numbers, dates or times"),
        ({"user": np.array([2**63], np.uint64), "item": [1]}, ArgumentError, "user: .*9223372036854775808"),
        ({"user": [1, "a"], "item": [1, 2]}, ArgumentError, "columns of one type"),
        ({"user": [1], "thing": [1]}, ArgumentError, "detected none among"),
        ([1, 2, 3], TypeError, "expected a path, several paths, or a pandas, polars or Arrow table, got list"),
    ],
)
def test_columns_of_the_wrong_type_are_rejected(columns, error, message):
    with pytest.raises(error, match=message):
        read_interactions(columns, **(strict(columns) if isinstance(columns, dict) else {}))

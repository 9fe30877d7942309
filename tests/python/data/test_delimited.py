"""Delimited text files: what is detected, and errors that name the line."""

import gzip

import numpy as np
import pytest

from neuralcf import ArgumentError
from neuralcf.data import read_interactions


def write(tmp_path, text, name="data.txt"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "9\t20\t4\t100\n9\t10\t3\t200\n7\t20\t5\t300\n",
        "9::20::4::100\n9::10::3::200\n7::20::5::300",
        "userId,movieId,rating,timestamp\n9,20,4.0,100\n9,10,3.0,200\n7,20,5.0,300\n",
        "\ufeffTimestamp;Rating;Item ID;user_id\r\n100;4;20;9\r\n200;3;10;9\r\n\r\n300;5;20;7\r\n",
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_common_layouts_are_detected(tmp_path, text, compressed):
    path = write(tmp_path, gzip.compress(text.encode()) if compressed else text)
    dataset, report = read_interactions(path)
    assert dataset.user_ids.tolist() == [7, 9]
    assert dataset.item_ids.tolist() == [10, 20]
    assert dataset.users.tolist() == [1, 1, 0]
    assert dataset.items.tolist() == [1, 0, 1]
    assert dataset.timestamps.tolist() == [100, 200, 300]
    assert dataset.timestamps.dtype == np.int64
    assert (report.rows, report.below_threshold, report.duplicates) == (3, 0, 0)


def test_columns_are_chosen_by_name_or_position(tmp_path):
    text = "book,who,day\n5,ann,2.5\n6,bob,1.5\n"
    by_name, report = read_interactions(write(tmp_path, text), user="who", item="book", timestamp="day")
    by_position, _ = read_interactions(write(tmp_path, text), user=1, item=0, timestamp=2, header=True)
    assert by_name.fingerprint() == by_position.fingerprint()
    assert by_name.user_ids == ["ann", "bob"]
    assert by_name.timestamps.tolist() == [2.5, 1.5]
    assert report.columns == ("user=who", "item=book", "timestamp=day")


@pytest.mark.parametrize("odd", ["007", "+7", "1.0", "x", "9223372036854775808", "٣"])
def test_one_id_that_is_not_a_plain_integer_makes_all_ids_strings(tmp_path, odd):
    dataset, _ = read_interactions(write(tmp_path, f"7,1\n8,2\n{odd},3\n"))
    assert sorted(dataset.user_ids) == sorted(["7", "8", odd])
    assert dataset.item_ids.tolist() == [1, 2, 3]


def test_the_threshold_applies_before_duplicates_are_dropped(tmp_path):
    text = "1,5,4,300\n1,5,2,50\n1,5,5,100\n1,6,3,10\n1,5,4,100\n2,6,1,1\n"
    dataset, report = read_interactions(write(tmp_path, text), min_rating=3)
    assert (report.rows, report.below_threshold, report.duplicates) == (6, 2, 2)
    assert dataset.user_ids.tolist() == [1]  # user 2 has no interaction left
    assert dataset.items.tolist() == [0, 1]
    assert dataset.timestamps.tolist() == [100, 10]


def test_without_timestamps_the_first_in_the_file_is_kept(tmp_path):
    dataset, report = read_interactions(write(tmp_path, "a,x\nb,x\na,y\na,x\n"))
    assert dataset.timestamps is None
    assert (dataset.users.tolist(), dataset.items.tolist()) == ([0, 1, 0], [0, 0, 1])
    assert report.duplicates == 1


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "data.txt: expected interactions, got an empty file"),
        ("\n\n", {}, "empty file"),
        ("123\n", {}, "data.txt:1: expected columns, separated"),
        ("1,2\n\n3\n", {}, r"data.txt:3: expected 2 columns, got 1: \['3'\]"),
        ("1::2\n3::4::5\n", {}, "data.txt:2: expected 2 columns, got 3"),
        ("1,2\n,3\n", {}, "data.txt:2: user: expected an id, got nothing"),
        ("1,2\n3, \n", {}, "data.txt:2: item: expected an id, got nothing"),
        ("1,2,3\n1,4,good\n", {"min_rating": 0}, "data.txt:2: rating: expected a number, got 'good'"),
        ("1,2,3,4\n1,4,3,\n", {}, "data.txt:2: timestamp: expected a number, got ''"),
        ("1,2,3\n1,4,nan\n", {"min_rating": 0}, "data.txt:2: rating: expected a number, got 'nan'"),
        ("who,what,stars_given\n1,2,3\n", {}, "data.txt:1: rating.*pass header=True"),
        ("who,what\n1,2\n3,4\n", {}, "data.txt:1: the first line has 'who', all other lines have numbers"),
        ("userid,rating\n1,2\n", {}, "detected none among.*pass its name or position as item="),
        ("userid,itemid\n1,2\n", {"rating": "stars"}, r"expected one of the columns \['userid', 'itemid'\]"),
        ("1,2\n", {"item": 2, "user": 0}, "item: expected a position from 0 to 1, got 2"),
        ("1,2\n", {"item": 0, "user": 0}, "a different column for each field, got '0' as user= and item="),
        ("1,2,3,4,5\n", {}, "pass its position as user="),
        ("1,2\n", {"min_rating": 3}, "min_rating: expected a column of ratings"),
        ("1,2,3\n", {"min_rating": 4}, "got 1 rows, 1 of them rated below"),
        ('1,"2\n', {}, "data.txt:1: "),
        (b"1,\xff\n", {}, "expected UTF-8"),
        (gzip.compress(b"1,2\n" * 1000)[:-12], {}, "damaged gzip"),
        (gzip.compress(b"1,2\n" * 1000)[:10] + b"\xff" * 40, {}, "damaged gzip"),
        ("1,2\n", {"delimiter": ""}, "delimiter: expected at least one character"),
    ],
)
def test_errors_name_file_and_line(tmp_path, text, options, message):
    with pytest.raises(ArgumentError, match=message):
        read_interactions(write(tmp_path, text), **options)

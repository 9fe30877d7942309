"""Guesses are checked against the values, and told: headers, ids, missing values, times."""

import pytest

from neuralcf import ArgumentError
from neuralcf.data import read_interactions


def write(tmp_path, text):
    path = tmp_path / "data.csv"
    path.write_bytes(text.encode())
    return path


ROWS = "".join(f"p{n},v{n % 7}\n" for n in range(30))


@pytest.mark.parametrize(
    "text",
    [
        f"patron,volume\n{ROWS}",
        f"patron,volume\n{ROWS}patron,volume\n{ROWS}",  # two exports, joined
        f"0,1\n{ROWS}",  # the names that pandas gives
        "patron,volume\n" + "".join(f"{n},{n % 7}\n" for n in range(30)),
        "patron,volume,points\n" + "".join(f"p{n},v{n % 7},{n % 5}\n" for n in range(30)),
        "patron,volume,when\n" + "".join(f"p{n},v{n % 7},2020-01-{1 + n}\n" for n in range(30)),
    ],
)
@pytest.mark.parametrize("on_bad_rows", ["raise", "report"])
def test_a_first_line_that_looks_like_names_is_refused(tmp_path, text, on_bad_rows):
    path = write(tmp_path, text)
    with pytest.raises(ArgumentError, match=r"header=True .* header=False"):
        read_interactions(path, on_bad_rows=on_bad_rows)
    named, report = read_interactions(path, header=True, user=0, item=1, on_bad_rows="report")
    assert len(named) == 30
    assert report.bad == text.count("patron") - ("patron" in text)


@pytest.mark.parametrize("text", ["ann,tea\nbob,tea\nann,rum\n", "u1,i1\nu2,i2\nu3,i3\n", "ann,tea\n"])
def test_data_are_no_names(tmp_path, text):
    assert len(read_interactions(write(tmp_path, text))[0]) == text.count("\n")


@pytest.mark.parametrize("mark", ["NULL", "\\N", "nan", "NA", "None"])
def test_a_missing_id_among_integers_is_a_bad_row(tmp_path, mark):
    path = write(tmp_path, f"user,item\n1,5\n2,{mark}\n{mark},6\n3,7\n")
    with pytest.raises(ArgumentError, match=r"(data\.csv:4: user|data\.csv:3: item): expected an id"):
        read_interactions(path)
    dataset, report = read_interactions(path, on_bad_rows="report")
    assert (dataset.user_ids.tolist(), dataset.item_ids.tolist()) == ([1, 3], [5, 7])
    assert (report.bad_lines.tolist(), report.missing, report.rows) == ([3, 4], 2, 4)
    assert mark in read_interactions(path, text_ids=True)[0].item_ids
    assert mark in read_interactions(write(tmp_path, f"user,item\n1,a\n2,{mark}\n"))[0].item_ids  # a name, perhaps


@pytest.mark.parametrize("mark", ["NULL", "\\N", "", "3,5", "good"])
def test_a_rating_that_nothing_uses_is_no_error(tmp_path, mark):
    path = write(tmp_path, f"user;item;rating\n1;5;{mark}\n2;6;4\n")
    dataset, report = read_interactions(path)
    assert (len(dataset), report.bad, report.unrated, report.ratings) == (2, 0, 1, (4, 4))
    with pytest.raises(ArgumentError, match=r"data\.csv:2: rating: expected a number"):
        read_interactions(path, min_rating=2)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["3/4/2021 10:15", "3/5/2021 10:15"], "ambiguous, day or month first"),
        (["04.03.2021", "05.03.2021"], "ambiguous, day or month first"),
        (["soon", "later"], "expected a date, got 'soon'"),
    ],
)
def test_a_diagnosis_is_never_lost(tmp_path, times, message):
    path = write(tmp_path, "user,item,timestamp\n" + "".join(f"{n},{n},{time}\n" for n, time in enumerate(times)))
    for on_bad_rows in ("raise", "report"):
        with pytest.raises(ArgumentError, match=rf"data\.csv:2: timestamp: .*{message}"):
            read_interactions(path, on_bad_rows=on_bad_rows)
    assert len(read_interactions(path, timestamp="-")[0]) == 2


@pytest.mark.parametrize(
    "times",
    [
        ["2019-10-01 00:00:01 UTC", "2019-10-01 00:00:02 UTC"],
        ["2019-10-01T00:00:01.000Z", "2019-10-01T00:00:02.000Z"],
        ["2019-10-01 02:00:01+0200", "2019-10-01 02:00:02+0200"],
        ["2019/10/01 00:00:01", "2019/10/01 00:00:02"],
        ["Tue Oct 01 00:00:01 +0000 2019", "Tue Oct 01 00:00:02 +0000 2019"],
        ["1 Oct 2019 00:00:01", "1 Oct 2019 00:00:02"],
    ],
)
def test_times_of_every_usual_form(tmp_path, times):
    text = "user,item,timestamp\n" + "".join(f'{n},{n},"{time}"\n' for n, time in enumerate(times))
    expected = [1_569_888_001_000_000, 1_569_888_002_000_000]
    assert read_interactions(write(tmp_path, text))[0].timestamps.tolist() == expected
    assert read_interactions({"user": [1, 2], "item": [1, 2], "date": times})[0].timestamps.tolist() == expected


def test_ids_that_pandas_made_floats_are_refused_at_every_door(tmp_path):
    for source in (write(tmp_path, "user,item\n1.0,5\n2.0,6\n"), {"user": [1.0, 2.0], "item": [5, 6]}):
        with pytest.raises(ArgumentError, match="pandas turns integers with missing values into float64; use Int64"):
            read_interactions(source)


def test_repeated_names_of_columns_are_named(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([[1, 5, 2], [2, 6, 3]], columns=["user", "item", "user"])
    for source in (frame, write(tmp_path, "user,item,user\n1,5,2\n2,6,3\n")):
        with pytest.raises(ArgumentError, match="expected one column 'user', got 2"):
            read_interactions(source)

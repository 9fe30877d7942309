"""Equal interactions give equal data sets, for any source and any cut of its text into blocks."""

import csv
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralcf import ArgumentError
from neuralcf.data import read_interactions
from neuralcf.data.readers import delimited

COLUMNS = {
    "user": [30, 10, 30, 10],
    "item": ["b", "a", "007", "7"],
    "rating": [4.0, 3.5, 5.0, 1.0],
    "timestamp": [100, 300, 200, 400],
}
LARGE = {"user": [10, 2**62 + 1], "item": [-5, 3], "timestamp": [2**62 + 1, 2**62 + 3]}  # float64 would lose digits


def sources(columns, folder):
    """Yield the same columns as tables in memory and as files."""
    table = pa.table(columns)
    yield "dict", columns
    yield "arrow", table
    yield "arrow in chunks", pa.concat_tables([table.slice(0, 1), table.slice(1)])
    yield (
        "arrow dictionaries",
        pa.table(
            {
                name: column.combine_chunks().dictionary_encode() if name in ("user", "item") else column
                for name, column in zip(table.column_names, table.columns, strict=True)
            }
        ),
    )
    pa.parquet.write_table(table, folder / "interactions")  # no suffix: file types are detected by content
    yield "parquet", folder / "interactions"
    for delimiter in (",", "\t", ";"):
        text = io.StringIO()
        writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        path = folder / f"text{ord(delimiter)}"
        path.write_text(text.getvalue())
        yield f"text by {delimiter!r}", path
        path = folder / f"colons{ord(delimiter)}"
        path.write_text(text.getvalue().replace(delimiter, "::"))
        yield "text by '::'", str(path)


@pytest.mark.parametrize("columns", [COLUMNS, LARGE], ids=["usual", "large"])
def test_every_source_gives_the_same_data_set(tmp_path, columns):
    prints = {}
    for name, source in sources(columns, tmp_path):
        dataset, report = read_interactions(source)
        prints[name] = dataset.fingerprint()
        assert (report.rows, report.bad, report.duplicates) == (len(columns["user"]), 0, 0)
    assert len(prints) >= 8
    assert len(set(prints.values())) == 1, prints
    assert dataset.user_ids[dataset.users].tolist() == columns["user"]
    assert dataset.timestamps.tolist() == columns["timestamp"]
    assert dataset.timestamps.dtype == np.int64


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames(library):
    frames = pytest.importorskip(library)
    dataset, _ = read_interactions(frames.DataFrame(COLUMNS), min_rating=3)
    assert dataset.fingerprint() == read_interactions(COLUMNS, min_rating=3)[0].fingerprint()
    assert dataset.item_ids == ["007", "a", "b"]
    chosen = frames.DataFrame({"who": ["a", "b"], "what": [1, 2], "user": [9, 9]})
    assert read_interactions(chosen, user="who", item="what")[0].user_ids == ["a", "b"]


def test_categories_and_missing_values_of_pandas():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"user": pandas.Categorical(["x", None, "y"]), "item": pandas.array([1, 2, None], "Int64")}
    )
    dataset, report = read_interactions(frame, on_bad_rows="report")
    assert (dataset.user_ids, dataset.item_ids.tolist(), report.bad_lines.tolist()) == (["x"], [1], [1, 2])
    floats = pandas.DataFrame({"user": [1, None], "item": [1, 2]})
    with pytest.raises(ArgumentError, match="pandas turns integers with missing values into float64; use Int64"):
        read_interactions(floats)


def test_dates_and_times_become_integers(tmp_path):
    import datetime

    moments = [datetime.datetime(1970, 1, 1, 0, 0, 1), datetime.datetime(1970, 1, 2)]
    table = pa.table({"user": [1, 2], "item": [1, 2], "timestamp": pa.array(moments, pa.timestamp("ms"))})
    assert read_interactions(table)[0].timestamps.tolist() == [1000, 86_400_000]
    path = tmp_path / "ratings.csv"
    for texts in (
        ["1970-01-01 00:00:01", "1970-01-02"],
        ["1970-01-01T00:00:01Z", "1970-01-02T00:00:00Z"],
        ["1970-01-01T01:00:01+01:00", "1970-01-02T00:00:00+00:00"],
    ):
        path.write_text("user,item,timestamp\n1,1,{}\n2,2,{}\n".format(*texts))
        assert read_interactions(path)[0].timestamps.tolist() == [1_000_000, 86_400_000_000]
    path.write_text("user,item,timestamp\n1,1,1970-01-02\n2,2,17\n")
    with pytest.raises(ArgumentError, match=r"ratings\.csv:3: timestamp: expected a date, got '17'"):
        read_interactions(path)


def test_one_fraction_makes_all_timestamps_float64(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("1,1,3,5\n" * 40 + "2,2,3,5.5\n" + "3,3,3,6\n" * 40)
    dataset, report = read_interactions(path)
    assert dataset.timestamps.tolist() == [5.0, 5.5, 6.0]
    assert report.duplicates == 78
    path.write_text(f"1,1,3,{2**62 + 1}\n\n2,2,3,5.5\n")
    assert read_interactions(path)[0].timestamps.tolist() == [2.0**62, 5.5]


# ---- blocks


ids = st.one_of(
    st.integers(-3, 30).map(str), st.text(st.sampled_from('ab,;"\n\r 7\tüx'), min_size=1, max_size=5).filter(str.strip)
)
rows = st.lists(st.tuples(ids, ids, st.integers(1, 5)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(8, 80), st.sampled_from(["\n", "\r\n"]), st.data())
def test_block_boundaries_and_parser_do_not_change_the_result(tmp_path_factory, rows, block, newline, data):
    path = tmp_path_factory.mktemp("blocks") / "ratings.csv"
    text, line_of, expected, seen = io.StringIO(newline=""), [], [], set()
    text.write(f"user,item,rating{newline}")
    for user, item, rating in rows:
        text.write(newline * data.draw(st.sampled_from([0, 0, 0, 1, 2])))
        at = text.getvalue().count("\n") + 1
        one = io.StringIO(newline="")
        csv.writer(one).writerow([user, item, rating])
        text.write(one.getvalue().removesuffix("\r\n") + newline)
        pair = (user.strip(), item.strip())
        (line_of if pair in seen else expected).append(at if pair in seen else pair)
        seen.add(pair)
    path.write_bytes(text.getvalue().encode())

    def read():
        dataset, report = read_interactions(path, header=True)
        pairs = zip(
            (dataset.user_ids[u] for u in dataset.users), (dataset.item_ids[i] for i in dataset.items), strict=True
        )
        assert [(str(user), str(item)) for user, item in pairs] == expected
        assert report.rows == len(rows)
        assert report.duplicate_lines.tolist() == line_of
        return dataset.fingerprint()

    in_one_block = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK", 4 * block)
        patch.setattr(delimited, "LONGEST_ROW", 1 << 20)
        assert read() == in_one_block
        patch.setattr(delimited, "ROW_BY_ROW", block)
        assert read() == in_one_block
        patch.setattr(delimited._Reader, "_by_arrow", lambda *_: None)
        assert read() == in_one_block


def test_a_clean_file_is_parsed_by_arrow_alone(tmp_path, monkeypatch):
    path = tmp_path / "ratings.dat"
    path.write_text("1::2::3::4\n" * 100)

    def never(*_):
        raise AssertionError("a clean block was parsed row by row")

    monkeypatch.setattr(delimited._Reader, "_by_row", never)
    assert read_interactions(path)[1].rows == 100


def test_without_pyarrow_the_error_says_what_to_install(monkeypatch):
    import neuralcf.data

    def absent(_):
        raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")

    monkeypatch.setattr(neuralcf.data, "import_module", absent)
    with pytest.raises(ImportError, match=r"read_interactions needs pyarrow: pip install 'neuralcf\[data\]'"):
        neuralcf.data.__getattr__("read_interactions")


def test_what_pandas_and_polars_hold_in_other_ways(tmp_path):
    """Categories of views, which Arrow does not decode; ratings as text or truth values; two types in a column."""
    pl, pd = pytest.importorskip("polars"), pytest.importorskip("pandas")
    frame = pl.DataFrame({"user": pl.Series(["b", "a"], dtype=pl.Categorical), "item": [1, 2]})
    enum = frame.with_columns(pl.col("user").cast(pl.String).cast(pl.Enum(["z", "b", "a"])))
    for each in (frame, enum, frame.to_arrow()):
        assert read_interactions(each)[0].user_ids == ["a", "b"]
    ratings = pa.table({"user": [1, 2, 3], "item": [1, 2, 3], "rating": ["5", " 3.5", "1"]})
    assert read_interactions(ratings, min_rating=3)[0].user_ids.tolist() == [1, 2]
    assert read_interactions(ratings, weight="rating")[0].weights.tolist() == [5, 3.5, 1]
    liked = ratings.set_column(2, "rating", [[True, False, True]])
    assert read_interactions(liked, dislike_below=1)[1].below_threshold == 1
    words = ratings.set_column(2, "rating", [["5", "good", None]])
    report = read_interactions(words, min_rating=3, on_bad_rows="report")[1]
    assert [problem.partition(": rating: ")[2] for problem in map(str, report.problems)] == [
        "expected a number, got 'good'",
        "expected a number, got nothing",
    ]
    for data, error, message in [
        (pd.DataFrame({"user": ["a", 1], "item": [1, 2]}), ArgumentError, "got several types in the column 'user'$"),
        (pd.DataFrame([[1, 2], [3, 4]]), ArgumentError, "pass its name or position as user=$"),
        (frame.lazy(), TypeError, r"or Arrow table, got LazyFrame; call its collect\(\)"),
        (pa.table({"user": [b"a", b"\xff"], "item": [1, 2]}), ArgumentError, "expected UTF-8 text, got other bytes"),
        (pa.table({"user": pa.array([], pa.int64()), "item": pa.array([], pa.int64())}), ArgumentError, "got no rows$"),
    ]:
        with pytest.raises(error, match=message):
            read_interactions(data)
    (tmp_path / "header.csv").write_text("user,item,rating\n")
    with pytest.raises(ArgumentError, match=r"expected interactions, got no rows, but the header$"):
        read_interactions(tmp_path / "header.csv", min_rating=3)
    (tmp_path / "mac.csv").write_text("user,item\r1,2\r3,4\r", newline="")
    with pytest.raises(ArgumentError, match=r"got a bare carriage return; tr '\\r' '\\n' converts it"):
        read_interactions(tmp_path / "mac.csv")

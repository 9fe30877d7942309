"""Item titles: layouts that are detected, and errors."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from neuralcf.data.readers.titles import read_titles
from neuralcf.errors import ArgumentError

IDS = np.array([3, 7, 20])
TITLES = {3: "Éden, Le (1997)", 20: 'The "Big" | One'}

LAYOUTS = {
    "movies.csv": b'movieId,title,genres\r\n20,"The ""Big"" | One",War\r\n3,"\xc3\x89den, Le (1997)",War\r\n7,,\r\n',
    "movies.dat": b'20::The "Big" | One::War|Drama\n3::\xc9den, Le (1997)::Drama\n\n8::Other::\n',
    "marked.tsv": b'\xef\xbb\xbfitem_id\tat\tName\n3\t1997\t\xc3\x89den, Le (1997)\n\n20\t1999\t"The ""Big"" | One"\n',
    "bare.csv": b'3,"\xc9den, Le (1997)",Drama|War\n20,"The ""Big"" | One",War\n3,Again,\n',
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_common_layouts_are_detected(name, compress, tmp_path):
    (tmp_path / name).write_bytes(compress(LAYOUTS[name]))
    assert read_titles(tmp_path / name, IDS) == TITLES


def test_movielens_100k(tmp_path):
    """`u.item`: delimited by `|`, Latin-1, no header, empty columns."""
    line = "1|Étoile, L' (1995)|01-Jan-1995||http://example.invalid/?Toy%20Story|0|0|1\n"
    (tmp_path / "u.item").write_text(line + line.replace("1|Ét", '2|"Ét', 1), encoding="latin-1")
    assert read_titles(tmp_path / "u.item", np.array([1, 2])) == {1: "Étoile, L' (1995)", 2: "\"Étoile, L' (1995)"}


def test_chosen_columns_and_string_ids(tmp_path):
    (tmp_path / "a.csv").write_text("key,x,label\n007,1,Bond\n7,2,Seven\n")
    for choice in ({"id_column": "key", "title_column": "label"}, {"id_column": 0, "title_column": 2}):
        assert read_titles(tmp_path / "a.csv", ["007"], **choice) == {"007": "Bond"}
        assert read_titles(tmp_path / "a.csv", np.array([7]), **choice) == {7: "Seven"}


def test_parquet(tmp_path):
    table = pa.table({"genre": ["a", "b", "c"], "title": ["Three", None, "Eight"], "item_id": [3, 7, 8]})
    pyarrow.parquet.write_table(table, tmp_path / "items")
    assert read_titles(tmp_path / "items", IDS) == {3: "Three"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected ids and titles, got an empty file"),
        (b"just text\n", "separated by a tab, ',', ';', '|' or '::', got 'just text'"),
        (b"PK\x03\x04\0\0", "damaged zip file"),
        (b"\x1f\x8b\x08torn", "damaged gzip file"),
        (b"PAR1torn", "damaged Parquet file"),
        (b"movieId,genres\n3,War\n", ":1: expected a column of titles, detected none among ['movieId', 'genres']"),
        (b"3,a\n7\n", ":2: expected at least 2 columns, got 1"),
        (b'3,a\n7,"b\n8,c\n', "expected columns separated by ','"),
        (b"1,one\n2,two\n", "expected ids of the model's items, such as 3, got only others, such as '1'"),
        (b"movieId,title\n", "got no rows"),
    ],
)
def test_errors_name_the_file(content, message, tmp_path):
    (tmp_path / "items").write_bytes(content)
    with pytest.raises(ArgumentError) as raised:
        read_titles(tmp_path / "items", IDS)
    assert str(raised.value).startswith(str(tmp_path / "items"))
    assert message in str(raised.value)


def test_missing_columns(tmp_path):
    (tmp_path / "items").write_text("movieId,title\n3,War\n")
    for choice, message in [
        ({"title_column": "name"}, "expected one of the columns ['movieId', 'title'], got 'name'"),
        ({"title_column": 5}, "expected a position from 0 to 1, got 5"),
        ({"title_column": "movieId"}, "in different columns, got 0 for both"),
    ]:
        with pytest.raises(ArgumentError, match=message.replace("[", r"\[")):
            read_titles(tmp_path / "items", IDS, **choice)
    with pytest.raises(FileNotFoundError):
        read_titles(tmp_path / "absent", IDS)

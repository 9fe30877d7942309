"""Features: layouts and kinds that are detected, the encoding against its definition, the account, and errors."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from neuralcf.attributes import FeatureColumn
from neuralcf.data import Dataset, planted_taste
from neuralcf.data.features import Features, fit_column
from neuralcf.data.readers.features import encode_features, parse_choice, read_features
from neuralcf.errors import ArgumentError

MOVIELENS = Path(__file__).resolve().parents[4] / "shared" / "data" / "ml-1m"
IDS = np.array([3, 7, 20, 30])
MOVIES = """movieId,title,genres,year
20,"One, Two",War|Drama,1990
3,Éden,Drama,
7,Third,War|Comedy|War,1994
8,Other,Drama,1999
20,Twice,Comedy,1900
"""
LAYOUTS = {
    "movies.csv": (MOVIES.encode(), None),
    "movies.dat": (
        b"20::One, Two::War|Drama::1990\n3::\xc9den::Drama::\n7::Third::War|Comedy|War::1994\n8::O::Drama::1999\n"
        b"20::Twice::Comedy::1900\n",
        "1,2,3:number",
    ),
}
WAR_DRAMA = [[1, 1, 0], [1, 1, 1], [1, 0, 1], [1, 0, 0]]  # of items 3, 20, 7, 30: shared, Drama, War


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_layouts_are_detected_and_every_row_is_accounted_for(name, compress, tmp_path):
    content, choice = LAYOUTS[name]
    (tmp_path / name).write_bytes(compress(content))
    choice = parse_choice(choice or "title,genres,year:number")
    features, report = read_features(tmp_path / name, IDS, "item", choice)
    order = np.array([0, 2, 1, 3])
    np.testing.assert_array_equal(features.dense()[order, :3], np.array(WAR_DRAMA, np.float32))
    np.testing.assert_array_equal(features.dense()[order, 3], [0, -1, 1, 0])  # mean 1992, deviation 2
    assert (report.rows, report.matched, report.unknown, report.duplicates, report.without) == (5, 3, 1, 1, 1)
    title, genres, year = (column for column in choice)
    assert report.columns == (f"{genres}:multi", f"{year}:number")
    assert report.missing == {year: 1}
    assert report.left_out == {genres: 1}  # only one item is a comedy
    assert report.unused == (title,)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("itemId,title\n3,The Alien (1979)\n7,Alien's Nest: the Alien (1986) \n20,Nest\n", "title.year,title.words"),
        ("3::The Alien (1979)\n7::Alien's Nest: the Alien (1986) \n20::Nest\n", "1.year:category,1.words:multi"),
    ],
)
def test_years_and_words_of_titles(text, choice, tmp_path):
    (tmp_path / "titles").write_text(text)
    features, report = read_features(tmp_path / "titles", np.array([3, 7, 20]), "item", parse_choice(choice))
    (words,) = features.columns  # each year is that of one title alone
    assert words.values == ("alien", "nest", "the")
    np.testing.assert_array_equal(features.dense()[:, 1:], [[1, 0, 1], [1, 1, 1], [0, 1, 0]])
    assert report.unused == (choice.split(",")[0].removesuffix(":category"),)
    (tmp_path / "new").write_text(text)
    ids, encoded, unknown = encode_features(tmp_path / "new", features.columns, "item")
    np.testing.assert_array_equal(encoded.dense(), features.dense())
    assert (ids, unknown) == (["3", "7", "20"], {words.name: 1})


def test_a_column_of_its_own_is_not_derived(tmp_path):
    (tmp_path / "t.csv").write_text("itemId,title,title.words\n3,a b,x|y\n7,a b,y|x\n20,a,z\n")
    features, _ = read_features(tmp_path / "t.csv", np.array([3, 7, 20]), "item", parse_choice("title.words"))
    assert features.columns[0].values == ("x", "y")


def test_kinds_are_detected():
    numbers = [str(n / 2) for n in range(40)]
    assert fit_column("a", None, ["x", "y|x", ""])[0] == FeatureColumn("a", "multi", ("x",))
    assert fit_column("a", None, ["1", "2", "1", "2"])[0] == FeatureColumn("a", "category", ("1", "2"))
    assert fit_column("a", None, numbers)[0].kind == "number"
    assert fit_column("a", None, [*numbers, "n/a"]) == (None, 41)
    assert fit_column("a", "number", ["5", "5"]) == (None, 1)
    assert fit_column("a", "category", ["x|y", "x|y"])[0].values == ("x|y",)


def test_a_map_sums_the_embeddings_of_values():
    rng = np.random.default_rng(0)
    columns = [
        FeatureColumn("c", "category", ("x", "y")),
        FeatureColumn("m", "multi", ("p", "q")),
        FeatureColumn("n", "number", mean=3, deviation=2),
    ]
    features = Features.encode(columns, [("y", "q|p|unknown", "7"), ("", "", ""), ("z", "q", "3")])
    shared, _, y, p, q, n = weights = rng.standard_normal((6, 5))
    expected = [shared + y + p + q + 2 * n, shared, shared + q]
    np.testing.assert_allclose(features.times(weights), expected, atol=1e-12)
    with pytest.raises(ArgumentError, match=r"^features: expected CSR rows of entries below 6"):
        replace(features, indices=features.indices + 1)


def test_features_belong_to_a_data_set(tmp_path):
    (tmp_path / "items.csv").write_text("item,kind\n" + "".join(f"{item},{item % 3}\n" for item in range(60)))
    dataset = planted_taste(20, 60).dataset
    features, _ = read_features(tmp_path / "items.csv", dataset.item_ids, "item")
    known = replace(dataset, item_features=features)
    assert known.take(np.arange(5)).item_features is features
    assert known.fingerprint() == dataset.fingerprint()
    other, _ = read_features(tmp_path / "items.csv", dataset.item_ids, "item", parse_choice("kind:number"))
    assert features.fingerprint() != other.fingerprint()
    with pytest.raises(ArgumentError, match=r"^user_features: expected 20 rows, one for each id, got 60$"):
        replace(dataset, user_features=features)
    assert isinstance(known, Dataset)


def test_parquet_and_new_entities(tmp_path):
    table = pa.table({"tags": [["a", "b"], ["a"], None], "item_id": ["x", "y", "z"], "price": [1.5, None, 4.5]})
    pyarrow.parquet.write_table(table, tmp_path / "items")
    features, report = read_features(
        tmp_path / "items", ["x", "y", "z"], "item", parse_choice("tags:multi,price:number")
    )
    np.testing.assert_array_equal(features.dense(), [[1, 1, -1], [1, 1, 0], [1, 0, 1]])
    assert report.missing == {"tags": 1, "price": 1}
    (tmp_path / "new.csv").write_text("price,item,tags\n6,n,a|c\n")
    ids, new, unknown = encode_features(tmp_path / "new.csv", features.columns, "item")
    np.testing.assert_array_equal(new.dense(), [[1, 1, 2]])
    assert (ids, unknown) == (["n"], {"tags": 1})
    (tmp_path / "new.csv").write_text("price,item\n6,n\n")
    with pytest.raises(ArgumentError, match=r"expected one of the columns \['price', 'item'\] \(names\), got 'tags'"):
        encode_features(tmp_path / "new.csv", features.columns, "item")
    (tmp_path / "new.csv").write_text("price,item,tags\n6,n,a\n7,n,b\n")
    with pytest.raises(ArgumentError, match="expected unique ids, got 'n' more than once"):
        encode_features(tmp_path / "new.csv", features.columns, "item")


@pytest.mark.parametrize(
    ("content", "choice", "message"),
    [
        (b"", None, "expected ids and attributes, got an empty file"),
        (b"just text\n", None, "expected ids and attributes, separated by a tab"),
        (b"PK\x03\x04\0\0", None, "damaged zip file"),
        (b"PAR1torn", None, "damaged Parquet file"),
        (b"movieId,genre\n3,War\n7\n", None, ":3: expected 2 columns, got 1: ['7']"),
        (b"movieId,genre\n,War\n", None, ":2: movieId: expected an id, got nothing"),
        (b"movieId,genre\n", None, "expected the ids of items, such as 3, got no rows"),
        (b"movieId,genre\n1,War\n", None, "expected the ids of items, such as 3, got only others, such as '1'"),
        (b"movieId,genre\n3,War\n7,Drama\n", None, "expected a column with values that several items share"),
        (b"movieId,year\n3,1990\n", "movieId:id,year:id", ": expected one column of ids, got movieId, year"),
        (b"movieId,year\n3,1990\n7,?\n", "year:number", ":3: year: expected a number, got '?'"),
        (
            b"movieId,year\n3,1990\n",
            "genre",
            ":1: expected one of the columns ['movieId', 'year'] (names), got 'genre'",
        ),
        (b"3,1990\n", "genre", ":1: expected one of the columns ['0', '1'] (numbers from 0, as there is no header)"),
        (b"3,1990\n", "0", ":1: expected columns of attributes beside the ids, got ['0', '1']"),
    ],
)
def test_errors_name_the_file(content, choice, message, tmp_path):
    (tmp_path / "items").write_bytes(content)
    with pytest.raises(ArgumentError) as raised:
        read_features(tmp_path / "items", IDS, "item", None if choice is None else parse_choice(choice))
    assert str(raised.value).startswith(str(tmp_path / "items"))
    assert message in str(raised.value)


def test_choices():
    assert parse_choice("genres:multi, year:number,a:b,key:id") == {
        "genres": "multi",
        "year": "number",
        "a:b": None,
        "key": "id",
    }
    for wrong in ("", "a,a:number", "a,,b"):
        with pytest.raises(ArgumentError, match="expected columns such as genres:multi,year:number"):
            parse_choice(wrong)


@pytest.mark.skipif(not MOVIELENS.is_dir(), reason="needs ../shared/data/ml-1m")
def test_movielens():
    """Latin-1, `::`, no header; each title is that of one movie, and so no feature."""
    _, movies = read_features(MOVIELENS / "movies.dat", np.arange(1, 3953), "item")
    assert (movies.rows, movies.without, movies.columns, movies.unused) == (3883, 69, ("2:multi",), ("1",))
    users, report = read_features(MOVIELENS / "users.dat", np.arange(1, 6041), "user")
    assert report.columns == ("1:category", "2:category", "3:category", "4:category")
    assert [column.width for column in users.columns[:3]] == [2, 7, 21]

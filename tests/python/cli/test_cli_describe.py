"""`neuralcf describe`: counts by hand, as text and as JSON; the reading options."""

import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from ncf_files import write_ncf
from neuralcf.cli import main

TEXT = "user,item,rating,timestamp\n1,a,5,10\n1,b,3,20\n1,a,4,30\n2,a,1,40\n2,,4,50\n3,a,x,60\n"


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.fixture
def ratings(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text(TEXT)
    return path


def test_json_of_a_file(ratings, capsys):
    code, out, _ = run(capsys, "describe", ratings, "--json", "--min-rating", 0)
    facts = json.loads(out)
    assert code == 0
    assert facts["files"][0] == {
        "source": str(ratings),
        "rows": 6,
        "columns": ["user=user", "item=item", "rating=rating", "timestamp=timestamp"],
        "passed_over": [],
        "delimiter": ",",
        "notes": [],
        "ratings": [1.0, 5.0],
        "unrated": 0,
        "bad": 2,
        "missing": 1,
        "problems": [
            f"{ratings}:6: item: expected an id, got nothing",
            f"{ratings}:7: rating: expected a number, got 'x'",
        ],
        "below_threshold": 0,
        "dislikes": 0,
        "weightless": 0,
        "below_core": 0,
        "duplicates": 1,
        "duplicate_lines": [4],
    }
    data = facts["interactions"]
    del data["fingerprint"]
    assert data == {
        "interactions": 3,
        "users": 2,
        "items": 2,
        "user_ids": "int64",
        "item_ids": "str",
        "density": 0.75,
        "per_user": {"least": 1, "median": 1.5, "mean": 1.5, "most": 2},
        "per_item": {"least": 1, "median": 1.5, "mean": 1.5, "most": 2},
        "users_with_one": 1,
        "share_of_top_tenth_of_items": pytest.approx(2 / 3),
        "timestamps": [10, 40],
    }


def test_text_of_a_file(ratings, capsys):
    code, out, err = run(capsys, "describe", ratings, "--min-rating", 2)
    assert (code, err) == (0, "")
    assert "6 rows, columns user=user, item=item, rating=rating, timestamp=timestamp, separated by ','" in out
    assert "1 below the minimum rating" in out
    assert "1 with the same user and item as another row: line 4" in out
    assert "2, of which 1 with a missing value" in out
    assert f"{ratings}:7: rating: expected a number, got 'x'" in out
    assert "2 interactions of 1 users with 2 items, 100% of all pairs" in out
    code, _, err = run(capsys, "describe", ratings, "--on-bad-rows", "raise")
    assert (code, err) == (2, f"neuralcf: {ratings}:6: item: expected an id, got nothing\n")


def test_a_tab_as_shells_hand_it_over(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("a,b\t1\nc,d\t2\n")
    code, out, _ = run(capsys, "describe", tmp_path / "a.txt", "--delimiter", r"\t", "--no-header")
    assert (code, "2 interactions of 2 users" in out) == (0, True)


def test_parquet_and_the_papers_files(tmp_path, capsys):
    path = tmp_path / "interactions.parquet"
    pa.parquet.write_table(pa.table({"user": ["x", "x"], "item": [1, 2]}), path)
    code, out, _ = run(capsys, "describe", path)
    assert code == 0
    assert "2 rows, columns user=user, item=item\n" in out
    assert "users str, items int64" in out

    prefix = write_ncf(tmp_path)
    code, out, _ = run(capsys, "describe", prefix)
    assert code == 0
    assert "2 pairs held out" in out
    assert "2 for 2 pairs" in out
    assert "3 items have no training interaction" in out
    code, _, err = run(capsys, "describe", prefix, "--min-rating", 3)
    assert code == 2
    assert "the NCF paper's files take no reading options but --text-ids, --encoding, got --min-rating" in err
    code, _, err = run(capsys, "describe", tmp_path / "nothing")
    assert code == 2
    assert "nothing.train.rating etc., found neither" in err


def test_train_stops_at_a_bad_row_or_counts_it(ratings, tmp_path, capsys):
    out_of = tmp_path / "model"
    code, _, err = run(capsys, "train", ratings, "--out", out_of)
    assert code == 2
    assert f"{ratings}:6: item: expected an id" in err
    text = "".join(f"{user},{item},4,{item}\n" for user in range(8) for item in range(user % 3, user % 3 + 6))
    ratings.write_text(TEXT.splitlines()[0] + "\n" + text + "1,,3,4\n")
    code, out, _ = run(capsys, "train", ratings, "--out", out_of, "--on-bad-rows", "report", "--epochs", 1)
    assert code == 0
    assert "0 duplicates, 1 bad" in out
    assert f"such as {ratings}:50: item: expected an id, got nothing" in out

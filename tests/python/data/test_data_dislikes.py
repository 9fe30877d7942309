"""Dislikes: low ratings, which are no interactions, are never recommended, and stay with the data in every step."""

import json
from dataclasses import replace

import numpy as np
import pytest

from neuralcf import ArgumentError, Recommender
from neuralcf.baselines import Popularity
from neuralcf.cli import main
from neuralcf.data import (
    Dataset,
    core,
    given,
    hold_out,
    leave_last_out,
    planted_taste,
    read_interactions,
    renumbered,
    split_by_time,
)
from neuralcf.data.dataset import with_text_ids
from neuralcf.evaluation import candidates_for, evaluate_full

RATINGS = """user,item,rating,time
1,10,5,1
1,20,1,2
1,20,2,3
1,30,3,4
2,10,1,5
2,20,4,6
2,10,5,7
2,30,2,8
3,10,1,9
2,40,1,10
1,50,4,11
2,50,1,12
"""
"""User 3 likes nothing, item 40 is liked by nobody, and user 2 changed his mind about item 10."""


def dislikes_of(dataset):
    """The dislikes as pairs of ids."""
    other = dataset.dislikes
    assert (other.num_users, other.num_items) == (dataset.num_users, dataset.num_items)
    return {(other.user_ids[u], other.item_ids[i]) for u, i in zip(other.users, other.items, strict=True)}


def disliked():
    return Dataset.from_ids([1, 1, 2, 2], [10, 20, 20, 30], [1, 2, 3, 4], dislikes=([1, 2, 2, 9], [30, 10, 20, 10]))


@pytest.mark.parametrize("parquet", [False, True])
def test_low_ratings_are_dislikes_and_every_row_is_accounted_for(tmp_path, parquet):
    source = tmp_path / "ratings"
    source.write_text(RATINGS)
    if parquet:
        csv, pq = pytest.importorskip("pyarrow.csv"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(csv.read_csv(source), source)
    dataset, report = read_interactions(source, min_rating=4, dislike_below=3)
    assert dataset.user_ids.tolist() == [1, 2]
    assert dataset.item_ids.tolist() == [10, 20, 50]
    assert dislikes_of(dataset) == {(1, 20), (2, 50)}
    assert dataset.dislikes.timestamps.tolist() == [2, 12]  # the first of two low ratings
    assert (report.dislikes, report.below_threshold, len(dataset)) == (2, 6, 4)
    assert report.rows == report.below_threshold + report.dislikes + report.duplicates + len(dataset)
    indptr, known = dataset.known_items()
    assert (indptr.tolist(), known.tolist()) == ([0, 3, 6], [0, 1, 2, 0, 1, 2])
    assert dataset.user_items()[1].tolist() == [0, 2, 0, 1]

    alone, _ = read_interactions(source, dislike_below=3)  # what is not disliked is an interaction
    assert (len(alone), alone.item_ids.tolist()) == (5, [10, 20, 30, 50])
    assert dislikes_of(alone) == {(1, 20), (2, 30), (2, 50)}
    none, report = read_interactions(source, min_rating=4, dislike_below=0)
    assert (none.dislikes, report.dislikes) == (None, 0)
    assert none.fingerprint() == read_interactions(source, min_rating=4)[0].fingerprint() != dataset.fingerprint()


def test_what_cannot_be_dislikes_is_refused(tmp_path):
    source = tmp_path / "ratings"
    source.write_text(RATINGS)
    with pytest.raises(ArgumentError, match="dislike_below: expected at most min_rating, 2, got 3"):
        read_interactions(source, min_rating=2, dislike_below=3)
    with pytest.raises(ArgumentError, match="dislike_below: expected a column of ratings"):
        read_interactions(source, rating="-", dislike_below=3)
    with pytest.raises(ArgumentError, match="expected interactions, got 12 rows, 12 of them rated below dislike_below"):
        read_interactions(source, dislike_below=6)
    source.write_text(RATINGS + "5,10,good,13\n")
    with pytest.raises(ArgumentError, match="ratings:14: rating: expected a number, got 'good'"):
        read_interactions(source, dislike_below=3)
    with pytest.raises(ArgumentError, match="dislikes: expected ids of"):
        replace(disliked(), dislikes=Dataset.from_ids([1], [10]))


def test_dislikes_keep_their_ids_through_every_step():
    dataset = disliked()
    pairs = {(1, 30), (2, 10)}
    assert dislikes_of(dataset) == pairs
    assert repr(dataset).endswith("with timestamps, 2 dislikes)")
    assert dislikes_of(dataset.take(np.array([0, 3]))) == pairs
    assert dislikes_of(with_text_ids(with_text_ids(dataset, "user"), "item")) == {("1", "30"), ("2", "10")}
    assert core(dataset, 1, 2).dislikes is None or not len(core(dataset, 1, 2).dislikes)  # item 20 is left
    last = leave_last_out(dataset)
    assert dislikes_of(last.train) == pairs
    joined = renumbered(last, np.array([7, 2, 1]), np.array([30, 99, 10]))
    assert joined.train.item_ids.tolist() == [30, 99, 10, 20]
    assert dislikes_of(joined.train) == pairs


def test_a_split_teaches_no_dislikes_of_the_future():
    early, late = Dataset.from_ids([1], [30], [2]), Dataset.from_ids([1, 2], [30, 10], [2, 4])
    dataset = Dataset.from_ids([1, 1, 2, 2, 1, 2], [10, 20, 20, 30, 40, 40], [1, 2, 2, 2, 2, 5])
    assert dislikes_of(split_by_time(dataset.with_dislikes(late), at=4).train) == {(1, 30)}
    assert dislikes_of(split_by_time(dataset.with_dislikes(early), at=4).train) == {(1, 30)}
    test = Dataset.from_ids([1, 2], [30, 10])
    assert dislikes_of(given(disliked(), Dataset.from_ids([1], [30])).train) == {(2, 10)}
    assert len(given(disliked(), test).train.dislikes) == 0


def test_evaluation_ranks_no_dislikes_and_says_so():
    dataset = planted_taste(40, 30, interactions_per_user=6).dataset
    split = hold_out(dataset, 1, "random")
    unknown = candidates_for(split, count=5)
    users = np.repeat(np.arange(40), np.diff(unknown[0])[np.searchsorted(split.users, np.arange(40))])
    others = Dataset(users, unknown[1], None, dataset.user_ids, dataset.item_ids)
    harder = replace(split, train=split.train.with_dislikes(others))
    again = candidates_for(harder, count=5)
    held = np.repeat(split.users, np.diff(again[0]))
    assert not set(zip(held.tolist(), again[1].tolist(), strict=True)) & set(
        zip(others.users.tolist(), others.items.tolist(), strict=True)
    )

    plain, fewer = (evaluate_full(Popularity(each.train), each) for each in (split, harder))
    assert "without the user's training items and dislikes" in fewer.protocol
    assert plain.fingerprint != fewer.fingerprint
    assert fewer.per_user["AUC"].sum() != plain.per_user["AUC"].sum()


def test_a_trained_model_never_recommends_a_dislike(tmp_path, capsys):
    data = planted_taste(40, 30, interactions_per_user=9).dataset
    file = tmp_path / "ratings.csv"
    stars = np.random.default_rng(0).integers(1, 6, len(data))
    rows = [f"{u},{i},{s}" for u, i, s in zip(data.users, data.items, stars, strict=True)]
    file.write_text("\n".join(["user,item,rating", *rows]))
    low = ["--min-rating", "3", "--dislike-below", "3"]
    dataset, _ = read_interactions(file, min_rating=3, dislike_below=3)
    assert main(["describe", str(file), *low]) == 0
    assert f"dislikes     {len(dataset.dislikes)}, which are no interactions" in capsys.readouterr().out

    small = ["--set", "trainer=mf", "--set", "epochs=1", "--set", "factors=4", "--split", "random", "--no-validation"]
    assert main(["train", str(file), "--out", str(tmp_path / "m"), *low, *small]) == 0
    out = capsys.readouterr().out
    assert f"; {len(dataset.dislikes)} dislikes" in out
    assert "the trainer mf, with these settings, does not use dislikes" in out
    assert json.loads((tmp_path / "m" / "config.json").read_text())["data"]["dislikes"] == len(dataset.dislikes)
    recommender = Recommender.load(tmp_path / "m")
    best = recommender.recommend(dataset.user_ids, k=30)
    listed = {(u, i) for u, row in zip(dataset.user_ids.tolist(), best.ids.tolist(), strict=True) for i in row}
    assert not listed & dislikes_of(dataset)
    assert main(["evaluate", str(tmp_path / "m"), str(file), *low, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["results"][str(tmp_path / "m")]
    assert "training items and dislikes" in result["HR@10"]["protocol"]

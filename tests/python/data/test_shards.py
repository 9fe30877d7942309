"""Parquet files become shards of users, and shards train what the data set trains."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

import neuralcf
from neuralcf import ArgumentError, cli
from neuralcf.data import Dataset, planted_taste, read_interactions
from neuralcf.data.readers.shards import write_shards
from neuralcf.training import DistillConfig, NCFConfig, TrainConfig, train
from neuralcf.training.sampling import ShardSampler


def write_parquet(folder, users, items, files=3, group=97):
    """Write pairs into several files of several row groups."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(np.array_split(np.arange(len(users)), files)):
        table = pa.table({"user_id": [users[n] for n in part], "item_id": [items[n] for n in part]})
        pa.parquet.write_table(table, folder / f"{number}.parquet", row_group_size=group)
    return folder


@pytest.fixture(scope="module")
def taste():
    return planted_taste(200, 60, seed=3).dataset


@pytest.fixture(scope="module")
def shards(taste, tmp_path_factory):
    """Shards of the planted interactions, twice each, in random order."""
    order = np.random.default_rng(0).permutation(np.tile(np.arange(len(taste)), 2))
    source = write_parquet(tmp_path_factory.mktemp("data"), taste.users[order] * 3 + 5, taste.items[order])
    return write_shards(source, tmp_path_factory.mktemp("shards"), rows_per_shard=1000)


def pairs_of(rows, first=0):
    indptr, indices = rows
    users = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)) + first
    return list(zip(users.tolist(), indices.tolist(), strict=True))


@pytest.mark.parametrize("text", [False, True])
def test_shards_hold_what_reading_at_once_gives(tmp_path, text):
    rng = np.random.default_rng(1)
    users, items = rng.integers(-40, 40, 3000), rng.integers(0, 50, 3000) ** 3
    if text:
        users, items = ([f"ü{value}" for value in column] for column in (users, items))
    source = write_parquet(tmp_path / "data", users, items)
    shards = write_shards(source, tmp_path / "shards", rows_per_shard=400)
    dataset, _ = read_interactions(source)
    assert shards.count > 3
    assert len(shards) == len(dataset)
    assert list(shards.user_ids) == list(dataset.user_ids)
    assert list(shards.item_ids) == list(dataset.item_ids)
    for joined, column in zip(shards.all_rows(), dataset.user_items(), strict=True):
        np.testing.assert_array_equal(joined, column)


def test_pairs_are_left_out_and_users_read(taste, shards):
    some = shards.of_users(np.array([0, 7, 199]))
    assert sorted(set(some.users.tolist())) == [0, 7, 199]
    assert len(some) == np.isin(taste.users, [0, 7, 199]).sum()
    less = shards.without(some.users[:1], some.items[:1]).without(some.users[-2:], some.items[-2:])
    everything = [pair for n in range(shards.count) for pair in pairs_of(shards.rows(n), shards.bounds[n])]
    remaining = [pair for n in range(less.count) for pair in pairs_of(less.rows(n), less.bounds[n])]
    gone = {(some.users[n], some.items[n]) for n in (0, -2, -1)}
    assert set(everything) - set(remaining) == gone
    assert len(remaining) == len(less) == len(shards) - 3
    assert [less.lengths(n).sum() for n in range(less.count)] == [less.rows(n)[1].size for n in range(less.count)]


def test_an_epoch_has_each_interaction_once_with_negatives_the_user_lacks(shards):
    known = {pair for n in range(shards.count) for pair in pairs_of(shards.rows(n), shards.bounds[n])}
    sampler = ShardSampler(shards, 2, seed=0, batch_size=128)
    epochs = [list(sampler.batches(0, epoch)) for epoch in (1, 1, 2)]
    users, items, labels = (torch.cat(column).tolist() for column in zip(*epochs[0], strict=True))
    positives = [(user, item) for user, item, label in zip(users, items, labels, strict=True) if label]
    assert sorted(positives) == sorted(known)
    assert len(users) == sampler.samples == 3 * len(known)
    assert len(epochs[0]) == sampler.steps
    assert not known & {(user, item) for user, item, label in zip(users, items, labels, strict=True) if not label}
    assert all(torch.equal(x, y) for one, two in zip(*epochs[:2], strict=True) for x, y in zip(one, two, strict=True))
    assert not all(torch.equal(one[0], two[0]) for one, two in zip(epochs[0], epochs[2], strict=True))


def test_shards_train_as_well_as_the_data_set_and_resume(shards, tmp_path):
    config = TrainConfig(NCFConfig(model="gmf", epochs=12, batch_size=512, patience=0))
    everyone = shards.of_users(np.arange(200))
    whole, sharded = (train(everyone, config, shards=each, progress=False) for each in (None, shards))
    hits = [max(record.validation_hr for record in result.history) for result in (whole, sharded)]
    assert hits[1] == pytest.approx(hits[0], abs=0.08)
    assert hits[1] > 0.4
    first = TrainConfig(config.trainer)
    train(everyone, first, shards=shards, run=tmp_path / "run", progress=False)
    again = train(everyone, first, shards=shards, run=tmp_path / "run", resume=True, progress=False)
    for name, weight in again.model.state_dict().items():
        assert torch.equal(weight, sharded.model.state_dict()[name]), name


def test_the_command_trains_on_shards_and_keeps_the_test_set_out(taste, tmp_path, capsys):
    source = write_parquet(tmp_path / "data", taste.users, [f"item {item}" for item in taste.items])
    options = [
        "--model",
        "gmf",
        "--epochs",
        "3",
        "--shards",
        str(tmp_path / "shards"),
        "--out",
        str(tmp_path / "model"),
    ]
    assert cli.main(["train", str(source), *options]) == 0
    assert "interactions of 200 users with 60 items" in capsys.readouterr().out
    recommender = neuralcf.Recommender.load(tmp_path / "model")
    assert recommender.recommend([0], 5).ids.shape == (1, 5)
    seen, _ = neuralcf.Scorer.load(tmp_path / "model").seen_items(np.arange(200))
    assert seen[-1] == len(taste) - 200, "one interaction of each user is held out"
    assert cli.main(["train", str(source), *options]) == 2, "the folder of shards is not empty"
    for refused, expected in ((options[4:], "got distill"), ([*options, "--min-rating", "3"], "no --min-rating")):
        assert cli.main(["train", str(source), *refused]) == 2
        assert expected in capsys.readouterr().err
    assert cli.main(["train", str(source), *options, "--run", str(tmp_path / "run"), "--resume"]) == 0


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"user_id": [1, None], "item_id": [1, 2]}, "expected a value in every row"),
        ({"user_id": [1.5, 2.5], "item_id": [1, 2]}, "expected integers or strings, got double"),
        ({"user_id": ["a\nb"], "item_id": [1]}, "without line breaks"),
        ({"what": [1], "item_id": [1]}, "user"),
    ],
)
def test_what_shards_cannot_hold_is_refused(tmp_path, columns, expected):
    pa.parquet.write_table(pa.table(columns), tmp_path / "data.parquet")
    with pytest.raises(ArgumentError, match=expected):
        write_shards(tmp_path / "data.parquet", tmp_path / "shards")


def test_other_trainers_and_full_folders_are_refused(shards, tmp_path):
    dataset = Dataset.from_ids([1, 1, 2, 2], [1, 2, 1, 3])
    with pytest.raises(ArgumentError, match="shards: the trainer distill cannot"):
        train(dataset, TrainConfig(DistillConfig()), shards=shards)
    with pytest.raises(ArgumentError, match="expected an empty folder"):
        write_shards(tmp_path, shards.folder)
    with pytest.raises(ArgumentError, match="expected Parquet files"):
        write_shards(tmp_path, tmp_path / "shards")

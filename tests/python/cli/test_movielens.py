"""MovieLens files on the command line: raw ids in, raw ids out."""

import csv
import json

import pytest

import neuralcf
from conftest import DATA
from neuralcf.cli import main

FILES = {"ml-100k": ("ml-100k/u.data", "\t", 0), "ml-latest-small": ("ml-latest-small/ratings.csv", ",", 1)}


@pytest.mark.parametrize(("name", "delimiter", "header_lines"), FILES.values(), ids=FILES.keys())
def test_from_the_raw_file_to_raw_ids(tmp_path, capsys, name, delimiter, header_lines):
    if not (DATA / name).is_file():
        pytest.skip(f"{name} is absent: MovieLens may not be redistributed")
    out = tmp_path / "model"
    options = ["--epochs", "1", "--batch-size", "8192", "--lr", "0.01"]
    assert main(["train", str(DATA / name), "--out", str(out), *options]) == 0

    with (DATA / name).open(newline="") as file:
        rows = list(csv.reader(file, delimiter=delimiter))[header_lines:]
    users, items = {int(row[0]) for row in rows}, {int(row[1]) for row in rows}
    recommender = neuralcf.Recommender.load(out)
    assert (recommender.num_users, recommender.num_items) == (len(users), len(items))
    user = max(users)
    history = sorted((float(row[3]), at, int(row[1])) for at, row in enumerate(rows) if int(row[0]) == user)
    known = {item for _, _, item in history[:-1]}  # the latest one was held out

    capsys.readouterr()
    assert main(["recommend", str(out), "--user", str(user), "-k", "20", "--json"]) == 0
    recommended = {entry["item"] for entry in json.loads(capsys.readouterr().out)["items"]}
    assert len(recommended) == 20
    assert recommended <= items - known
    everything = recommender.recommend(user, len(items))
    assert everything.counts == len(items) - len(known)

    metrics = json.loads((out / "config.json").read_text())["metrics"]
    first = next(metric for metric in metrics if (metric["name"], metric["among"]) == ("HR@10", "1 + 99"))
    assert 0.2 < first["value"] < 1  # above the 0.1 of chance after one epoch
    assert 0.2 < first["popularity"] < 1

"""`neuralcf train`: where its configuration comes from, and runs that go on."""

import json

import pytest

from neuralcf.cli import main
from neuralcf.data import planted_taste

SMALL = ["--epochs", "2", "--batch-size", "256", "--factors", "4", "--layers", "8,4"]


@pytest.fixture
def ratings(tmp_path):
    data = planted_taste(40, 30, interactions_per_user=6).dataset
    rows = [f"{user},{item},{time}" for user, item, time in zip(data.users, data.items, data.timestamps, strict=True)]
    file = tmp_path / "ratings.csv"
    file.write_text("\n".join(["user,item,timestamp", *rows]))
    return str(file)


def stored(model):
    return json.loads((model / "config.json").read_text())["training"]


def test_preset_file_settings_and_options_come_together(ratings, tmp_path):
    (tmp_path / "run.toml").write_text("negatives = 2\nseed = 4\n")
    told = ["--preset", "paper-8", "--config", str(tmp_path / "run.toml"), "--set", "seed=5", "--set", "dropout=0.1"]
    assert main(["train", ratings, "--out", str(tmp_path / "m"), *told, *SMALL, "--device", "cpu"]) == 0
    training = stored(tmp_path / "m")
    expected = {"learning_rate": 0.001, "negatives": 2, "seed": 5, "dropout": 0.1, "epochs": 2, "layers": [8, 4]}
    assert {name: training[name] for name in expected} == expected


def test_a_resumed_run_needs_no_repeated_options_and_takes_no_others(ratings, tmp_path, capsys):
    run = ["--run", str(tmp_path / "run"), "--resume"]
    assert main(["train", ratings, "--out", str(tmp_path / "one"), *SMALL, *run]) == 0
    assert main(["train", ratings, "--out", str(tmp_path / "two"), *run]) == 0
    assert stored(tmp_path / "one") == stored(tmp_path / "two")
    capsys.readouterr()
    assert main(["train", ratings, "--out", str(tmp_path / "two"), *run, "--seed", "9"]) == 2
    assert "started with seed = 0, got 9" in capsys.readouterr().err
    assert main(["train", ratings, "--out", str(tmp_path / "two"), "--resume"]) == 2
    assert "pass --run" in capsys.readouterr().err


def test_data_too_small_to_validate_on(tmp_path, capsys):
    file = tmp_path / "few.csv"
    file.write_text("user,item,timestamp\n" + "\n".join(f"{u},{u % 3 + n},{n}" for u in range(8) for n in range(2)))
    told = ["train", str(file), "--out", str(tmp_path / "m"), *SMALL]
    assert main(told) == 2
    assert "--no-validation" in capsys.readouterr().err
    assert main([*told, "--no-validation"]) == 0
    assert "epoch 2 kept, the last, without validation" in capsys.readouterr().out

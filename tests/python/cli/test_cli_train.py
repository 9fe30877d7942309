"""`neuralcf train`: the sources of its configuration, resumed runs, splits."""

import json
from pathlib import Path

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


def test_preset_file_settings_and_options_are_combined(ratings, tmp_path):
    (tmp_path / "run.toml").write_text("negatives = 2\nseed = 4\n")
    arguments = [
        "--preset",
        "paper-8",
        "--config",
        str(tmp_path / "run.toml"),
        "--set",
        "seed=5",
        "--set",
        "dropout=0.1",
    ]
    assert main(["train", ratings, "--out", str(tmp_path / "m"), *arguments, *SMALL, "--device", "cpu"]) == 0
    training = stored(tmp_path / "m")
    expected = {"learning_rate": 0.001, "negatives": 2, "seed": 5, "dropout": 0.1, "epochs": 2, "layers": [8, 4]}
    assert {name: training[name] for name in expected} == expected


def test_a_resumed_run_needs_no_options_and_rejects_different_ones(ratings, tmp_path, capsys):
    run = ["--run", str(tmp_path / "run"), "--resume"]
    assert main(["train", ratings, "--out", str(tmp_path / "one"), *SMALL, *run]) == 0
    assert main(["train", ratings, "--out", str(tmp_path / "two"), *run]) == 0
    assert stored(tmp_path / "one") == stored(tmp_path / "two")
    capsys.readouterr()
    assert main(["train", ratings, "--out", str(tmp_path / "two"), *run, "--seed", "9"]) == 2
    assert "started with seed = 0, got 9" in capsys.readouterr().err
    assert main(["train", ratings, "--out", str(tmp_path / "two"), "--resume"]) == 2
    assert "pass --run" in capsys.readouterr().err


def test_data_too_small_for_a_validation_set(tmp_path, capsys):
    file = tmp_path / "few.csv"
    file.write_text("user,item,timestamp\n" + "\n".join(f"{u},{u % 3 + n},{n}" for u in range(8) for n in range(2)))
    arguments = ["train", str(file), "--out", str(tmp_path / "m"), *SMALL]
    assert main(arguments) == 2
    assert "--no-validation" in capsys.readouterr().err
    assert main([*arguments, "--no-validation"]) == 0
    assert "kept epoch 2, the last, without validation" in capsys.readouterr().out


def held_out(model):
    return json.loads((model / "config.json").read_text())["data"]


@pytest.mark.parametrize(
    ("rule", "guarantee"),
    [
        ("last", "user's latest"),
        ("random", "chosen at random"),
        ("time:.2", "every training interaction precedes"),
        ("none", "nothing is held"),
    ],
)
def test_a_split_by_rule_is_stored_and_reproduced(ratings, tmp_path, capsys, rule, guarantee):
    model = tmp_path / "m"
    assert main(["train", ratings, "--out", str(model), *SMALL, "--split", rule, "--no-validation"]) == 0
    assert guarantee in held_out(model)["held_out"]
    assert (guarantee in capsys.readouterr().out) == (rule != "none")
    assert main(["evaluate", str(model), ratings, "--json"]) == (2 if rule == "none" else 0)
    printed = capsys.readouterr()
    if rule == "none":
        assert "expected held-out items to rank, got none" in printed.err
        return
    metrics = json.loads((model / "config.json").read_text())["metrics"]
    stored = {m["name"]: m["value"] for m in metrics if m["among"] == "all items"}
    again = json.loads(printed.out)["results"][str(model)]
    assert {name: value["mean"] for name, value in again.items()} == stored


def test_given_splits(ratings, tmp_path, capsys):
    header, *rows = Path(ratings).read_text().splitlines()
    latest = {row.split(",")[0]: row for row in rows}  # one row per user
    parts = {"train": [row for row in rows if row not in latest.values()], "test": list(latest.values())}
    for part, of_part in parts.items():
        (tmp_path / f"{part}.csv").write_text("\n".join([header, *of_part]))
        in_ncf = (row.split(",") for row in of_part)
        (tmp_path / f"X.{part}.rating").write_text("".join(f"{u}\t{i}\t1\t{t}\n" for u, i, t in in_ncf))
    pairs = (row.split(",")[:2] for row in parts["test"])
    lines = (f"({user},{item})\t{(int(item) + 1) % 30}\t{(int(item) + 2) % 30}\n" for user, item in pairs)
    (tmp_path / "X.test.negative").write_text("".join(lines))

    model, files = tmp_path / "m", [str(tmp_path / f"{part}.csv") for part in parts]
    assert main(["train", files[0], "--held-out", files[1], "--out", str(model), *SMALL]) == 0
    assert f"{files[1]}: 40 rows" in capsys.readouterr().out
    assert main(["train", str(tmp_path / "X"), "--out", str(model), *SMALL]) == 0
    assert "1 + 2 candidates for each held-out item, given" in capsys.readouterr().out
    assert main(["evaluate", str(model), str(tmp_path / "X"), "--protocol", "1+99"]) == 0
    assert "1 + 2 candidates for each held-out item, given" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["X", "--split", "last"], "because these files are a split"),
        (
            ["X", "--min-rating", "3"],
            "the NCF paper's files take no reading options but --text-ids, --encoding, got --min-rating",
        ),
        (["ratings.csv", "--split", "weekly"], "split: expected auto, last"),
        (
            ["nowhere"],
            "nowhere: expected a file, or the prefix of the three files nowhere.train.rating etc., found neither",
        ),
    ],
)
@pytest.mark.usefixtures("ratings")
def test_impossible_splits_are_rejected(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    for part, text in (
        ("train.rating", "1\t1\t1\n1\t2\t1\n"),
        ("test.rating", "1\t3\t1\n"),
        ("test.negative", "(1,3)\t4\n"),
    ):
        Path(f"X.{part}").write_text(text)
    assert main(["train", *options, "--out", "m"]) == 2
    assert message in capsys.readouterr().err


def test_features_are_read_reported_and_part_of_the_run(ratings, tmp_path, capsys):
    (tmp_path / "items.csv").write_text("item,genre,note\n" + "".join(f"{n},{n % 3},x{n}\n" for n in range(2, 40)))
    (tmp_path / "users.dat").write_text("".join(f"{n}::{'FM'[n % 2]}::{n % 5}\n" for n in range(40)))
    files = ["--item-features", str(tmp_path / "items.csv"), "--user-features", str(tmp_path / "users.dat")]
    run = ["--run", str(tmp_path / "run"), "--resume"]
    chosen = ["--user-feature-columns", "1,2:number"]
    assert main(["train", ratings, "--out", str(tmp_path / "m"), *SMALL, *files, *chosen, *run]) == 0
    printed = capsys.readouterr().out
    assert "users.dat: features of 40 users, columns 1:category, 2:number\n" in printed
    assert "items.csv: features of 28 items, columns genre:category\n" in printed
    assert "of 38 rows 10 with other ids, 0 duplicates; 2 items have none" in printed
    assert "values too rare or too many: " not in printed
    assert "not used: note, whose values no two items share, or all do" in printed
    assert main(["train", ratings, "--out", str(tmp_path / "n"), *files[:2], *run]) == 2
    assert "the run was started on other data" in capsys.readouterr().err
    assert main(["train", ratings, "--out", str(tmp_path / "n"), *chosen]) == 2
    assert "--user-feature-columns: expected --user-features with it" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", ratings, "--out", str(tmp_path / "n"), *files, "--item-feature-columns", "a,,b"])
    assert "expected columns such as genres:multi,year:number" in capsys.readouterr().err


def test_weights_are_read_and_fade(tmp_path, capsys):
    dataset = planted_taste(60, 40, interactions_per_user=12, seed=1).dataset
    rows = zip(dataset.users, dataset.items, dataset.timestamps, strict=True)
    text = "".join(f"{u},{i},{time},{1 + i % 3}\n" for u, i, time in rows)
    (tmp_path / "rated.csv").write_text("user,item,timestamp,amount\n" + text)
    command = ["train", str(tmp_path / "rated.csv"), "--epochs", "1", "--out", str(tmp_path / "model")]
    fingerprints = []
    for more in ([], ["--half-life", "2"], ["--weight-column", "amount", "--half-life", "2"]):
        assert main([*command, *more]) == 0
        data = json.loads((tmp_path / "model" / "config.json").read_text())["data"]
        fingerprints.append(data["fingerprint"])
        assert data.get("half_life") == (2 if more else None)
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    evaluate = ["evaluate", str(tmp_path / "model"), str(tmp_path / "rated.csv")]
    assert main(evaluate) == 2  # without its weights the data are others
    assert main([*evaluate, "--weight-column", "amount"]) == 0
    (tmp_path / "wrong.csv").write_text("user,item,amount\n1,2,1\n1,3,0\n")
    assert main(["train", str(tmp_path / "wrong.csv"), "--weight-column", "amount", "--out", str(tmp_path / "no")]) == 2
    assert "wrong.csv:3: weight: expected a number above 0, got 0" in capsys.readouterr().err

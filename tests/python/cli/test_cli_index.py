"""`neuralcf index` and the options of approximate search: what they write, measure, print and refuse."""

import csv
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest

import neuralcf
from neuralcf import Recommender, Scorer
from neuralcf.cli import main
from reference import Shape, random_tensors

SHAPE = Shape(300, 3000, g=8)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time searches for a moment only."""
    monkeypatch.setattr("neuralcf.cli.index._TIMED_SECONDS", 0.05)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    ids = (list(range(SHAPE.users)), list(range(SHAPE.items)))
    neuralcf.save(random_tensors(SHAPE), tmp_path / "model", kind="gmf", ids=ids)
    return tmp_path / "model"


def test_it_builds_and_saves_what_the_scorer_builds(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", str(model), "--lists", "80", "--seed", "3", "--recall", "0.95"]) == 0
    lines = capsys.readouterr().out.splitlines()
    built = Scorer.load(model).build_index(lists=80, seed=3).index
    assert Scorer.load(model).index == built
    assert f"index built and saved: {built.lists} lists" in lines[0]
    rows = [line.split() for line in lines[2:]]
    expected = [level for level in built.levels if level.recall == 0.95]
    assert [(int(row[0]), float(row[1]), float(row[2])) for row in rows] == [
        (level.k, 0.95, round(level.measured, 4)) for level in expected
    ]


def test_check_measures_on_fresh_users_and_keeps_an_index(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", str(model), "--lists", "80"]) == 0
    written = (model / "index.safetensors").read_bytes()
    capsys.readouterr()
    assert main(["index", str(model), "--check", "--json", "--recall", "0.9"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (model / "index.safetensors").read_bytes() == written
    assert facts["built"] is False
    assert {check["k"] for check in facts["checks"]} == {1, 10, 100}
    for check in facts["checks"]:
        assert check["source"] == "mixtures of two users each"  # all users had a part in the index
        assert 0.8 < check["measured"] <= 1
        assert check["exact_us"] > 0
        assert check["exact_is_enough"] == (check["approximate_us"] > 0.9 * check["exact_us"])
    assert main(["index", str(model), "--check", "--seed", "1"]) == 0
    assert (model / "index.safetensors").read_bytes() != written
    out = capsys.readouterr().out
    assert "checked for k 10, recall 0.99: " in out
    assert "exact search is enough" in out or "approximate search is faster" in out


def test_a_damaged_index_is_built_again(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model / "index.safetensors").write_bytes(b"damage")
    assert main(["index", str(model), "--check"]) == 0
    assert "index built and saved" in capsys.readouterr().out
    assert Scorer.load(model).index is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lists", "3001"], "--lists: expected 1 to 3000, the number of items; got 3001"),
        (["--recall", "1"], "argument --recall: expected a number above 0 and at most 0.999, got 1"),
        (["--recall", "all"], "argument --recall: expected a number above 0 and at most 0.999, got all"),
        (["--seed", "-1"], "argument --seed: expected"),
        (["--lists", "0"], "argument --lists: "),
    ],
)
def test_wrong_options(model: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["index", str(model), *options])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (model / "index.safetensors").exists()


def test_a_single_file_takes_no_index(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", str(model / "model.safetensors")]) == 2
    assert "expected a model directory, in which an index is saved, got a file" in capsys.readouterr().err


def test_a_bar_on_a_terminal_and_ctrl_c(model: Path) -> None:
    pytest.importorskip("tqdm")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    program = [sys.executable, "-m", "neuralcf", "index", str(model), "--lists", "1500"]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=theirs)
    shown = ""
    while "index:" not in shown:
        shown += os.read(ours, 1 << 16).decode()
    process.send_signal(signal.SIGINT)
    code = process.wait(60)
    os.close(theirs)
    os.close(ours)
    # It may have ended before the signal came; then it is whole.
    assert code == 130 or (code == 0 and Scorer.load(model).index is not None)
    assert code == 0 or not (model / "index.safetensors").exists()
    assert [file.name for file in model.iterdir() if file.name.endswith(".part")] == []


def test_recommend_by_the_index(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["recommend", str(model), "--include-seen", "--search", "approximate"]
    assert main([*command, "--user", "7"]) == 2
    assert f"--search approximate: {model} has no index; neuralcf index builds one" in capsys.readouterr().err
    assert main(["index", str(model)]) == 0
    capsys.readouterr()
    recommender = Recommender.load(model)
    assert main([*command, "--user", "7", "--probes", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["items"]
    near = recommender.recommend(7, exclude_seen=False, search="approximate", probes=2)
    assert [one["item"] for one in found] == near.ids.tolist()
    out = tmp_path / "lists.csv"
    assert main([*command, "--all-users", "--recall", "0.9", "--out", str(out)]) == 0
    with out.open(newline="") as file:
        items = [int(row["item"]) for row in csv.DictReader(file)]
    near = recommender.recommend(np.arange(SHAPE.users), exclude_seen=False, search="approximate", recall=0.9)
    assert items == near.ids.ravel().tolist()
    assert main([*command, "--user", "7", "--recall", "0.9", "--probes", "2"]) == 2
    assert "--probes: expected --recall or --probes, got both" in capsys.readouterr().err
    assert main(["recommend", str(model), "--user", "7", "--recall", "0.9"]) == 2
    assert "--recall: only with --search approximate" in capsys.readouterr().err

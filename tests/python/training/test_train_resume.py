"""A run that is killed and resumed, at any time and any number of times, ends like one that never stopped."""

import dataclasses
import json
import multiprocessing
import random
import shutil
import signal
import time

import pytest
import torch

from neuralcf import ArgumentError
from neuralcf.data import leave_last_out, planted_taste
from neuralcf.training import NCFConfig, TrainConfig, configure, from_dict, train
from neuralcf.training.run_directory import RunDirectory

CONFIG = TrainConfig(
    NCFConfig(
        factors=4, layers=(8, 4), epochs=6, pretrain=True, pretrain_epochs=6, batch_size=1024, dropout=0.1, patience=0
    ),
    refit=True,
)
SHORT = from_dict(CONFIG.to_dict() | {"epochs": 2, "pretrain_epochs": 2})


def dataset():
    return leave_last_out(planted_taste(100, 60, seed=3).dataset).train


def resume(path, started):
    started.set()
    train(dataset(), CONFIG, run=path, resume=True, progress=False)


def wait_for_epochs(checkpoint, count, child):
    """Wait until the checkpoint was replaced `count` times."""
    before = stamp(checkpoint)
    while count and child.is_alive():
        time.sleep(0.001)
        if stamp(checkpoint) != before:
            before, count = stamp(checkpoint), count - 1


def stamp(file):
    return file.stat().st_mtime_ns if file.exists() else None


def weights_of(result):
    return result.model.state_dict()


def lines_of(path):
    """Read the log lines without times."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def records_of(result):
    return [dataclasses.replace(record, seconds=0) for record in result.history]


def assert_same(one, other):
    assert weights_of(one).keys() == weights_of(other).keys()
    for name, weight in weights_of(one).items():
        assert torch.equal(weight, weights_of(other)[name]), name
    assert records_of(one) == records_of(other)
    assert one.best_epoch == other.best_epoch


def test_four_kills_at_random_times_do_not_change_a_bit(tmp_path):
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(
        ["neuralcf.training.train", "pytest"]
    )  # imported once, so that children start quickly
    chance = random.Random(0)
    checkpoint = tmp_path / "killed" / "checkpoint.pt"
    for kill in range(4):
        started = server.Event()
        child = server.Process(target=resume, args=(tmp_path / "killed", started))
        child.start()
        assert started.wait(60)
        wait_for_epochs(checkpoint, kill % 3, child)
        time.sleep(chance.uniform(0, 0.05))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL, "the run is too short to be killed four times"
    assert len(torch.load(checkpoint, weights_only=True)["history"]) >= 3  # epochs: 0 + 1 + 2 + 0

    killed = train(dataset(), CONFIG, run=tmp_path / "killed", resume=True)
    uninterrupted = train(dataset(), CONFIG, run=tmp_path / "uninterrupted")
    assert_same(killed, uninterrupted)
    assert lines_of(tmp_path / "killed") == lines_of(tmp_path / "uninterrupted")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "deep" / "run"
    return path, train(dataset(), SHORT, run=path)


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run, for tests that change it."""
    return shutil.copytree(finished[0], tmp_path / "run")


def test_a_run_directory_holds_the_configuration_and_a_line_per_step_and_epoch(finished):
    path, result = finished
    stored = json.loads((path / "config.json").read_text())
    assert stored["config"] == SHORT.to_dict() == RunDirectory.stored_config(path)
    assert stored["data"]["fingerprint"] == dataset().fingerprint()
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if "step" not in line and line["epoch"] > 0]
    assert epochs == [dataclasses.asdict(record) for record in result.history]
    for epoch in epochs:
        steps = [x for x in lines if "step" in x and (x["stage"], x["epoch"]) == (epoch["stage"], epoch["epoch"])]
        assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
        mean = sum(line["loss"] for line in steps[:-1]) / (len(steps) - 1)  # the last batch is smaller
        assert epoch["loss"] == pytest.approx(mean, rel=0.05)


def test_a_run_directory_changes_nothing_and_resuming_a_finished_run_returns_its_result(finished):
    path, result = finished
    assert_same(train(dataset(), SHORT), result)
    before = (path / "metrics.jsonl").read_bytes()
    again = train(dataset(), SHORT, run=path, resume=True)
    assert_same(again, result)
    assert again.history == result.history
    assert (path / "metrics.jsonl").read_bytes() == before


FLAT = {
    **{"trainer": "ncf", "model": "neumf", "factors": 4, "layers": [8, 4], "negatives": 4, "epochs": 2},
    **{"batch_size": 1024, "optimizer": "adam", "learning_rate": 0.004, "l2_embeddings": 0.0, "l2_layers": 0.0},
    **{"dropout": 0.1, "patience": 0, "pretrain": True, "pretrain_epochs": 2, "alpha": 0.5},
    **{"fine_tune_optimizer": "adam", "fine_tune_learning_rate": 0.004, "seed": 0, "threads": 1, "device": "cpu"},
    **{"averaging": 1.0, "dislike_share": 0.05, "validation": True, "refit": True},
}
"""The configuration as runs stored it when all settings were fields of one class."""


def test_a_run_in_the_old_layout_is_resumed_and_one_with_other_settings_is_rejected(copy):
    stored = json.loads((copy / "config.json").read_text())
    for flat, sentence in (
        (FLAT, None),
        (FLAT | {"momentum": 0.9}, r"the run was started with momentum = 0\.9, got none$"),
        (
            {name: value for name, value in FLAT.items() if name != "refit"},
            r"the run was started with no refit, got True$",
        ),
    ):
        (copy / "config.json").write_text(json.dumps(stored | {"config": flat}))
        if sentence is None:
            assert_same(train(dataset(), configure(start=flat), run=copy, resume=True), train(dataset(), SHORT))
            continue
        with pytest.raises(ArgumentError, match=sentence):
            train(dataset(), SHORT, run=copy, resume=True)
    with pytest.raises(ArgumentError, match=r"^the run's config\.json: momentum: expected a setting of the"):
        configure(start=FLAT | {"momentum": 0.9})


def test_a_run_is_neither_overwritten_nor_mixed_with_another(copy):
    with pytest.raises(ArgumentError, match="a run already exists here; pass --resume"):
        train(dataset(), SHORT, run=copy)
    with pytest.raises(ArgumentError, match=r"started with seed = 0, got 1, alpha = 0\.5, got 0\.4$"):
        train(dataset(), from_dict(SHORT.to_dict() | {"seed": 1, "alpha": 0.4}), run=copy, resume=True)
    with pytest.raises(ArgumentError, match="started on other data: expected fingerprint"):
        train(planted_taste(100, 60).dataset, SHORT, run=copy, resume=True)
    with (
        RunDirectory(copy, SHORT, dataset().fingerprint(), resume=True),
        pytest.raises(ArgumentError, match="another process is already training"),
    ):
        train(dataset(), SHORT, run=copy, resume=True)


def test_a_directory_that_is_not_a_run_is_left_unchanged(tmp_path):
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(ArgumentError, match=r"expected a run or an empty directory, got one with thesis\.tex"):
        train(dataset(), SHORT, run=tmp_path, resume=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ArgumentError, match="resume: expected a run directory"):
        train(dataset(), SHORT, resume=True)


@pytest.mark.parametrize(
    ("name", "spoil", "sentence"),
    [
        ("checkpoint.pt", lambda content: content[: len(content) // 2], "expected a checkpoint, got a damaged file"),
        ("checkpoint.pt", lambda _: b"", "expected a checkpoint, got a damaged file"),
        (
            "metrics.jsonl",
            lambda content: content[:-1],
            r"expected at least the \d+ bytes that checkpoint\.pt records, got fewer",
        ),
        ("config.json", lambda content: content[:40], "expected the configuration of a run, got invalid JSON"),
        ("config.json", lambda _: b"{}", "expected a run to resume, of format neuralcf-run, version 1"),
    ],
)
def test_a_damaged_run_is_rejected(copy, name, spoil, sentence):
    file = copy / name
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(ArgumentError, match=rf"{name}: {sentence}"):
        train(dataset(), SHORT, run=copy, resume=True)


def test_no_damaged_byte_of_a_checkpoint_is_accepted(copy):
    file, chance = copy / "checkpoint.pt", random.Random(0)
    good = file.read_bytes()
    for at in [chance.randrange(len(good)) for _ in range(300)] + list(range(len(good) - 80, len(good))):
        file.write_bytes(good[:at] + bytes([good[at] ^ 1 << chance.randrange(8)]) + good[at + 1 :])
        with pytest.raises(ArgumentError, match=r"checkpoint\.pt: expected a checkpoint, got a damaged file"):
            RunDirectory.read_checkpoint(copy)
    file.write_bytes(good[: good.rindex(b"\nsha256 ")])  # as earlier versions wrote it
    assert RunDirectory.read_checkpoint(copy).keys() == torch.load(file, weights_only=True).keys()


def test_a_checkpoint_runs_no_code(copy):
    class Attack:
        def __reduce__(self):
            return (pytest.fail, ("the checkpoint was trusted",))

    torch.save({"metrics_bytes": 0, "history": Attack()}, copy / "checkpoint.pt")
    with pytest.raises(ArgumentError, match="expected a checkpoint, got a damaged file"):
        train(dataset(), SHORT, run=copy, resume=True)

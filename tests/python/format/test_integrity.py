"""Damage to a model's files is found at load, also where it leaves every file well-formed."""

import json
import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import neuralcf
from neuralcf import ModelFormatError, Recommender, Scorer
from neuralcf._core import read_features
from neuralcf.cli import main
from neuralcf.format.digests import config_text, list_file, verify
from reference import Shape, random_history, random_tensors

FLIPS = int(os.environ.get("NEURALCF_FLIPS", "6000"))
"""Number of bits flipped; `make torture` flips more."""
U, I = 5, 9  # noqa: E741 - users and items
SHAPE = Shape(U, I, g=3, mlp=(2, 4), layers=(5, 3))
IDS = (list(range(U)), [f"item {item}" for item in range(I)])
READ = ("config.json", "model.safetensors", "seen.safetensors", "history.safetensors", "ids.safetensors")


def publish(path: Path, seed: int = 0) -> None:
    seen = (np.arange(U + 1), np.arange(U))
    neuralcf.save(random_tensors(SHAPE, seed), path, kind="neumf", ids=IDS, seen=seen, history=random_history(I, 5))


def edit_config(path: Path, edit) -> None:
    config = json.loads((path / "config.json").read_text())
    edit(config)
    (path / "config.json").write_text(json.dumps(config))


def refused(path: Path) -> bool:
    try:
        Scorer.load(path, threads=1)
    except ModelFormatError:
        return True
    return False


def damaged(chance: random.Random, data: bytes) -> bytes:
    """Return the data with a bit flipped, or in one of ten cases truncated."""
    at = chance.randrange(len(data))
    return (
        data[:at]
        if chance.random() < 0.1
        else data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
    )


def test_no_damaged_file_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(tmp_path / "model")
    neuralcf.save(random_tensors(SHAPE), tmp_path / "one.safetensors", kind="neumf")
    (tmp_path / "alone.safetensors").write_bytes((tmp_path / "model" / "model.safetensors").read_bytes())
    targets = [(tmp_path / "model", tmp_path / "model" / name) for name in READ]
    targets += [(file, file) for file in (tmp_path / "one.safetensors", tmp_path / "alone.safetensors")]
    chance, accepted = random.Random(0), Counter[str]()
    for path, file in targets:
        good = file.read_bytes()
        assert not refused(path)
        for _ in range(FLIPS // len(targets) + 1):
            file.unlink()  # overwriting a file may force it to disk
            file.write_bytes(damaged(chance, good))
            accepted[file.name] += not refused(path)
        file.write_bytes(good)
    with capsys.disabled():
        print(f" {FLIPS} damaged, {accepted.total()} accepted", end="")
    assert accepted.total() == 0, accepted


def test_a_file_of_another_generation_is_refused_under_the_same_model_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uuid.uuid4", lambda: type("Fixed", (), {"hex": "f" * 32}))
    publish(tmp_path / "a", seed=1)
    publish(tmp_path / "b", seed=2)
    (tmp_path / "a" / "model.safetensors").write_bytes((tmp_path / "b" / "model.safetensors").read_bytes())
    with pytest.raises(
        ModelFormatError, match=r"a/model\.safetensors: damaged or changed: its SHA-256 is \w+, expected"
    ):
        Scorer.load(tmp_path / "a")


def test_a_lost_file_is_refused_but_interactions_may_be_removed(tmp_path: Path) -> None:
    model = tmp_path / "model"
    for name in ("ids.safetensors", "history.safetensors"):
        publish(model)
        (model / name).unlink()
        with pytest.raises(ModelFormatError, match=f"{name}: missing, but listed in .*config.json"):
            Scorer.load(model)
    publish(model)
    (model / "seen.safetensors").unlink()
    assert Scorer.load(model).nbytes["seen"] == 0


def test_features_are_compared_too(tmp_path: Path) -> None:
    publish(tmp_path / "model")
    edit_config(
        tmp_path / "model",
        lambda config: config["files"].update({"features.safetensors": {"size": 8, "sha256": "0" * 64}}),
    )
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    files = config.pop("files")
    del config["sha256"]
    (tmp_path / "model" / "config.json").write_bytes(config_text(config, files))
    with pytest.raises(ModelFormatError, match=r"features\.safetensors: missing, but listed"):
        read_features(tmp_path / "model")
    (tmp_path / "model" / "features.safetensors").write_bytes(bytes(9))
    with pytest.raises(ModelFormatError, match=r"features\.safetensors: 9 bytes long, expected 8"):
        read_features(tmp_path / "model")


def test_models_without_digests_load_and_inspect_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model"
    publish(model)
    assert main(["inspect", str(model), "--verify"]) == 0
    assert "compared" in capsys.readouterr().out
    edit_config(model, lambda config: config.pop("sha256"))
    with pytest.raises(
        ModelFormatError, match=r"config\.json: expected files, an object, and sha256, a string, or neither"
    ):
        Scorer.load(model)
    edit_config(model, lambda config: config.pop("files"))
    Scorer.load(model)
    assert main(["inspect", str(model)]) == 0
    assert "none stored" in capsys.readouterr().out
    assert main(["inspect", str(model), "--verify"]) != 0
    assert "no digests to verify" in capsys.readouterr().err


def test_verify_names_every_file_that_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model"
    publish(model)
    names = [*READ[1:], "README.md"]
    assert verify(model) == dict.fromkeys(sorted(names), "same")
    (model / "README.md").write_text("another card")
    (model / "seen.safetensors").unlink()
    (model / "more").write_text("")
    states = {"README.md": "changed", "seen.safetensors": "missing", "more": "not listed"}
    assert verify(model) == dict.fromkeys(names, "same") | states
    assert main(["inspect", str(model), "--verify"]) != 0
    assert "README.md is changed, more is not listed, seen.safetensors is missing" in capsys.readouterr().err


def test_config_json_lists_what_sha256sum_prints(tmp_path: Path) -> None:
    publish(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["files"].keys() == {*READ[1:], "README.md"}
    assert all(list_file(tmp_path / "model" / name) == listed for name, listed in config["files"].items())


UNPICKLE = """
import pickle, sys
try:
    pickle.load(sys.stdin.buffer)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("digests", [True, False])
@pytest.mark.parametrize("optimized", [[], ["-O"]])
def test_a_pickle_refuses_other_ids(tmp_path: Path, digests: bool, optimized: list[str]) -> None:
    model = tmp_path / "model"
    publish(model)
    if not digests:
        edit_config(model, lambda config: [config.pop("files"), config.pop("sha256")])
    pickled = pickle.dumps(Recommender.load(model))
    ids = model / "ids.safetensors"
    good = ids.read_bytes()

    def outcome() -> str:
        command = [sys.executable, *optimized, "-c", UNPICKLE]
        return subprocess.run(command, input=pickled, capture_output=True, check=True).stdout.decode()

    assert outcome() == ""
    ids.write_bytes(good.replace(b"item 1item 2", b"item 2item 1"))
    assert outcome().startswith("ModelFormatError")
    ids.unlink()
    assert outcome().startswith("ModelFormatError")

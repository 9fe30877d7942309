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
from neuralcf.attributes import FeatureColumn, FeatureMap
from neuralcf.cli import main
from neuralcf.data.features import feature_tensors
from neuralcf.format.digests import list_file, verify
from reference import Shape, random_history, random_tensors

FLIPS = int(os.environ.get("NEURALCF_FLIPS", "6000"))
"""How often a file is damaged; `make torture` takes a million."""
U, I = 5, 9  # noqa: E741 - users and items
SHAPE = Shape(U, I, g=3, mlp=(2, 4), layers=(5, 3))
FILES = ["config.json", *(f"{part}.safetensors" for part in ("model", "seen", "history", "ids", "features"))]


def publish(path: Path, seed: int = 0) -> None:
    """Save a model whose files all depend on the seed."""
    feature = FeatureColumn(name="genre", kind="category", values=[f"{seed}a", f"{seed}b"])
    gmf, mlp = (np.full((3, width), seed, np.float32) for width in (3, 4))
    neuralcf.save(
        random_tensors(SHAPE, seed),
        path,
        kind="neumf",
        ids=([user + seed for user in range(U)], [f"item {item + seed}" for item in range(I)]),
        seen=(np.arange(U + 1), (np.arange(U) + seed) % I),
        history=random_history(I, 5, seed=seed),
        features=feature_tensors({"item": FeatureMap(columns=[feature], gmf=gmf, mlp=mlp)}),
    )


def edit_config(path: Path, edit) -> None:
    config = json.loads((path / "config.json").read_text())
    edit(config)
    (path / "config.json").write_text(json.dumps(config))


def refused(path: Path) -> bool:
    try:
        Scorer.load(path, threads=1)
        read_features(path)
    except ModelFormatError:
        return True
    return False


class Damage:
    """Damages one file in place, and mends it; `other` is what another generation has in its place."""

    def __init__(self, file: Path, other: bytes | None, chance: random.Random) -> None:
        self.good, self.other, self.chance = file.read_bytes(), other, chance
        self.handle = os.open(file, os.O_RDWR)

    def do(self) -> str:
        """Flip a bit; in one of ten cases truncate the file, in one exchange it for that of the other generation."""
        kinds = ("flipped", "truncated", "of another generation")
        kind = self.chance.choices(kinds, (8, 1, 0 if self.other is None else 1))[0]
        if kind == "flipped":
            at = self.chance.randrange(len(self.good))
            self._write(bytes([self.good[at] ^ 1 << self.chance.randrange(8)]), at)
        elif kind == "truncated":
            os.ftruncate(self.handle, self.chance.randrange(len(self.good)))
        elif self.other is not None:
            self._write(self.other, 0)
            os.ftruncate(self.handle, len(self.other))
        return kind

    def mend(self) -> None:
        self._write(self.good, 0)
        os.ftruncate(self.handle, len(self.good))

    def _write(self, data: bytes, at: int) -> None:
        os.lseek(self.handle, at, os.SEEK_SET)
        assert os.write(self.handle, data) == len(data)


def test_no_damaged_file_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Another generation has the same model_id, so that the digests alone tell it from the first.
    monkeypatch.setattr("uuid.uuid4", lambda: type("Fixed", (), {"hex": "f" * 32}))
    model, other, single = (tmp_path / name for name in ("model", "other", "single.safetensors"))
    publish(model)
    publish(other, seed=1)
    neuralcf.save(random_tensors(SHAPE), single, kind="neumf")
    targets = [(model, model / name, (other / name).read_bytes()) for name in FILES] + [(single, single, None)]
    chance, tried, accepted = random.Random(0), Counter[str](), Counter[str]()
    for path, file, exchanged in targets:
        assert not refused(path)
        damage = Damage(file, exchanged, chance)
        assert damage.good != exchanged
        for _ in range(FLIPS // len(targets) + 1):
            kind = damage.do()
            tried[kind] += 1
            accepted[f"{file.name} {kind}"] += not refused(path)
            damage.mend()
        assert not refused(path)
        os.close(damage.handle)
    with capsys.disabled():
        print(f" {dict(tried)}, {accepted.total()} accepted", end="")
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
    features = tmp_path / "model" / "features.safetensors"
    features.write_bytes(bytes(9))
    with pytest.raises(ModelFormatError, match=r"features\.safetensors: 9 bytes long, expected \d{3}"):
        read_features(tmp_path / "model")
    features.unlink()
    with pytest.raises(ModelFormatError, match=r"features\.safetensors: missing, but listed"):
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
    names = [*FILES[1:], "README.md"]
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
    assert config["files"].keys() == {*FILES[1:], "README.md"}
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

"""A second trainer: its settings, presets and runs work without any change to the first."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest

from neuralcf import GMF, ArgumentError
from neuralcf.cli import main
from neuralcf.data import planted_taste
from neuralcf.training import (
    TRAINERS,
    EpochRecord,
    NCFConfig,
    TrainConfig,
    Trainer,
    TrainerConfig,
    TrainResult,
    configure,
    from_dict,
    train,
)
from neuralcf.training.config import check_int


@dataclass(frozen=True, kw_only=True)
class TinyConfig(TrainerConfig):
    name: ClassVar[str] = "tiny"

    width: int = 2

    def __post_init__(self) -> None:
        check_int("width", self.width, minimum=1)


def fit(dataset, config, run, *, progress):  # noqa: ARG001
    """Return an untrained model."""
    record = EpochRecord("tiny", 1, 0.5, 0.0, None, None)
    if run:
        run.log(stage="tiny", epoch=1)
        run.save({"epoch": 1})
    return TrainResult(GMF(dataset.num_users, dataset.num_items, config.trainer.width).eval(), [record], 1)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(TRAINERS, "tiny", Trainer(TinyConfig, fit, {"wide": {"width": 9}}))


@pytest.fixture(scope="module")
def dataset():
    return planted_taste(20, 15, interactions_per_user=4).dataset


def test_its_settings_come_from_presets_files_and_the_command_line(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('trainer = "tiny"\nseed = 4\n')
    config = configure(preset="wide", toml=file, settings=["threads=2"])
    assert config == TrainConfig(TinyConfig(width=9), seed=4, threads=2)
    assert configure(toml=file, settings=["width=3"]).trainer == TinyConfig(width=3)
    assert from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["widht=3"], "--set widht=3: widht: expected a setting of the trainer tiny; the nearest is width"),
        (["sed=3"], "--set sed=3: sed: expected a setting of the trainer tiny; the nearest is seed"),
        (["factors=3"], "factors: expected a setting of the trainer tiny; the nearest is "),
        (["width=0"], "--set width=0: width: expected an integer >= 1, got 0"),
        (["trainer=ncf", "width=3"], "width: expected a setting of the trainer ncf; the nearest is "),
    ],
)
def test_a_setting_that_it_does_not_have_is_rejected(settings, sentence):
    with pytest.raises(ArgumentError) as rejected:
        configure(settings=["trainer=tiny", *settings])
    assert sentence in str(rejected.value)


def test_presets_of_another_trainer_are_not_its_own():
    with pytest.raises(ArgumentError, match="preset: expected one of wide, got 'paper-8'"):
        configure(preset="paper-8", settings=["trainer=tiny"])


def test_it_cannot_redefine_a_common_setting():
    @dataclass(frozen=True, kw_only=True)
    class Greedy(TrainerConfig):
        name: ClassVar[str] = "greedy"
        seed: int = 1

    with pytest.raises(
        ArgumentError, match="greedy: expected names of its own for its settings, got seed, which all trainers have"
    ):
        Trainer(Greedy, fit)


def test_its_run_cannot_be_resumed_by_another_trainer(dataset, tmp_path):
    config = TrainConfig(TinyConfig(width=3))
    assert train(dataset, config, run=tmp_path).model.gmf.user_embedding.weight.shape == (20, 3)
    train(dataset, config, run=tmp_path, resume=True)
    with pytest.raises(ArgumentError, match=r"the run was started with trainer = 'tiny', got 'ncf'$"):
        train(dataset, TrainConfig(NCFConfig()), run=tmp_path, resume=True)
    with pytest.raises(ArgumentError, match="trainer: the run was started with 'tiny', got 'ncf'"):
        configure(start=config.to_dict(), settings=["trainer=ncf"])


def test_the_train_command_uses_it_and_stores_its_settings(dataset, tmp_path, capsys):
    file = tmp_path / "ratings.csv"
    pairs = zip(dataset.users, dataset.items, strict=True)
    file.write_text("\n".join(["user,item", *(f"{user},{item}" for user, item in pairs)]))
    arguments = ["train", str(file), "--out", str(tmp_path / "model"), "--set", "trainer=tiny", "--set", "width=5"]
    assert main(arguments) == 0
    assert "gmf: kept epoch 1" in capsys.readouterr().out
    stored = json.loads((tmp_path / "model" / "config.json").read_text())
    assert stored["training"] == {**TrainConfig(TinyConfig(width=5)).to_dict(), "best_epoch": 1}
    assert stored["sizes"]["gmf_width"] == 5
    assert main([*arguments, "--factors", "4"]) == 2
    assert "factors: expected a setting of the trainer tiny" in capsys.readouterr().err

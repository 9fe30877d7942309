"""The training configuration: presets, TOML, single settings; errors that say where and what."""

import json
import math

import pytest

from neuralcf import ArgumentError
from neuralcf.training import NCFConfig, TrainConfig, configure, from_dict
from neuralcf.training.presets import DISTILL, MATRIX_FACTORIZATION, PAPER


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "svd"),
        ("factors", 0),
        ("factors", 8.0),
        ("layers", (64,)),
        ("layers", (64, 0)),
        ("layers", (1, 8)),
        ("layers", 64),
        ("negatives", 0),
        ("epochs", 0),
        ("batch_size", True),
        ("optimizer", "lion"),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("learning_rate", "0.1"),
        ("l2_embeddings", -1e-9),
        ("l2_layers", math.inf),
        ("dropout", 1.0),
        ("patience", -1),
        ("pretrain", 1),
        ("pretrain_epochs", 0),
        ("alpha", 1.5),
        ("fine_tune_optimizer", None),
        ("fine_tune_learning_rate", 0),
    ],
)
def test_invalid_settings_are_rejected_on_construction(field, value):
    with pytest.raises(ArgumentError, match=rf"^{field}: expected .*got "):
        NCFConfig(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"), [("trainer", "ncf"), ("seed", -1), ("threads", 0), ("device", "gpu"), ("validation", 1)]
)
def test_common_settings_are_checked_on_construction(field, value):
    with pytest.raises(ArgumentError, match=rf"^{field}: expected .*got "):
        TrainConfig(**{"trainer": NCFConfig(), field: value})


def test_pretraining_is_for_neumf():
    with pytest.raises(ArgumentError, match="pretrain: expected False for any model but neumf, got True for gmf"):
        NCFConfig(model="gmf", pretrain=True)


def test_a_configuration_survives_json():
    config = TrainConfig(NCFConfig(layers=[32, 8], pretrain=True), seed=5)
    assert from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("learning_rate=0.001", 0.001),
        ("learning_rate = 1e-3", 0.001),
        ("epochs=7", 7),
        ("layers=64,32", (64, 32)),
        ("layers=[64, 32]", (64, 32)),
        ("pretrain=true", True),
        ("validation=False", False),
        ("model=gmf", "gmf"),
        ("device=cuda:1", "cuda:1"),
    ],
)
def test_a_setting_has_the_type_of_its_field(setting, expected):
    config, name = configure(settings=[setting]), setting.split("=")[0].strip()
    value = getattr(config if hasattr(config, name) else config.trainer, name)
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("epochs", "--set epochs: expected field=value"),
        ("epoch=3", "--set epoch=3: epoch: expected a setting of the trainer ncf; the nearest is epochs"),
        ("epochs=3.5", "--set epochs=3.5: epochs: expected an integer >= 1, got '3.5'"),
        ("epochs=0", "--set epochs=0: epochs: expected an integer >= 1, got 0"),
        ("learning_rate=fast", "--set learning_rate=fast: learning_rate: expected a finite number > 0, got 'fast'"),
        ("pretrain=yes", "--set pretrain=yes: pretrain: expected True or False, got 'yes'"),
        ("layers=64,x", "--set layers=64,x: layers: expected a sequence of sizes, got '64,x'"),
        ("trainer=svd", "trainer: expected one of distill, ncf, mf, got 'svd'"),
        ("model=svd", "--set model=svd: model: expected 'gmf', 'mlp' or 'neumf', got 'svd'"),
    ],
)
def test_a_bad_setting_is_rejected(setting, sentence):
    with pytest.raises(ArgumentError) as rejected:
        configure(settings=[setting])
    assert str(rejected.value) == sentence


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("epochs = ", r"expected TOML: Invalid value"),
        ("epoch = 3", r"epoch: expected a setting .*nearest is epochs"),
        ("[train]\nepochs = 3", r"train: expected a setting"),
        ("epochs = '3'", r"epochs: expected an integer >= 1, got '3'"),
        ("layers = [64, 'x']", r"layers: expected .*got \(64, 'x'\)"),
        ("dropout = nan", r"dropout: expected a number >= 0 and < 1, got nan"),
        ("learning_rate = true", r"learning_rate: expected .*got True"),
        (b"\xff", r"expected TOML: "),
    ],
)
def test_a_bad_file_is_rejected_by_name(tmp_path, content, sentence):
    file = tmp_path / "run.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ArgumentError, match=rf"^{file}: {sentence}"):
        configure(toml=file)


def test_later_sources_override_earlier_ones(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('model = "mlp"\nfactors = 3\nlayers = [12, 6]\nseed = 1\nepochs = 2\n')
    config = configure(
        start={"dropout": 0.5, "negatives": 9},
        preset="paper-8",
        toml=file,
        settings=["seed=2", "epochs=3", "epochs=4"],
        options={"seed": 3},
    )
    own = NCFConfig(
        model="mlp",
        factors=3,
        layers=(12, 6),
        batch_size=256,
        learning_rate=0.001,
        negatives=4,
        epochs=4,
        dropout=0.5,
        averaging=0,
    )
    assert config == TrainConfig(own, seed=3)


def test_presets_are_configurations_and_an_unknown_one_lists_them():
    made = {name: configure(preset=name) for name in (*DISTILL, *PAPER, *MATRIX_FACTORIZATION)}
    assert (made["paper-8"].trainer.layers, made["paper-64"].trainer.layers) == ((64, 32, 16, 8), (512, 256, 128, 64))
    assert made["paper-8-pretrained"].trainer.pretrain
    with pytest.raises(
        ArgumentError, match=r"preset: expected one of fast, best, paper-8, .*neumf, .*mf-bpr, got 'paper'"
    ):
        configure(preset="paper")

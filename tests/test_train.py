"""Training: reproducible, better than popularity, and told off where it cannot work."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from neuralcf import ArgumentError, DivergedError, Scorer
from neuralcf.config import TrainConfig
from neuralcf.data import Dataset, leave_last_out, planted_taste
from neuralcf.evaluate import evaluate_full
from neuralcf.references import Popularity
from neuralcf.train import _EpochSampler, _Validation, train

SMALL = TrainConfig(epochs=8, batch_size=256)


@pytest.fixture(scope="module")
def split():
    return leave_last_out(planted_taste(300, 120).dataset)


def scorer_of(model):
    return Scorer.from_tensors({name: weight.detach().numpy() for name, weight in model.state_dict().items()})


def assert_same_weights(one, other):
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


def test_training_finds_the_planted_taste(split):
    result = train(split.train, SMALL)
    popularity = evaluate_full(Popularity(split.train), split)
    assert evaluate_full(scorer_of(result.model), split).hr > 0.5 > 3 * popularity.hr
    assert [record.epoch for record in result.history] == list(range(1, 9))
    losses = [record.loss for record in result.history]
    assert losses[0] == pytest.approx(math.log(2), abs=0.25)
    assert losses[-1] < 0.8 * losses[0]
    ratios = [record.validation_hr for record in result.history]
    assert result.best_epoch == 1 + int(np.argmax(ratios))
    assert not result.model.training


def test_the_best_epochs_weights_are_the_result_and_the_earlier_of_equals(split, monkeypatch):
    ratios = iter([0.2, 0.6, 0.6, 0.1])
    monkeypatch.setattr(_Validation, "hit_ratio", lambda *_: next(ratios))
    result = train(split.train, dataclasses.replace(SMALL, epochs=4))
    assert result.best_epoch == 2
    monkeypatch.undo()
    ended = train(split.train, dataclasses.replace(SMALL, epochs=2))
    assert ended.best_epoch == 2
    assert_same_weights(result.model, ended.model)


@pytest.mark.parametrize("model", ["gmf", "mlp", "neumf"])
def test_equal_seeds_give_equal_weights_whatever_the_global_state(split, model):
    config = dataclasses.replace(SMALL, model=model, epochs=2)
    torch.manual_seed(1)
    first = train(split.train, config)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    again = train(split.train, config)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert_same_weights(first.model, again.model)
    other = train(split.train, dataclasses.replace(config, seed=1))
    assert not torch.equal(first.model.output.weight, other.model.output.weight)


def test_an_epoch_has_each_positive_once_and_fresh_unknown_negatives():
    dataset = Dataset.from_ids([0, 0, 1, 1, 1], [0, 1, 1, 2, 3])
    sampler = _EpochSampler(dataset, TrainConfig(negatives=3))
    known = set(zip(dataset.users.tolist(), dataset.items.tolist(), strict=True))
    epochs = []
    for _ in range(2):
        users, items, labels = sampler.draw()
        pairs = list(zip(users.tolist(), items.tolist(), strict=True))
        positive = [pair for pair, label in zip(pairs, labels.tolist(), strict=True) if label == 1]
        negative = [pair for pair, label in zip(pairs, labels.tolist(), strict=True) if label == 0]
        assert sorted(positive) == sorted(known)
        assert len(negative) == 3 * len(known)
        assert not known & set(negative)
        assert np.bincount([user for user, _ in negative]).tolist() == [6, 9]
        epochs.append(pairs)
    assert sorted(epochs[0]) != sorted(epochs[1])


def test_without_validation_everything_is_trained_on_and_the_last_epoch_kept(split):
    result = train(split.train, dataclasses.replace(SMALL, epochs=2, validation=False))
    assert result.best_epoch == 2
    assert [record.validation_hr for record in result.history] == [None, None]


def test_data_that_cannot_be_trained_on_is_refused():
    full = Dataset.from_ids([0, 0, 1], [0, 1, 0])
    with pytest.raises(ArgumentError, match="user 0 knows all"):
        train(full, TrainConfig(validation=False))
    with pytest.raises(ArgumentError, match="validation=False"):
        train(Dataset.from_ids([0, 1], [0, 1]), TrainConfig())
    with pytest.raises(ArgumentError, match="got none"):
        train(full.take(np.array([], dtype=np.int64)), TrainConfig())


def test_a_loss_that_is_no_number_stops_with_epoch_and_batch(split):
    with pytest.raises(DivergedError, match=r"epoch 1, batch [2-9]\d*: expected a finite loss.*learning_rate"):
        train(split.train, TrainConfig(learning_rate=1e30))


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
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("seed", -1),
        ("threads", 0),
        ("validation", 1),
    ],
)
def test_impossible_configurations_are_refused_at_birth(field, value):
    with pytest.raises(ArgumentError, match=rf"^{field}: expected .*got "):
        TrainConfig(**{field: value})


def test_a_configuration_survives_json():
    config = TrainConfig(layers=[32, 8], seed=5)
    assert TrainConfig(**json.loads(json.dumps(config.to_dict()))) == config

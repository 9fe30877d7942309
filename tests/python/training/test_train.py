"""Training: reproducible, better than popularity, with clear errors for what cannot be trained."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from neuralcf import ArgumentError, DivergedError, Scorer, export
from neuralcf.baselines import Popularity
from neuralcf.data import Dataset, leave_last_out, planted_taste
from neuralcf.evaluation.protocols import evaluate_full
from neuralcf.models import NeuMF
from neuralcf.training import TRAINERS, NCFConfig, TrainConfig, TrainerConfig, from_dict, train
from neuralcf.training.losses import bce_with_logits
from neuralcf.training.pair_weights import PairWeights
from neuralcf.training.sampling import EpochSampler
from neuralcf.training.validation import Validation

SMALL = TrainConfig(NCFConfig(epochs=8, batch_size=256, patience=0))


def changed(config, **settings):
    return from_dict(config.to_dict() | settings)


@pytest.fixture(scope="module")
def split():
    return leave_last_out(planted_taste(300, 120).dataset)


def scorer_of(model):
    return Scorer.from_tensors({name: weight.detach().numpy() for name, weight in model.state_dict().items()})


def assert_same_weights(one, other):
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


def ranking(monkeypatch, ratios):
    """Replace validation by these hit ratios, one per epoch."""
    found = iter(ratios)
    monkeypatch.setattr(Validation, "measure", lambda *_: (next(found), 0.0))


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


def test_the_best_epoch_is_kept_and_the_earlier_one_wins_a_tie(split, monkeypatch):
    ranking(monkeypatch, [0.2, 0.6, 0.6, 0.1])
    result = train(split.train, changed(SMALL, epochs=4))
    assert result.best_epoch == 2
    monkeypatch.undo()
    ended = train(split.train, changed(SMALL, epochs=2))
    assert ended.best_epoch == 2
    assert_same_weights(result.model, ended.model)


def test_patience_counts_epochs_without_improvement(split, monkeypatch):
    ranking(monkeypatch, [0.2, 0.1, 0.3, 0.3, 0.2, 0.9])
    result = train(split.train, changed(SMALL, epochs=6, patience=2))
    assert ([record.epoch for record in result.history], result.best_epoch) == ([1, 2, 3, 4, 5], 3)


@pytest.mark.parametrize("model", ["gmf", "mlp", "neumf"])
def test_equal_seeds_give_equal_weights_for_any_global_random_state(split, model):
    config = changed(SMALL, model=model, epochs=2, dropout=0.2)
    torch.manual_seed(1)
    first = train(split.train, config)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    again = train(split.train, config)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert_same_weights(first.model, again.model)
    other = train(split.train, changed(config, seed=1))
    assert not torch.equal(first.model.output.weight, other.model.output.weight)


def test_an_epoch_has_each_positive_once_and_newly_sampled_negatives():
    dataset = Dataset.from_ids([0, 0, 1, 1, 1, *[2] * 20], [0, 1, 1, 2, 3, *range(4, 24)])
    sampler = EpochSampler(dataset, 3, seed=0, batch_size=30)
    known = set(zip(dataset.users.tolist(), dataset.items.tolist(), strict=True))
    epochs = []
    for place in [(0, 1), (0, 2), (1, 1)]:
        batches = list(sampler.batches(*place))
        assert [len(labels) for _, _, labels in batches] == [30, 30, 30, 10]
        users, items, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        pairs = list(zip(users.tolist(), items.tolist(), strict=True))
        positive = [pair for pair, label in zip(pairs, labels.tolist(), strict=True) if label == 1]
        negative = [pair for pair, label in zip(pairs, labels.tolist(), strict=True) if label == 0]
        assert sorted(positive) == sorted(known)
        assert len(negative) == 3 * len(known)
        assert not known & set(negative)
        assert np.bincount([user for user, _ in negative]).tolist() == [6, 9, 60]
        epochs.append(sorted(pairs))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_without_validation_the_last_epoch_is_kept(split):
    result = train(split.train, changed(SMALL, epochs=2, validation=False, patience=1))
    assert result.best_epoch == 2
    assert [record.validation_hr for record in result.history] == [None, None]


def test_pretraining_fuses_both_parts_and_keeps_fine_tuning_only_if_it_is_better(split, monkeypatch):
    config = changed(SMALL, epochs=2, pretrain=True, pretrain_epochs=2, alpha=0.3)
    ranking(monkeypatch, [0.1, 0.2, 0.1, 0.2, 0.5, 0.4, 0.5])  # gmf twice, mlp twice, the fused model, neumf twice
    result = train(split.train, config)
    assert [(r.stage, r.epoch) for r in result.history] == [(s, e) for s in ("gmf", "mlp", "neumf") for e in (1, 2)]
    assert result.best_epoch == 0
    monkeypatch.undo()
    gmf = train(split.train, changed(config, pretrain=False, model="gmf", epochs=2))
    weights = result.model.state_dict()
    assert gmf.best_epoch == 2
    for name in ("gmf.user_embedding.weight", "gmf.item_embedding.weight"):
        assert torch.equal(weights[name], gmf.model.state_dict()[name])
    assert torch.equal(weights["output.weight"][:, :8], 0.3 * gmf.model.output.weight)
    assert isinstance(result.model, NeuMF)


def test_fine_tuning_is_kept_if_it_ranks_better(split, monkeypatch):
    ranking(monkeypatch, [0.1, 0.1, 0.5, 0.6])
    small_steps = {"fine_tune_optimizer": "sgd", "fine_tune_learning_rate": 0.01}
    config = changed(SMALL, epochs=1, pretrain=True, pretrain_epochs=1, **small_steps)
    tuned = train(split.train, config)
    assert tuned.best_epoch == 1
    ranking(monkeypatch, [0.1, 0.1, 0.5, 0.4])
    start = train(split.train, config)
    before, after = start.model.output.weight, tuned.model.output.weight
    assert not torch.equal(before, after)
    assert (before - after).abs().max() < 0.2, "fine-tuning starts from the fused weights"


def test_the_average_starts_as_the_mean_of_all_weights(split, monkeypatch):
    after_steps = []
    step = torch.optim.Adam.step

    def recorded(optimiser, *arguments):
        result = step(optimiser, *arguments)
        after_steps.append(optimiser.param_groups[0]["params"][0].detach().clone())  # one vector of all weights
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", recorded)
    config = changed(SMALL, epochs=1, averaging=1.0, validation=False)
    averaged = train(split.train, config).model
    torch.testing.assert_close(nn.utils.parameters_to_vector(averaged.parameters()), torch.stack(after_steps).mean(0))
    last = train(split.train, changed(config, averaging=0)).model
    assert torch.equal(nn.utils.parameters_to_vector(last.parameters()), after_steps[-1])


@pytest.mark.parametrize("pretrain", [False, True])
def test_refit_retrains_on_all_interactions_for_the_best_number_of_epochs(split, monkeypatch, pretrain):
    sizes = []
    init = EpochSampler.__init__

    def recorded(sampler, dataset, *arguments, **options):
        sizes.append(len(dataset))
        init(sampler, dataset, *arguments, **options)

    monkeypatch.setattr(EpochSampler, "__init__", recorded)
    ranking(monkeypatch, [0.1, 0.3, 0.2] if not pretrain else [0.3, 0.2, 0.1, 0.3, 0.2, 0.1, 0.4])
    config = changed(SMALL, refit=True, pretrain=pretrain, pretrain_epochs=2, epochs=2 if pretrain else 3)
    result = train(split.train, config)
    stages = [(record.stage, record.epoch) for record in result.history]
    if pretrain:
        assert stages[6:] == [
            ("gmf refit", 1),
            ("mlp refit", 1),
            ("mlp refit", 2),
            ("neumf refit", 1),
            ("neumf refit", 2),
        ]
    else:
        assert stages == [("neumf", n) for n in (1, 2, 3)] + [("neumf refit", n) for n in (1, 2)]
    assert result.best_epoch == 2
    half = len(sizes) // 2
    assert sizes == [len(split.train) - 300] * half + [len(split.train)] * half


def test_l2_shrinks_what_it_is_laid_on(split):
    norms = {}
    for name, setting in {"free": {}, "tables": {"l2_embeddings": 1e-3}, "layers": {"l2_layers": 1e-2}}.items():
        weights = train(split.train, changed(SMALL, epochs=2, **setting)).model.state_dict()
        norms[name] = [weights[part].norm().item() for part in ("mlp.item_embedding.weight", "mlp.layers.0.weight")]
    assert norms["tables"][0] < 0.5 * norms["free"][0]
    assert norms["layers"][1] < 0.5 * norms["free"][1]


def test_dropout_is_gone_from_the_exported_model(split, tmp_path):
    model = train(split.train, changed(SMALL, epochs=1, dropout=0.5)).model
    plain = train(split.train, changed(SMALL, epochs=1)).model
    assert not torch.equal(model.output.weight, plain.output.weight)  # dropout had an effect
    export(model, tmp_path / "model")
    users, items = np.arange(100), np.arange(100)
    with torch.no_grad():
        logits = model(torch.from_numpy(users), torch.from_numpy(items)).numpy()
    served = Scorer.load(tmp_path / "model").score_batch(users, items, logits=True)
    np.testing.assert_allclose(served, logits, rtol=1e-5, atol=1e-5)


def test_a_user_who_has_every_item_is_trained_around():
    full = Dataset.from_ids([0, 0, 1], [0, 1, 0])
    result = train(full, TrainConfig(NCFConfig(epochs=1), validation=False))
    assert all(weight.isfinite().all() for weight in result.model.state_dict().values())


def test_data_that_cannot_be_trained_on_is_rejected():
    full = Dataset.from_ids([0, 0, 1], [0, 1, 0])
    with pytest.raises(ArgumentError, match="expected an interaction of a user who does not have every item, got none"):
        train(full.take(np.array([0, 1])), TrainConfig(NCFConfig(), validation=False))
    with pytest.raises(ArgumentError, match="validation=False"):
        train(Dataset.from_ids([0, 1], [0, 1]), TrainConfig(NCFConfig()))
    with pytest.raises(ArgumentError, match="got none"):
        train(full.take(np.array([], dtype=np.int64)), TrainConfig(NCFConfig()))


def test_an_unknown_trainer_or_device_is_rejected(split):
    class Unknown(TrainerConfig):
        name = "als"

    with pytest.raises(ArgumentError, match=rf"trainer: expected one of {', '.join(TRAINERS)}, got 'als'"):
        train(split.train, TrainConfig(Unknown()))
    with pytest.raises(ArgumentError, match=r"device: expected one that torch .* can see \(.*cpu\), got 'cuda:999'"):
        train(split.train, TrainConfig(NCFConfig(), device="cuda:999"))
    train(split.train, changed(SMALL, epochs=1, device="auto"))


def test_a_loss_that_is_not_finite_stops_training_and_names_the_place(split):
    with pytest.raises(DivergedError, match=r"stage neumf, epoch 1, batch [2-9]\d*: expected a finite loss.*learning_"):
        train(split.train, TrainConfig(NCFConfig(learning_rate=1e30)))
    one_step = changed(SMALL, learning_rate=1e38, epochs=1, batch_size=1 << 20)
    with pytest.raises(DivergedError, match=r"stage neumf, after epoch 1: .*learning_rate"):
        train(split.train, one_step)


def test_weights_multiply_the_loss_of_positives(split):
    """Equal weights give the bits of none."""
    plain, once = split.train, changed(SMALL, epochs=1, validation=False)
    drawn = np.random.default_rng(0).uniform(0.2, 3, len(plain))
    results = [
        train(replace(plain, weights=weights), once, progress=False)
        for weights in (None, np.full(len(plain), 4.0), drawn)
    ]
    assert_same_weights(results[0].model, results[1].model)
    losses = [result.history[0].loss for result in results]
    assert losses[0] == losses[1] != losses[2]
    logits = torch.randn(3, dtype=torch.float64)
    labels, double = torch.tensor([1.0, 0, 1]).double(), torch.tensor([2.0, 1, 1]).double()
    p = torch.sigmoid(logits)
    expected = -(2 * p[0].log() + (1 - p[1]).log() + p[2].log()) / 3
    torch.testing.assert_close(bce_with_logits(logits, labels, double), expected)


def test_a_sample_has_the_weight_of_its_interaction_and_a_negative_has_one():
    dataset = Dataset.from_ids([2, 1, 1], [10, 20, 10], weights=[3, 2, 1])
    found = PairWeights.of(dataset).find(*map(torch.tensor, ([1, 0, 0, 1], [0, 0, 1, 1], [1.0, 1, 1, 0])))
    assert found.tolist() == [1.5, 0.5, 1, 1]
    assert PairWeights.of(replace(dataset, weights=None)) is None

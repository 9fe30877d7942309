"""Matrix factorisation with each loss: it finds the planted taste, resumes to the same bits, and is a teacher."""

import contextlib

import numpy as np
import pytest
import torch

from neuralcf import ArgumentError, Scorer
from neuralcf.baselines import Popularity
from neuralcf.data import Dataset, leave_last_out, planted_taste
from neuralcf.evaluation import evaluate_full
from neuralcf.training import MatrixFactorizationConfig, TrainConfig, train
from neuralcf.training.run_directory import RunDirectory
from neuralcf.training.trainers.matrix_factorization import train_matrix_factorization

LOSSES = ("bce", "bpr", "softmax", "sampled_softmax")


@pytest.fixture(scope="module")
def split():
    return leave_last_out(planted_taste(200, 100, seed=2).dataset)


def config_of(loss, **settings):
    given = {"factors": 12, "epochs": 12, "batch_size": 512, "learning_rate": 0.02, "user_learning_rate": 0.05}
    l2 = 0.02 if "softmax" in loss else 0.001
    return TrainConfig(MatrixFactorizationConfig(loss=loss, samples=60, **{**given, "l2": l2} | settings))


def scorer_of(result):
    return Scorer.from_tensors({name: weight.numpy() for name, weight in result.model.state_dict().items()})


def weights_equal(a, b):
    return all(torch.equal(weight, b.model.state_dict()[name]) for name, weight in a.model.state_dict().items())


@pytest.mark.parametrize("loss", LOSSES)
def test_it_finds_the_planted_taste_and_gives_probabilities(split, loss):
    result = train(split.train, config_of(loss))
    popularity = evaluate_full(Popularity(split.train), split)
    scorer = scorer_of(result)
    assert evaluate_full(scorer, split).hr > 1.5 * popularity.hr
    assert result.history[-1].loss < result.history[0].loss - 0.1
    assert result.best_epoch == 1 + int(np.argmax([record.validation_hr for record in result.history]))
    # One positive to four or so negatives: what was held out is likelier than other items, but not certain.
    held_out = scorer.score_batch(split.users, split.items).mean()
    others = scorer.score_batch(split.users, np.roll(split.items, 7)).mean()
    assert 0.05 < others < held_out < 0.95


@pytest.mark.parametrize("loss", LOSSES)
def test_a_run_that_was_stopped_resumes_to_the_same_bits(split, loss, tmp_path, monkeypatch):
    config = TrainConfig(config_of(loss, epochs=4, patience=0).trainer, refit=True)
    whole = train(split.train, config)
    assert {record.stage for record in whole.history} == {"mf", "mf refit"}
    save = RunDirectory.save
    for stop_after in (2, 6):

        def save_and_stop(run, state, stop_after=stop_after):
            save(run, state)
            if len(state["history"]) == stop_after:
                raise KeyboardInterrupt

        monkeypatch.setattr(RunDirectory, "save", save_and_stop)
        with contextlib.suppress(KeyboardInterrupt):
            train(split.train, config, run=tmp_path / "run", resume=True)
        monkeypatch.undo()
    assert weights_equal(whole, train(split.train, config, run=tmp_path / "run", resume=True))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_exported_gmf_scores_as_the_vectors_do(split, loss):
    config = config_of(loss, epochs=2)
    result = train(split.train, TrainConfig(config.trainer, validation=False))
    factors = train_matrix_factorization(split.train, config.trainer)
    users, items = np.arange(50), np.arange(50)
    expected = factors.scores(users)[np.arange(50), items].astype(np.float64)
    logits = scorer_of(result).score_batch(users, items, logits=True)
    scale = result.chosen.get("logit_scale", 1.0)
    shift = logits - scale * expected
    np.testing.assert_allclose(shift, shift.mean(), atol=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_users_and_items_without_interactions_and_one_user_are_no_trouble(loss):
    sparse = planted_taste(30, 20, interactions_per_user=4, seed=0).dataset
    without = sparse.take((sparse.users != 3) & (sparse.items != 5))
    one = Dataset.from_ids([0, 0, 0, 1], [0, 1, 2, 3]).take(np.array([True, True, True, False]))
    for dataset in (without, one):
        result = train(dataset, TrainConfig(config_of(loss, epochs=2).trainer, validation=False))
        assert all(weight.isfinite().all() for weight in result.model.state_dict().values())


def test_the_averages_time_constant_is_in_epochs(split):
    config = config_of("softmax", epochs=3, averaging=10.0)
    last = [
        train_matrix_factorization(split.train, MatrixFactorizationConfig(**{**vars(config.trainer), **change}))
        for change in ({}, {"averaging": 0.0})
    ]
    assert not np.array_equal(last[0].item_vectors, last[1].item_vectors)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"loss": "hinge"}, "loss: expected 'bce', 'bpr', 'softmax' or 'sampled_softmax', got 'hinge'"),
        ({"proposals": "best"}, "proposals: expected 'uniform' or 'popularity', got 'best'"),
        ({"samples": 0}, "samples: expected an integer >= 1, got 0"),
        ({"dropout": 1.0}, "dropout: expected a number >= 0 and < 1, got 1.0"),
    ],
)
def test_a_setting_that_is_wrong_is_named(settings, sentence):
    with pytest.raises(ArgumentError) as raised:
        MatrixFactorizationConfig(**settings)
    assert str(raised.value) == sentence

"""A NeuMF from teachers: the regression of its MLP, what is served of it, and the whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import neuralcf
from neuralcf import ArgumentError, NeuMF, Scorer
from neuralcf.attributes import FeatureColumn
from neuralcf.data import Dataset, planted_taste
from neuralcf.data.features import Features
from neuralcf.training import DistillConfig, TrainConfig, train
from neuralcf.training.cut import cut_by_svd
from neuralcf.training.tower import TowerConfig, cut_to_neumf
from neuralcf.training.trainers import distill

SIZES = {"num_users": 80, "num_items": 50}
TOWER = TowerConfig(layers=(16, 12, 4), epochs=20, learning_rate=0.01)
SMALL = DistillConfig(
    factors=6, ials_factors=8, history_factors=8, history_epochs=3, student="neumf", tower_layers=(9, 6), tower_epochs=3
)


class Known:
    """Scores that are given, of rank 3 inside a ReLU, so that no cut of few factors holds them."""

    def __init__(self):
        rng = np.random.default_rng(0)
        u, i = (rng.standard_normal((n, 3)).astype(np.float32) for n in SIZES.values())
        self.given = np.maximum(u[:, None] + i, 0) @ np.array([1, -1, 1], np.float32)

    def scores(self, users):
        return self.given[users].copy()

    def fold_in_scores(self, _):
        return None


@pytest.fixture(scope="module")
def dataset():
    """The last user and the last item have no interactions."""
    data = planted_taste(80, 50, interactions_per_user=15, seed=3).dataset
    return data.take((data.users < 79) & (data.items < 49))


def scorer_of(model, **more):
    return Scorer.from_tensors({name: weight.numpy() for name, weight in model.state_dict().items()}, **more)


def test_the_tower_is_fitted_to_what_the_cut_leaves():
    """From the GMF's error down, by more than the embeddings would as factors; the GMF stays the truncated SVD."""
    teacher, users, losses = Known(), np.arange(80), []
    student, share = cut_to_neumf(
        teacher, users, TOWER, **SIZES, rank=2, seed=0, after_epoch=lambda _, loss: losses.append(loss)
    )
    gmf, of_gmf = cut_by_svd(teacher, users, **SIZES, rank=2, seed=0)
    np.testing.assert_allclose(student.factors.scores(users), gmf.scores(users), atol=1e-4)
    assert share == pytest.approx(of_gmf, abs=1e-4)
    wanted = teacher.given - teacher.given.mean(axis=1, keepdims=True)
    before, after = (((ranker.scores(users) - wanted) ** 2).mean() for ranker in (gmf, student))
    assert after < 0.3 * before
    assert losses[0] < 1.5 * before
    assert losses[-1] == pytest.approx(after, rel=0.5)


def test_the_exported_neumf_scores_as_the_student():
    student, _ = cut_to_neumf(Known(), np.arange(80), TOWER, **SIZES, rank=2, seed=0)
    users, items = (index.ravel() for index in np.indices((80, 50)))
    model = student.to_model(scale=0.4, bias=-1.5)
    expected = 0.4 * student.scores(np.arange(80)).ravel() - 1.5
    np.testing.assert_allclose(scorer_of(model).score_batch(users, items, logits=True), expected, atol=1e-4)
    np.testing.assert_allclose(0.4 * student.pair_scores(users, items) - 1.5, expected, atol=1e-4)
    assert isinstance(model, NeuMF)


def test_the_whole_is_exported_with_its_fold_in(dataset, tmp_path):
    """A history's vectors are those of training in the GMF part, and nearer to them in the MLP part than the mean."""
    result = train(dataset, TrainConfig(replace(SMALL, teachers="ease + history"), validation=False))
    assert [record.epoch for record in result.history if record.stage == "neumf"] == [1, 2, 3]
    neuralcf.export(result.model, tmp_path, history=result.fold_in)
    scorer = Scorer.load(tmp_path)
    assert scorer.kind == "neumf"
    (indptr, items), users = dataset.user_items(), np.arange(79)
    folded, known = scorer.fold_in((indptr[:-1], items)), scorer.user_vectors(users)
    assert np.abs(folded.gmf - known.gmf).mean() < 0.2 * np.abs(known.gmf).mean()
    spread = known.mlp - known.mlp.mean(axis=0)
    assert ((folded.mlp - known.mlp) ** 2).mean() < 0.5 * (spread**2).mean()
    empty = scorer.fold_in((np.zeros(2, np.int64), np.zeros(0, np.int64)))
    np.testing.assert_allclose(empty.mlp[0], result.model.mlp.user_embedding.weight.detach().mean(dim=0), atol=1e-5)


def test_a_run_that_stops_before_the_tower_ends_in_the_same_bits(dataset, tmp_path, monkeypatch):
    config = TrainConfig(SMALL, refit=True)
    expected = train(dataset, config)

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(distill, "cut_to_neumf", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(dataset, config, run=tmp_path, resume=True)
    with monkeypatch.context() as patch:  # the student of the first pass is in the checkpoint
        patch.setattr(distill._Distilling, "_train", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(dataset, config, run=tmp_path, resume=True)
    resumed = train(dataset, config, run=tmp_path, resume=True)
    for name, weight in expected.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
    assert resumed.chosen == expected.chosen
    assert resumed.fold_in.keys() == expected.fold_in.keys()
    assert all(np.array_equal(tensor, resumed.fold_in[name]) for name, tensor in expected.fold_in.items())


def test_features_give_vectors_of_both_parts(dataset):
    genres = FeatureColumn("genre", "category", ("a", "b", "c"))
    features = Features.encode([genres], [(genres.values[n % 3],) for n in range(50)])
    result = train(replace(dataset, item_features=features), TrainConfig(SMALL))
    found, weights = result.features["item"], result.model.state_dict()
    for part, predicted in (("gmf", features.times(found.gmf)), ("mlp", features.times(found.mlp))):
        np.testing.assert_allclose(predicted[49], weights[f"{part}.item_embedding.weight"][49], atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 3)])
def test_tiny_data(shape):
    users, items = (index.ravel() for index in np.indices(shape))
    data = Dataset(users, items, None, np.arange(shape[0] + 1), np.arange(shape[1] + 1))
    result = train(data, TrainConfig(SMALL, validation=shape[1] > 1))
    assert scorer_of(result.model).num_items == shape[1] + 1


def test_large_catalogues_are_refused(dataset):
    with pytest.raises(ArgumentError, match=r"student: expected 'gmf' for more than 10 items \(dense_items\)"):
        train(dataset, TrainConfig(replace(SMALL, dense_items=10)))

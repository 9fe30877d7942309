"""Feature embeddings: folded they are the same model, they are part of a run, and new items rank by them alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import neuralcf
from neuralcf import ArgumentError
from neuralcf.attributes import FeatureColumn
from neuralcf.data import Dataset
from neuralcf.data.features import Features
from neuralcf.training import NCFConfig, TrainConfig, train
from neuralcf.training.feature_embeddings import add_features, fold
from neuralcf.training.losses import l2_penalty
from neuralcf.training.run_directory import RunDirectory

GENRES = 4
COLUMN = FeatureColumn("genre", "category", tuple("abcd"))


def planted(users=80, items=40, cold=8):
    """Users who like one genre, of items whose genre is a feature; the last items have no interactions."""
    rng = np.random.default_rng(0)
    user, item = np.nonzero(np.arange(users)[:, None] % GENRES == np.arange(items - cold) % GENRES)
    kept = rng.random(user.size) < 0.7
    features = Features.encode([COLUMN], [("abcd"[n % GENRES],) for n in range(items)])
    return Dataset(user[kept], item[kept], None, np.arange(users), np.arange(items), item_features=features)


@pytest.mark.parametrize("kind", [neuralcf.GMF, neuralcf.MLP, neuralcf.NeuMF])
@pytest.mark.parametrize("sides", [("item",), ("user", "item")])
def test_a_folded_model_is_the_same_model(kind, sides):
    dataset = planted()
    if "user" in sides:
        users = Features.encode([replace(COLUMN, kind="multi")], [("abcd"[n % 4] + "|d",) for n in range(80)])
        dataset = replace(dataset, user_features=users)
    torch.manual_seed(0)
    model, plain = kind(80, 40).double(), kind(80, 40).double()
    add_features(model, dataset)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_()
        plain.load_state_dict(fold(model.state_dict(), dataset))
        users, items = torch.from_numpy(np.indices((80, 40)).reshape(2, -1))
        expected, found = model(users, items), plain(users, items)
    assert expected.std() > 0.1
    assert torch.equal(expected, found)


def test_an_embedding_is_its_own_plus_those_of_its_attributes():
    dataset = planted()
    model = neuralcf.GMF(80, 40, factors=3)
    add_features(model, dataset)
    weights = {name: weight.numpy() for name, weight in model.state_dict().items()}
    own, shared = weights["gmf.item_embedding.own"], weights["gmf.item_embedding.features"]
    expected = dataset.item_features.times(shared)
    expected[:32] += own[:32]  # the others have no interactions
    folded = fold(model.state_dict(), dataset)["gmf.item_embedding.weight"]
    np.testing.assert_allclose(folded, expected, rtol=1e-6, atol=1e-8)
    l2 = l2_penalty(model, embeddings=1.0, layers=0.0).item()
    assert l2 == pytest.approx(sum((weights[name] ** 2).sum() for name in weights if "_embedding." in name), rel=1e-4)


@pytest.mark.parametrize("settings", [{}, {"pretrain": True, "pretrain_epochs": 12}])
def test_cold_items_rank_by_their_features(settings, tmp_path, monkeypatch):
    """The genre is all that a model can know of them: it must be enough. Stopped and resumed, the bits are the same."""
    dataset = planted()
    config = TrainConfig(
        NCFConfig(factors=4, layers=(8, 4), epochs=10, batch_size=256, learning_rate=0.02, patience=0, **settings)
    )
    result = train(dataset, config)
    scorer = neuralcf.Scorer.from_tensors({name: each.numpy() for name, each in result.model.state_dict().items()})
    cold = np.arange(32, 40)
    top = scorer.top_k(np.arange(80), 2, allow=cold).ids
    assert (top % GENRES == np.arange(80)[:, None] % GENRES).mean() > 0.9  # 0.25 by chance

    item_map = result.features["item"]
    assert result.features.keys() == {"item"}
    for name, weights in (("gmf", item_map.gmf), ("mlp", item_map.mlp)):
        table = result.model.state_dict()[f"{name}.item_embedding.weight"].numpy()
        np.testing.assert_allclose(dataset.item_features.times(weights)[cold], table[cold], atol=1e-6)

    save = RunDirectory.save

    def save_and_stop(run, state):
        save(run, state)
        if state["epoch"] == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunDirectory, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, config, run=tmp_path / "run")
    monkeypatch.undo()
    again = train(dataset, config, run=tmp_path / "run", resume=True)
    assert all(torch.equal(again.model.state_dict()[name], each) for name, each in result.model.state_dict().items())
    with pytest.raises(ArgumentError, match="the run was started on other data"):
        train(replace(dataset, item_features=None), config, run=tmp_path / "run", resume=True)

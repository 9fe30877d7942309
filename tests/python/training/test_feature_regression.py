"""Vectors from features: the regression against its formula, and planted genres in a distilled GMF."""

from dataclasses import replace

import numpy as np
import pytest

from neuralcf import Scorer
from neuralcf.attributes import FeatureColumn
from neuralcf.data import Dataset, Split
from neuralcf.data.features import Features
from neuralcf.training import DistillConfig, TrainConfig, train
from neuralcf.training.cold_scale import choose_cold_scale
from neuralcf.training.feature_regression import FeatureRegression, choose_l2
from neuralcf.training.student import Student
from neuralcf.training.teachers import Factors
from neuralcf.training.validation import Validation

GENRES = 4
COLUMN = FeatureColumn("genre", "category", tuple("abcd"))


def planted(users=80, items=60, cold=12):
    """Users who like one genre, of items whose genre is a feature; the last items have no interactions."""
    rng = np.random.default_rng(0)
    user, item = np.nonzero(np.arange(users)[:, None] % GENRES == np.arange(items - cold) % GENRES)
    kept = rng.random(user.size) < 0.7
    features = [Features.encode([COLUMN], [("abcd"[n % GENRES],) for n in range(count)]) for count in (users, items)]
    return Dataset(user[kept], item[kept], None, np.arange(users), np.arange(items), *features)


def test_the_regression_solves_its_equations():
    rng, n, l2 = np.random.default_rng(0), 30, 0.7
    columns = [COLUMN, FeatureColumn("x", "number")]
    features = Features.encode(columns, [("abcd"[k % 3], f"{x}") for k, x in enumerate(rng.standard_normal(n))])
    vectors, counts = rng.standard_normal((n, 5)).astype(np.float32), rng.integers(0, 9, n)
    for k in (0, 2.5):
        found = FeatureRegression.fit(features, vectors, counts, l2=l2, k=k)
        weights = np.divide(counts, counts + k, where=counts > 0, out=np.zeros(n))
        rows = features.dense().astype(np.float64)
        gradient = rows.T @ (weights[:, None] * (rows @ found.map - vectors))
        gradient[1:] += l2 * found.map[1:]  # the shared entry is not regularised
        np.testing.assert_allclose(gradient, 0, atol=1e-4)

        predicted = features.times(found.map)
        expected = weights[:, None] * vectors + (1 - weights[:, None]) * predicted
        np.testing.assert_allclose(found.shrink(vectors), expected, atol=1e-5)
        assert (weights == 0).any()


def test_noise_is_regularised_and_signal_is_not():
    rng, n = np.random.default_rng(0), 200
    names = tuple(f"{k:03}" for k in range(60))
    features = Features.encode([FeatureColumn("c", "category", names)], [(names[k],) for k in rng.integers(0, 60, n)])
    counts, other = np.ones(n, np.int64), rng.standard_normal((50, 4)).astype(np.float32)
    signal = features.times(rng.standard_normal((61, 4)).astype(np.float32))
    noise = rng.standard_normal((n, 4)).astype(np.float32)
    assert choose_l2(features, signal, counts, other, 0) < 1
    assert choose_l2(features, noise, counts, other, 0) > 50
    assert choose_l2(features, noise, counts * 0, other, 0) > 0  # nothing to learn from


@pytest.mark.parametrize("validation", [True, False])
def test_new_users_and_items_rank_by_their_features(validation):
    """The genre is all that the model can know of them: it must be enough."""
    dataset = planted()
    dataset = dataset.take(dataset.users < 72)  # the last users have no interactions
    config = DistillConfig(factors=12, ials_factors=8, history_factors=8, history_epochs=3)
    result = train(dataset, TrainConfig(config, validation=validation, refit=validation))
    weights = {name: each.numpy() for name, each in result.model.state_dict().items()}
    scorer, cold, new = Scorer.from_tensors(weights), np.arange(48, 60), np.arange(72, 80)
    assert (scorer.top_k(np.arange(80), 3, allow=cold).ids % GENRES == np.arange(80)[:, None] % GENRES).mean() > 0.95
    assert (scorer.top_k(new, 10).ids % GENRES == new[:, None] % GENRES).mean() > 0.95
    for side, features, which in (("user", dataset.user_features, new), ("item", dataset.item_features, cold)):
        predicted = features.times(result.features[side].gmf)[which]
        np.testing.assert_allclose(predicted, weights[f"gmf.{side}_embedding.weight"][which], atol=1e-5)
    if validation:
        stages = [record.stage for record in result.history]
        assert [stage for stage in stages if "features" in stage] == ["features", "features refit"]
    assert result.chosen["features_k"] in (0, 1, 3, 10)


@pytest.mark.parametrize(("popular", "expected"), [(1.0, 1.0), (-1.0, 2.0)])
def test_new_items_are_as_long_as_known_ones_allow(popular, expected):
    """All features are alike, so that new items get the mean bias: where that is above 0, longer is higher."""
    rng, (users, items) = np.random.default_rng(0), (40, 50)
    biases = (popular + 0.5 * rng.standard_normal(items)).astype(np.float32)
    student = Student(Factors(np.zeros((users, 1), np.float32), np.zeros((items, 1), np.float32), biases))
    split = Split(
        Dataset(np.arange(users), np.arange(users), None, np.arange(users), np.arange(items)),
        np.arange(users),
        np.argsort(-biases)[rng.integers(0, 25, users)],
        "given",
    )
    features = Features.encode([FeatureColumn("c", "category", ("x",))], [("x",)] * items)
    validation = Validation(split, (np.zeros(users + 1, np.int64), np.zeros(0, np.int32)))
    known = np.zeros(users + 1, np.int64), np.zeros(0, np.int32)
    counts = np.ones(items, np.int64)
    assert choose_cold_scale(student, features, counts, known, validation, l2=1, k=0, seed=0) == expected
    assert choose_cold_scale(student, features, 0 * counts, known, validation, l2=1, k=0, seed=0) == 1


def test_features_of_one_side_alone():
    config = TrainConfig(DistillConfig(teachers="ials", factors=6, ials_factors=4, search=False))
    result = train(replace(planted(), item_features=None), config)
    assert result.features.keys() == {"user"}
    assert "item_features_l2" not in result.chosen

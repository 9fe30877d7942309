"""Dislikes in training: preferred as negatives by the trainers that sample some, told by those that cannot use them."""

import numpy as np
import pytest

from neuralcf import ArgumentError, Scorer
from neuralcf._core import Sampler
from neuralcf.data import Dataset, planted_taste
from neuralcf.training import DistillConfig, MatrixFactorizationConfig, NCFConfig, TrainConfig, train, unused
from neuralcf.training.sampling import EpochSampler


@pytest.fixture(scope="module")
def disliking():
    """Each user dislikes two items that the others of the same taste like."""
    dataset = planted_taste(60, 40, interactions_per_user=8).dataset
    rng = np.random.default_rng(1)
    users, items = np.repeat(np.arange(60), 2), rng.integers(0, 40, 120)
    return dataset.with_dislikes(Dataset(users, items, None, dataset.user_ids, dataset.item_ids))


def pairs(dataset):
    return set(zip(dataset.users.tolist(), dataset.items.tolist(), strict=True))


@pytest.mark.parametrize("labels", [True, False])
def test_the_share_of_dislikes_among_negatives(disliking, labels):
    known = pairs(disliking.dislikes)

    def share(dislike_share):
        sampler = EpochSampler(disliking, 3, 7, batch_size=64, labels=labels, dislike_share=dislike_share)
        negatives = []
        for users, items, others in sampler.batches(0, 1):
            if labels:
                negatives += zip(users[others == 0].tolist(), items[others == 0].tolist(), strict=True)
            else:
                negatives += zip(users.repeat(3).tolist(), others.flatten().tolist(), strict=True)
        assert not set(negatives) & pairs(disliking)
        of_disliking = [pair for pair in negatives if pair[0] in {user for user, _ in known}]
        return np.mean([pair in known for pair in of_disliking])

    assert share(0.0) < 0.1
    assert abs(share(0.5) - 0.53) < 0.04
    assert share(1.0) == 1


@pytest.mark.parametrize(
    "settings",
    [
        NCFConfig(model="gmf", epochs=5),
        MatrixFactorizationConfig(loss="bce", factors=16, epochs=20, batch_size=256),
        MatrixFactorizationConfig(loss="bpr", factors=16, epochs=20, batch_size=256),
    ],
    ids=["ncf", "mf bce", "mf bpr"],
)
def test_a_trainer_that_samples_negatives_learns_dislikes(disliking, settings):
    def rank_of_dislikes(dislike_share):
        own = type(settings)(**{**vars(settings), "dislike_share": dislike_share})
        model = train(disliking, TrainConfig(own, validation=False), progress=False).model
        scorer = Scorer.from_tensors({name: weight.numpy() for name, weight in model.state_dict().items()})
        return scorer.rank_of(disliking.dislikes.users, disliking.dislikes.items).mean()

    assert rank_of_dislikes(0.5) > rank_of_dislikes(0.0) + 1


def test_without_dislikes_the_share_changes_nothing():
    dataset = planted_taste(30, 20, interactions_per_user=5).dataset
    weights = [
        train(dataset, TrainConfig(NCFConfig(epochs=1, dislike_share=share)), progress=False).model.state_dict()
        for share in (0.0, 0.7)
    ]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_trainers_say_what_they_do_not_use(disliking):
    weighted = Dataset(
        disliking.users, disliking.items, None, disliking.user_ids, disliking.item_ids, weights=disliking.users + 1.0
    ).with_dislikes(disliking.dislikes)
    for settings, ignored in [
        (NCFConfig(), []),
        (NCFConfig(dislike_share=0), ["dislikes"]),
        (MatrixFactorizationConfig(loss="bce"), []),
        (MatrixFactorizationConfig(loss="bpr"), ["weights"]),
        (MatrixFactorizationConfig(), ["weights", "dislikes"]),
        (DistillConfig(), ["dislikes"]),
    ]:
        sentences = unused(weighted, TrainConfig(settings))
        assert [sentence.split("does not use ")[1].split()[0].strip(":") for sentence in sentences] == ignored
        assert unused(planted_taste(20, 20, interactions_per_user=3).dataset, TrainConfig(settings)) == []


@pytest.mark.parametrize(
    ("dislikes", "share", "sentence"),
    [
        (([0, 1], [1]), 0.5, "dislikes: expected items that the user does not have, got item 1 of user 0"),
        (([0, 0, 0], []), 0.5, "dislikes: expected 1 rows of 5 items, as user_items, got 2 of 5"),
        (([0, 1], [0]), -0.1, "dislike_share: expected a number from 0 to 1, got -0.1"),
        (([0, 1], [0]), float("nan"), "dislike_share: expected a number from 0 to 1, got NaN"),
    ],
)
def test_wrong_dislikes_are_rejected(dislikes, share, sentence):
    with pytest.raises(ArgumentError) as raised:
        Sampler(([0, 2], [1, 2]), 5, negatives=1, labels=True, dislikes=dislikes, dislike_share=share)
    assert sentence in str(raised.value)
    for config in (NCFConfig, MatrixFactorizationConfig):
        with pytest.raises(ArgumentError, match="dislike_share"):
            config(dislike_share=1.5)

"""The negative sampler: each interaction once, uniform negatives that the user does not have, the same bits always."""

import numpy as np
import pytest

from conftest import random_rows
from neuralcf import ArgumentError, OutOfRangeError
from neuralcf._core import Sampler


def batches(sampler, seed, rows, batch_size=7, **options):
    """All batches of an epoch, [rows, B] each."""
    values = sampler.draw(seed, 0, len(sampler), batch_size=batch_size, **options)
    assert values.dtype == np.int32
    step = rows * batch_size
    return [values[start : start + step].reshape(rows, -1) for start in range(0, values.size, step)]


def pairs_of(rows):
    indptr, items = rows
    return list(zip(np.repeat(np.arange(indptr.size - 1), np.diff(indptr)).tolist(), items.tolist(), strict=True))


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_an_epoch_has_each_interaction_once_and_negatives_that_the_user_does_not_have(threads):
    rows = random_rows(30, 40, 0.3)
    known = pairs_of(rows)

    labelled = Sampler(rows, 40, negatives=3, labels=True)
    users, items, labels = np.concatenate(batches(labelled, 5, 3, threads=threads), axis=1)
    assert set(labels.view(np.float32).tolist()) == {0, 1}
    positive = labels.view(np.float32) == 1
    pairs = np.stack([users, items], axis=1)
    assert sorted(map(tuple, pairs[positive].tolist())) == known
    assert not set(map(tuple, pairs[~positive].tolist())) & set(known)
    assert np.array_equal(np.bincount(users[~positive]), 3 * np.bincount(users[positive]))

    ranked = Sampler(rows, 40, negatives=2, labels=False)
    users, items, *negatives = np.concatenate(batches(ranked, 5, 4, threads=threads), axis=1)
    assert sorted(zip(users.tolist(), items.tolist(), strict=True)) == known
    assert not set(zip(np.tile(users, 2).tolist(), np.concatenate(negatives).tolist(), strict=True)) & set(known)


def test_samples_depend_on_seed_and_position_alone():
    sampler = Sampler(random_rows(200, 50, 0.2), 50, negatives=4, labels=True)
    once = batches(sampler, 9, 3, batch_size=64, threads=1)
    for threads in (2, 7):
        for a, b in zip(once, batches(sampler, 9, 3, batch_size=64, threads=threads), strict=True):
            assert np.array_equal(a, b)
    larger = np.concatenate(batches(sampler, 9, 3, batch_size=1000), axis=1)
    assert np.array_equal(np.concatenate(once, axis=1), larger)
    part = sampler.draw(9, 100, 130, batch_size=30).reshape(3, -1)
    assert np.array_equal(part, larger[:, 100:130])
    assert not np.array_equal(larger, np.concatenate(batches(sampler, 10, 3), axis=1))


def test_negatives_are_uniform_and_independent_of_their_place():
    rows = np.array([0, 3]), np.array([1, 4, 5])
    sampler = Sampler(rows, 8, negatives=20_000, labels=False)
    batch = sampler.draw(0, 0, 3, batch_size=3).reshape(-1, 3)
    counts = np.array([np.bincount(column, minlength=8) for column in batch[2:].T])
    assert not counts[:, [1, 4, 5]].any()
    squares = ((counts[:, [0, 2, 3, 6, 7]] - 4000) ** 2 / 4000).sum(axis=1)
    assert np.all(squares < 25), squares  # chi-square with 4 degrees of freedom: one in 20,000 is above
    both = np.zeros((8, 8))
    np.add.at(both, (batch[2:, 0], batch[2:, 1]), 1)
    free = both[np.ix_([0, 2, 3, 6, 7], [0, 2, 3, 6, 7])]
    assert ((free - 800) ** 2 / 800).sum() < 24 + 5 * np.sqrt(48)


def test_the_order_is_shuffled():
    sampler = Sampler((np.arange(1001), np.zeros(1000, np.int64)), 2, negatives=1, labels=True)
    users = np.concatenate(batches(sampler, 3, 3), axis=1)[0]
    assert abs(np.corrcoef(users, np.arange(users.size))[0, 1]) < 0.1
    assert abs(np.corrcoef(users[:-1], users[1:])[0, 1]) < 0.1


def test_users_with_nearly_or_quite_all_items_are_no_trouble():
    nearly = np.arange(1000)[np.arange(1000) != 617]
    rows = np.array([0, 999, 1999, 1999]), np.concatenate([nearly, np.arange(1000)])
    sampler = Sampler(rows, 1000, negatives=1, labels=False)
    assert len(sampler) == 999  # the second user has every item and is left out
    users, _, negatives = sampler.draw(0, 0, 999, batch_size=999).reshape(3, -1)
    assert set(users.tolist()) == {0}
    assert set(negatives.tolist()) == {617}
    with pytest.raises(ArgumentError, match="expected an interaction of a user who does not have every item, got none"):
        Sampler((np.array([0, 1, 1]), np.array([0])), 1, negatives=1, labels=True)


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"stop": 13}, ArgumentError, "start, stop: expected a part of the epoch's 12 samples, got 0 to 13"),
        ({"start": 3, "stop": 2}, ArgumentError, "got 3 to 2"),
        ({"start": -1}, ArgumentError, "start: expected an integer from 0 to 2^64 - 1, got -1"),
        ({"seed": 1.5}, TypeError, "seed: expected an integer, got float"),
        ({"seed": 1 << 64}, ArgumentError, "seed: expected an integer from 0"),
        ({"batch_size": 0}, ArgumentError, "batch_size: expected an integer of at least 1, got 0"),
        ({"items": [5]}, OutOfRangeError, "user_items.indices[0]: item index 5 is out of range for 5 items"),
        ({"negatives": 0}, ArgumentError, "negatives: expected an integer of at least 1, got 0"),
        ({"negatives": 1 << 40}, ArgumentError, "negatives: expected at most 1048576"),
        ({"rows": 3}, TypeError, "user_items: expected scipy CSR or (indptr, indices), got int"),
    ],
)
def test_bad_arguments(change, error, sentence):
    given = {"items": [1, 2, 4], "negatives": 3, "seed": 0, "start": 0, "stop": 12, "batch_size": 4} | change

    def draw():
        rows = given.get("rows", ([0, len(given["items"])], given["items"]))
        sampler = Sampler(rows, 5, negatives=given["negatives"], labels=True)
        return sampler.draw(given["seed"], given["start"], given["stop"], batch_size=given["batch_size"])

    with pytest.raises(error) as raised:
        draw()
    assert sentence in str(raised.value)

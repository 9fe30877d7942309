"""`Dataset`: ids and fingerprint; leave-one-out splits, negative sampling, synthetic data."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralcf import ArgumentError
from neuralcf.data import (
    Dataset,
    draw_candidates,
    draw_negatives,
    leave_last_out,
    leave_one_out,
    planted_taste,
)


def pairs_of(dataset):
    return list(zip(dataset.users.tolist(), dataset.items.tolist(), strict=True))


interactions = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=40)


def dataset_of(rows):
    users, items, times = (np.array(column) for column in zip(*rows, strict=True))
    return Dataset.from_ids(users, items, times)


# ---- ids


def test_ids_keep_their_type_and_dense_indices_follow_sorted_ids():
    dataset = Dataset.from_ids([30, 10, 30], ["b", "a", "7"])
    assert dataset.user_ids.tolist() == [10, 30]
    assert dataset.item_ids == ["7", "a", "b"]
    assert pairs_of(dataset) == [(1, 2), (0, 1), (1, 0)]
    indptr, indices = dataset.user_items()
    assert (indptr.dtype, indices.dtype) == (np.int64, np.int32)
    assert (indptr.tolist(), indices.tolist()) == ([0, 1, 3], [1, 0, 2])


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([1, "a"], TypeError, r"user_ids\[1\].*'a'"),
        ([True, False], TypeError, "True"),
        ([1.0, 2.0], TypeError, "1.0"),
        ([2**63, 1], ArgumentError, "int64"),
        (np.array([2**63, 1], dtype=np.uint64), ArgumentError, "int64"),
    ],
)
def test_ids_are_never_coerced(ids, error, message):
    with pytest.raises(error, match=message):
        Dataset.from_ids(ids, [1, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": np.array([0, 2])}, "from 0 to 1, got 2"),
        ({"items": np.array([0, -1])}, "got -1"),
        ({"items": np.array([0])}, "equal lengths"),
        ({"timestamps": np.array([1.0, np.nan])}, "finite"),
        ({"user_ids": np.array([4, 4])}, "unique ids, got 2 ids, 1 of them distinct"),
        ({"item_ids": ["a", "a"]}, "unique ids, got 2 ids, 1 of them distinct"),
    ],
)
def test_an_inconsistent_dataset_is_rejected(change, message):
    good = Dataset(np.array([0, 1]), np.array([0, 1]), np.array([5, 6]), np.array([4, 9]), ["a", "b"])
    with pytest.raises(ArgumentError, match=message):
        dataclasses.replace(good, **change)


def test_fingerprint_depends_on_every_part():
    good = Dataset(np.array([0, 1]), np.array([0, 1]), np.array([5, 6]), np.array([4, 9]), ["a", "bc"])
    changes = [
        {"users": np.array([1, 0])},
        {"items": np.array([0, 0])},
        {"timestamps": np.array([5, 7])},
        {"timestamps": None},
        {"user_ids": np.array([4, 8])},
        {"item_ids": ["ab", "c"]},
    ]
    prints = {good.fingerprint(), *(dataclasses.replace(good, **change).fingerprint() for change in changes)}
    assert len(prints) == 1 + len(changes)
    assert dataclasses.replace(good, users=np.array([0, 1], dtype=np.int32)).fingerprint() == good.fingerprint()


# ---- splits


@given(interactions, st.booleans())
def test_leave_one_out_keeps_its_guarantee(rows, by_time):
    dataset = dataset_of(rows)
    split = leave_last_out(dataset) if by_time else leave_one_out(dataset, seed=3)
    items_of = {u: {i for v, i in pairs_of(dataset) if v == u} for u in range(dataset.num_users)}

    assert split.users.tolist() == [u for u, items in items_of.items() if len(items) >= 2]
    held = set(zip(split.users.tolist(), split.items.tolist(), strict=True))
    assert held <= set(pairs_of(dataset))
    assert pairs_of(split.train) == [pair for pair in pairs_of(dataset) if pair not in held]
    assert np.unique(split.train.users).tolist() == list(range(dataset.num_users))
    assert (split.train.num_users, split.train.num_items) == (dataset.num_users, dataset.num_items)
    if by_time:
        for user, item in held:
            times = dataset.timestamps[dataset.users == user]
            assert times[dataset.items[dataset.users == user] == item].max() == times.max()


def test_random_split_is_uniform_and_needs_no_timestamps():
    dataset = Dataset.from_ids([0, 0, 0], [0, 1, 2])
    held_out = [int(leave_one_out(dataset, seed).items[0]) for seed in range(300)]
    assert min(np.bincount(held_out, minlength=3)) > 60  # 100 expected, minus five standard deviations
    with pytest.raises(ArgumentError, match="timestamps"):
        leave_last_out(dataset)


# ---- negatives


def test_negatives_are_uniform_over_the_items_without_an_interaction():
    dataset = Dataset.from_ids([0, 0, 0, 1, 2, 2, 2, 2, 2], [0, 3, 4, 5, 0, 1, 2, 3, 4])
    assert dataset.num_items == 6
    samples = 6000
    users = np.repeat([0, 1, 2], samples)
    items = draw_negatives(dataset.user_items(), 6, users, np.random.default_rng(0))
    for user, negatives in ((0, [1, 2, 5]), (1, [0, 1, 2, 3, 4]), (2, [5])):
        counts = np.bincount(items[users == user], minlength=6)
        assert np.flatnonzero(counts).tolist() == negatives
        expected = samples / len(negatives)
        assert np.abs(counts[negatives] - expected).max() < 5 * np.sqrt(expected)


def test_a_user_with_every_item_has_no_negatives():
    user_items = Dataset.from_ids([0, 0, 1], [0, 1, 0]).user_items()
    with pytest.raises(ArgumentError, match="user 0 has interacted with every item"):
        draw_negatives(user_items, 2, np.array([1, 0]), np.random.default_rng(0))


@given(interactions, st.integers(1, 8), st.integers(0, 3))
def test_candidates_are_distinct_negatives_up_to_count_or_all_there_are(rows, count, seed):
    split = leave_last_out(dataset_of(rows))
    user_items, num_items = split.train.user_items(), split.train.num_items
    indptr, indices = draw_candidates(user_items, num_items, split.users, split.items, count=count, seed=seed)
    assert indptr.size == split.users.size + 1
    for n, (user, item) in enumerate(zip(split.users, split.items, strict=True)):
        own = set(user_items[1][user_items[0][user] : user_items[0][user + 1]].tolist()) | {int(item)}
        row = indices[indptr[n] : indptr[n + 1]].tolist()
        assert len(set(row)) == len(row) == min(count, num_items - len(own))
        assert not own & set(row)


def test_every_subset_of_candidates_is_equally_likely():
    users, items = np.zeros(3000, dtype=np.int64), np.full(3000, 2)
    user_items = (np.array([0, 1]), np.array([0], dtype=np.int32))
    _, indices = draw_candidates(user_items, 6, users, items, count=2, seed=1)  # 2 of 1, 3, 4, 5
    counts = np.unique(indices.reshape(-1, 2) @ np.array([10, 1]), return_counts=True)
    assert counts[0].tolist() == [13, 14, 15, 34, 35, 45]
    assert np.abs(counts[1] - 500).max() < 5 * np.sqrt(500)


# ---- synthetic data


def test_planted_taste_is_deterministic_and_shows_the_taste():
    first, again, other = (planted_taste(200, 120, seed=seed) for seed in (1, 1, 2))
    assert first.dataset.fingerprint() == again.dataset.fingerprint() != other.dataset.fingerprint()
    assert len(set(first.item_titles)) == first.dataset.num_items == len(first.item_titles) == 120
    assert len(set(first.user_titles)) == first.dataset.num_users == 200
    assert len(set(pairs_of(first.dataset))) == len(first.dataset)
    liked = [
        first.item_titles[i].rsplit(" ", 1)[0] in first.user_titles[u].rsplit(" fan ", 1)[0].split(" and ")
        for u, i in pairs_of(first.dataset)
    ]
    assert np.mean(liked) > 0.5  # by chance it would be 1 in 6: 2 of 12 genres

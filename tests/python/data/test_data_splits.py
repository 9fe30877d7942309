"""Splits by time and given splits keep their guarantees; the NCF paper's files."""

import math
import re

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from conftest import DATA
from ncf_files import write_ncf
from neuralcf import ArgumentError
from neuralcf.data import (
    Dataset,
    given,
    hold_out,
    leave_last_out,
    leave_one_out,
    read_interactions,
    read_ncf,
    split_by_time,
)
from neuralcf.data.split import without_untrained

events = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 9)), min_size=2, max_size=40)


def dataset_of(rows, kind=int):
    users, items, *times = zip(*rows, strict=True)
    return Dataset.from_ids([kind(u) for u in users], [kind(i) for i in items], np.array(times[0]) if times else None)


def pairs_of(split):
    return list(zip(split.users.tolist(), split.items.tolist(), strict=True))


# ---- by time


@settings(deadline=None)
@for_all(
    events, st.one_of(st.floats(0.05, 0.95).map(lambda f: {"fraction": f}), st.integers(1, 9).map(lambda t: {"at": t}))
)
def test_training_precedes_everything_held_out(rows, where):
    dataset = dataset_of(rows)
    events = list(zip(dataset.users.tolist(), dataset.items.tolist(), dataset.timestamps.tolist(), strict=True))
    latest_first = sorted((time for *_, time in events), reverse=True)
    moment = where["at"] if "at" in where else latest_first[math.ceil(where["fraction"] * len(events)) - 1]
    early, late = [e for e in events if e[2] < moment], [e for e in events if e[2] >= moment]
    known, users, items = {e[:2] for e in early}, {e[0] for e in early}, {e[1] for e in early}
    learnable = [e for e in late if e[0] in users and e[1] in items]
    held_out = sorted({e[:2] for e in learnable} - known)
    if not held_out:
        with pytest.raises(ArgumentError, match=f"(before {moment} and from then|from {moment}) on, got"):
            split_by_time(dataset, **where)
        return
    split = split_by_time(dataset, **where)
    train = split.train
    assert list(zip(train.users, train.items, train.timestamps, strict=True)) == early
    assert pairs_of(split) == held_out
    assert f"every training interaction precedes {moment}, " in split.guarantee
    assert f"of the {len(late)} later interactions, {len(late) - len(learnable)} with a user" in split.guarantee
    assert f"{len(learnable) - len(held_out)} repeated" in split.guarantee


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either fraction or at"),
        ({"fraction": 0.5, "at": 3}, "either fraction or at"),
        ({"fraction": 1.0}, "above 0 and below 1"),
        ({"at": 0}, "before 0 and from then on, got 0 and 3"),
        ({"at": 9}, "before 9 and from then on, got 3 and 0"),
        ({"at": 5}, "new pairs of users and items in the training set from 5 on"),
    ],
)
def test_an_impossible_split_by_time_is_rejected(options, message):
    dataset = dataset_of([(0, 0, 1), (0, 1, 2), (1, 0, 5)])  # at 5, user 1 has no earlier interaction
    with pytest.raises(ArgumentError, match=message):
        split_by_time(dataset, **options)
    with pytest.raises(ArgumentError, match="timestamps"):
        split_by_time(dataset_of([(0, 0), (0, 1)]), at=1)


# ---- given


@pytest.mark.parametrize("kind", [int, str])
def test_a_given_split_covers_the_ids_of_all_its_parts(kind):
    train, test = dataset_of([(5, 1), (6, 1), (6, 2)], kind), dataset_of([(6, 9), (5, 7)], kind)
    listed = [(5, 7, 1), (5, 7, 8), (6, 9, 7), (5, 7, 7), (5, 7, 8)]  # 7 is the held-out item itself, 8 a duplicate
    ids = tuple(list(map(kind, column)) for column in zip(*listed, strict=True))
    split = given(train, test, tuple(map(np.array, ids)) if kind is int else ids)
    assert list(map(int, split.train.user_ids)) == [5, 6]
    assert list(map(int, split.train.item_ids)) == [1, 2, 7, 8, 9]
    assert list(zip(split.train.users.tolist(), split.train.items.tolist(), strict=True)) == [(0, 0), (1, 0), (1, 1)]
    assert pairs_of(split) == [(0, 2), (1, 4)]
    assert split.candidates[0].tolist() == [0, 2, 3]
    assert split.candidates[1].tolist() == [0, 3, 2]


def test_a_given_split_with_leaks_or_contradictions_is_rejected():
    train, test = dataset_of([(0, 0), (1, 1)]), dataset_of([(0, 1), (1, 1)])
    with pytest.raises(ArgumentError, match="got 1 that are, such as user 1 with item 1"):
        given(train, test)
    with pytest.raises(ArgumentError, match="expected ids of one type in all parts, got integers and strings"):
        given(train, dataset_of([(0, 1)], str))
    one = np.array([0])
    with pytest.raises(ArgumentError, match=r"candidates\[0\]: user 0 with item 0 is not held out"):
        given(train, dataset_of([(0, 1)]), (one, one, one))


# ---- the NCF paper's files


def test_three_files_are_a_split_with_candidates(tmp_path):
    split = read_ncf(write_ncf(tmp_path))
    assert split.train.item_ids.tolist() == [1, 2, 3, 4, 5]
    assert split.train.timestamps.tolist() == [10, 11, 12]
    assert pairs_of(split) == [(0, 2), (1, 1)]
    assert split.candidates[0].tolist() == [0, 2, 4]
    assert split.candidates[1].tolist() == [3, 4, 2, 3]  # without item 3, which is held out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train_rating": "0\t1\t5\n0\n"}, r"X\.train\.rating:2: expected 3 columns, got 1"),
        ({"test_rating": "0\t3\t5\n1\t\t4\n"}, r"X\.test\.rating:2: item: expected an id"),
        ({"test_negative": "(0,3)\t4\n0,3\t4\n"}, r"X\.test\.negative\.gz:2: expected \(user,item\) and candidates"),
        ({"test_negative": "(0,3)\t4\n\n(1,2)\t\n"}, r"negative\.gz:3: item: expected an id, got nothing"),
        ({"test_negative": "(0,3)\tx\n"}, r"negative\.gz:1: item: expected an integer, as in the test file, got 'x'"),
        ({"test_negative": "(0,4)\t1\n"}, r"negative\.gz:1: expected a pair of the test file, got \(0,4\)"),
        ({"test_negative": "(0,3)\t4\n(0,3)\t4\n"}, r"negative\.gz:2: duplicate pair \(0,3\), first in line 1"),
        ({"test_negative": "(1,2)\t4\n"}, r"got none for 1 of 2, such as \(0,3\)"),
        ({"test_rating": "0\t1\t5\n", "test_negative": "(0,1)\t4\n"}, "such as user 0 with item 1"),
    ],
)
def test_bad_ncf_files_are_rejected(tmp_path, changed, message):
    with pytest.raises(ArgumentError, match=message):
        read_ncf(write_ncf(tmp_path, **changed))


def test_a_missing_ncf_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"X\.train\.rating: expected this file"):
        read_ncf(tmp_path / "X")


def test_movielens_1m_as_the_paper_splits_it():
    prefix = DATA / "ml-1m" / "ml-1m"
    if not prefix.with_suffix(".test.rating").is_file():
        pytest.skip(f"{prefix.name} is missing: MovieLens may not be redistributed")
    split = read_ncf(prefix)
    assert (len(split.train), split.train.num_users, split.train.num_items) == (994_169, 6040, 3706)
    assert np.unique(split.train.items).size == 3704  # two items occur only in the test set
    assert split.users.tolist() == list(range(6040))
    lengths, pairs = np.unique(np.diff(split.candidates[0]), return_counts=True)
    assert dict(zip(lengths.tolist(), pairs.tolist(), strict=True)) == {98: 156, 99: 5884}


# ---- ties, shares, moments, what was never trained


@for_all(events, st.integers(0, 3), st.randoms())
def test_ties_are_told_and_broken_whatever_the_order_of_rows(rows, seed, random):
    split = leave_last_out(dataset_of(rows), seed)
    shuffled = random.sample(rows, len(rows))
    again = leave_last_out(dataset_of(shuffled), seed)
    assert pairs_of(split) == pairs_of(again)
    latest = {}  # each user's items, with the latest time of each
    for user, item, time in rows:
        of_user = latest.setdefault(user, {})
        of_user[item] = max(time, of_user.get(item, time))
    tied = 0
    held = dict(pairs_of(split))
    ids = split.train
    for user, times in latest.items():
        place = ids.user_ids.tolist().index(user)
        assert (place in held) == (len(times) > 1)
        if len(times) > 1:
            assert times[int(ids.item_ids[held[place]])] == max(times.values())
            tied += sorted(times.values())[-2] == max(times.values())
    assert (f"{tied} of {len(held)} users have several" in split.guarantee) == (tied > 0)


def test_ties_are_broken_at_random():
    dataset = dataset_of([(0, item, 7) for item in range(6)])
    drawn = [int(leave_last_out(dataset, seed).items[0]) for seed in range(200)]
    assert min(drawn.count(item) for item in range(6)) > 10


def test_the_printed_seed_makes_the_same_split():
    dataset = dataset_of([(user, item) for user in range(9) for item in range(5)])
    split = hold_out(dataset, 41, "random")
    (seed,) = re.findall(r"with seed (\d+)", split.guarantee)
    assert int(seed) == 41
    assert pairs_of(leave_one_out(dataset, int(seed))) == pairs_of(split)


@pytest.mark.parametrize("timed", [True, False])
def test_a_share_of_each_user_is_held_out(timed):
    rows = [(user, item, item) for user in range(1, 12) for item in range(user)]
    dataset = dataset_of(rows if timed else [row[:2] for row in rows])
    split = hold_out(dataset, 0, "share:0.25")
    counts = np.bincount(split.users, minlength=11)
    assert counts.tolist() == [0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2]
    if timed:
        kept = [split.train.items[split.train.users == user].max() for user in range(11)]
        assert all(item > kept[user] for user, item in pairs_of(split))
    assert len(split.train) + split.users.size == len(dataset)


def test_a_moment_is_a_date_or_a_number():
    days = [0, 1, 2, 3]
    start = 1_704_067_200  # 2024-01-01
    for unit in (1, 1000, 1_000_000):
        rows = [(user, (user + day) % 5, (start + 86400 * day) * unit) for user in range(5) for day in days]
        expected = pairs_of(split_by_time(dataset_of(rows), at=rows[2][2]))
        for text in ("2024-01-03", "2024-01-03 00:00:00 UTC", str(rows[2][2])):
            assert pairs_of(hold_out(dataset_of(rows), 0, f"at:{text}")) == expected
    with pytest.raises(ArgumentError, match="got 'at:3/1/2024'"):
        hold_out(dataset_of(rows), 0, "at:3/1/2024")


def test_what_was_never_trained_is_left_out():
    train, test = dataset_of([(5, 1), (6, 1), (6, 2)]), dataset_of([(5, 2), (7, 1), (6, 9)])
    split = given(train, test)
    assert (split.train.user_ids.tolist(), split.train.item_ids.tolist()) == ([5, 6], [1, 2])
    assert (pairs_of(split), split.left_out) == ([(0, 1)], 2)
    assert "2 pairs of users or items without training interactions are left out" in split.guarantee
    assert (given(train, dataset_of([(7, 1)])).users.size, given(train, dataset_of([(7, 1)])).left_out) == (0, 1)
    later = dataset_of([(0, 0, 1), (0, 1, 2), (1, 1, 2), (1, 0, 3), (2, 0, 3), (0, 7, 3)])
    split = without_untrained(split_by_time(later, at=3))
    assert (split.train.user_ids.tolist(), split.train.item_ids.tolist()) == ([0, 1], [0, 1])
    assert pairs_of(split) == [(1, 0)]


@pytest.mark.parametrize(
    ("name", "ties", "users"), [("ml-100k/u.data", 415, 943), ("ml-latest-small/ratings.csv", 127, 671)]
)
def test_ties_of_movielens(name, ties, users):
    """Ratings within a second: for so many users the latest item is a draw, whatever the order of the rows."""
    if not (DATA / name).is_file():
        pytest.skip(f"{name} is absent: MovieLens may not be redistributed")
    dataset, _ = read_interactions(DATA / name)
    split = leave_last_out(dataset, 3)
    assert f"({ties} of {users} users have several at that time, of which it is drawn with seed 3)" in split.guarantee
    shuffled = leave_last_out(dataset.take(np.random.default_rng(0).permutation(len(dataset))), 3)
    assert (shuffled.items == split.items).all()
    latest = (
        dataset.timestamps
        == np.array([dataset.timestamps[dataset.users == user].max() for user in range(users)])[dataset.users]
    )
    largest = np.zeros(users, np.int64)
    np.maximum.at(largest, dataset.users[latest], dataset.items[latest])
    assert ties / 4 < (split.items != largest[split.users]).sum() < ties  # not always the largest id
    assert (leave_last_out(dataset, 4).items != split.items).sum() > ties / 4

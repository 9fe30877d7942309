"""Metrics: small cases by hand, random cases against the definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralcf import ArgumentError
from neuralcf.evaluation.metrics import coverage, hit_ratio, ndcg, novelty, recall, reciprocal_rank

RANK_METRICS = (hit_ratio, recall, reciprocal_rank, ndcg)


def test_one_held_out_item_per_list():
    ranks = np.array([0, 1, 9, 10])
    assert hit_ratio(ranks, 10).tolist() == recall(ranks, 10).tolist() == [1, 1, 1, 0]
    assert reciprocal_rank(ranks, 10).tolist() == [1, 1 / 2, 1 / 10, 0]
    assert ndcg(ranks, 10) == pytest.approx([1, 1 / np.log2(3), 1 / np.log2(11), 0])
    assert all(metric(ranks, 1).tolist() == [1, 0, 0, 0] for metric in RANK_METRICS)


def test_several_held_out_items_per_list():
    """List 0 has ranks 0, 2 and 7, list 1 has rank 3. The ideal DCG of list 0 is three hits at k = 3, two at k = 2."""
    ranks, lists = np.array([2, 3, 0, 7]), np.array([0, 1, 0, 0])
    second, third = 1 / np.log2(3), 1 / 2
    assert hit_ratio(ranks, 3, lists).tolist() == [1, 0]
    assert recall(ranks, 3, lists) == pytest.approx([2 / 3, 0])
    assert reciprocal_rank(ranks, 4, lists).tolist() == [1, 1 / 4]
    assert ndcg(ranks, 3, lists) == pytest.approx([(1 + third) / (1 + second + third), 0])
    assert ndcg(ranks, 2, lists) == pytest.approx([1 / (1 + second), 0])


@given(st.lists(st.sets(st.integers(0, 12), min_size=1, max_size=6), min_size=1, max_size=6), st.integers(1, 12))
def test_against_the_definitions(held_out, k):
    """Represent each list by its gains at 13 positions, zeros and ones."""
    pairs = [(rank, number) for number, ranks in enumerate(held_out) for rank in sorted(ranks, reverse=True)]
    ranks, lists = np.array(pairs).T
    discounts = 1 / np.log2(np.arange(13) + 2)
    for number, held in enumerate(held_out):
        gains = np.array([float(position in held) for position in range(13)])
        ideal = np.sort(gains)[::-1]
        first = min(held) + 1
        expected = [
            gains[:k].max(),
            gains[:k].sum() / len(held),
            1 / first if first <= k else 0,
            (gains * discounts)[:k].sum() / (ideal * discounts)[:k].sum(),
        ]
        assert [metric(ranks, k, lists)[number] for metric in RANK_METRICS] == pytest.approx(expected)


@pytest.mark.parametrize("ranks", [np.array([], dtype=int), np.array([-1]), np.array([1.0]), np.array([[1]])])
@pytest.mark.parametrize("metric", RANK_METRICS)
def test_invalid_ranks_cutoffs_and_lists_are_rejected(metric, ranks):
    with pytest.raises(ArgumentError, match="ranks: expected"):
        metric(ranks, 10)
    with pytest.raises(ArgumentError, match="k: expected an integer >= 1, got 0"):
        metric(np.array([1]), 0)
    for lists in ([0, 0], [1], [-1], [0.0]):
        with pytest.raises(ArgumentError, match="lists: expected"):
            metric(np.array([1]), 10, np.array(lists))


def test_coverage_and_novelty():
    """Three of four items are recommended; 8, 2, 1 and 0 of eight users have the items: 0, 2, 3 and 3 bits."""
    recommended = np.array([[0, 1], [1, 3], [3, -1], [-1, -1]])
    assert coverage(recommended, 4) == 3 / 4
    assert novelty(recommended, np.array([8, 2, 1, 0]), 8).tolist() == [1, 2.5, 3, 0]

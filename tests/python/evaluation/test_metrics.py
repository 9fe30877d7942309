"""Metrics: small cases by hand, random cases against the definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralcf import ArgumentError
from neuralcf.evaluation.metrics import (
    auc,
    average_precision,
    coverage,
    hit_ratio,
    ndcg,
    novelty,
    precision,
    recall,
    reciprocal_rank,
)

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


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_precision_map_and_auc_equal_those_of_plain_definitions(k, others, seed):
    """Lists of scores without ties, ranked by sorting; averages by loops over the lists."""
    rng = np.random.default_rng(seed)
    ranks, lists, sizes, expected = [], [], [], []
    for number in range(5):
        relevant = set(rng.choice(others + 6, size=rng.integers(1, 7), replace=False).tolist())
        order = rng.permutation(others + 6).tolist()  # best first
        hits = [item in relevant for item in order]
        precisions = [sum(hits[: n + 1]) / (n + 1) for n in range(min(k, len(order))) if hits[n]]
        pairs = [(i, j) for i in relevant for j in order if j not in relevant]
        before = sum(order.index(i) < order.index(j) for i, j in pairs)
        expected.append((sum(hits[:k]) / k, sum(precisions) / len(relevant), before / len(pairs) if pairs else 0.5))
        ranks += [order.index(item) for item in relevant]
        lists += [number] * len(relevant)
        sizes.append(len(order))
    found = precision(np.array(ranks), k, np.array(lists)), average_precision(np.array(ranks), k, np.array(lists))
    measured = np.transpose([*found, auc(np.array(ranks), np.array(sizes), np.array(lists))])
    assert np.abs(measured - np.array(expected)).max() < 1e-12


def test_a_model_of_ties_gains_nothing():
    ranks = np.full(3, 9)  # three held-out items of ten with equal scores
    lists = np.zeros(3, np.int64)
    assert auc(ranks, np.array([10]), lists).tolist() == [0]
    assert average_precision(ranks, 10, lists) == pytest.approx([0.3])
    assert precision(ranks, 9, lists).tolist() == [0]


@pytest.mark.filterwarnings("ignore")  # of numba, which it compiles with
def test_metrics_equal_those_of_ranx():
    ranx = pytest.importorskip("ranx", reason="an independent implementation, which is not installed")
    rng = np.random.default_rng(3)
    qrels, graded, run, ranks, lists, gains = {}, {}, {}, [], [], []
    for number in range(40):
        order = rng.permutation(60).tolist()
        relevant = rng.choice(60, size=rng.integers(1, 9), replace=False).tolist()
        run[f"q{number}"] = {f"d{item}": 60.0 - n for n, item in enumerate(order)}
        worth = rng.integers(1, 6, len(relevant)).tolist()
        qrels[f"q{number}"] = {f"d{item}": 1 for item in relevant}
        graded[f"q{number}"] = {f"d{item}": gain for item, gain in zip(relevant, worth, strict=True)}
        gains += worth
        ranks += [order.index(item) for item in relevant]
        lists += [number] * len(relevant)
    ours = {"precision": precision, "map": average_precision, "recall": recall, "mrr": reciprocal_rank, "ndcg": ndcg}
    for k in (1, 5, 20):
        names = [f"{name}@{k}" for name in ours] + [f"hit_rate@{k}"]
        theirs = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), names)
        for name, metric in {**ours, "hit_rate": hit_ratio}.items():
            mean = metric(np.array(ranks), k, np.array(lists)).mean()
            assert mean == pytest.approx(theirs[f"{name}@{k}"], abs=1e-9), name
        theirs = ranx.evaluate(ranx.Qrels(graded), ranx.Run(run), f"ndcg@{k}", return_mean=False)
        assert ndcg(np.array(ranks), k, np.array(lists), np.array(gains, float)) == pytest.approx(theirs, abs=1e-9)


def test_gains_grade_ndcg():
    """List 0 has ranks 2, 0 and 7 with gains 3, 1 and 5; list 1 has rank 3 alone, whose gain makes no difference."""
    ranks, lists, gains = np.array([2, 3, 0, 7]), np.array([0, 1, 0, 0]), np.array([3.0, 0.2, 1.0, 5.0])
    d = 1 / np.log2(np.arange(10) + 2)
    ideal = 5 * d[0] + 3 * d[1] + 1 * d[2]
    assert ndcg(ranks, 10, lists, gains) == pytest.approx([(3 * d[2] + d[0] + 5 * d[7]) / ideal, d[3]], abs=1e-12)
    assert ndcg(ranks, 2, lists, gains) == pytest.approx([d[0] / (5 * d[0] + 3 * d[1]), 0], abs=1e-12)
    assert ndcg(ranks, 5, lists, np.full(4, 2.5)) == pytest.approx(ndcg(ranks, 5, lists), abs=1e-12)
    for wrong in ([1, 2, 3], [1, 2, 0, 4], [1, 2, np.nan, 4]):
        with pytest.raises(ArgumentError, match="gains: expected numbers above 0"):
            ndcg(ranks, 5, lists, np.array(wrong, float))

"""Intervals and paired comparisons: formulas, enumeration of all flips, coverage, rejected input."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from neuralcf import ArgumentError
from neuralcf.evaluation.result import Evaluation
from neuralcf.evaluation.significance import compare, interval


def evaluation(values, **changes):
    values = {name: np.asarray(each, dtype=float) for name, each in values.items()}
    users = np.arange(len(next(iter(values.values()))))
    return replace(Evaluation(users, values, {"Coverage@5": 0.5}, users.size, "full", "f" * 64), **changes)


def test_the_interval_of_a_mean():
    """0, 0, 1, 1 have mean 1/2 and variance 1/3; the standard error is sqrt(1/12)."""
    got = interval(np.array([0.0, 0, 1, 1]))
    half = 1.959963984540054 / np.sqrt(12)
    assert (got.mean, got.low, got.high) == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    one = interval(np.array([0.5]))
    assert one.mean == 0.5
    assert np.isnan([one.low, one.high]).all()


def test_the_interval_covers_the_true_mean_in_95_percent_of_cases():
    draws = np.random.default_rng(0).random((4000, 200)) < 0.3
    held = np.mean([got.low <= 0.3 <= got.high for got in map(interval, draws.astype(float))])
    assert held == pytest.approx(0.95, abs=0.012)


def test_p_equals_the_enumeration_of_all_flips():
    """Eight users: p is the share of all 256 flips with at least as large a difference; two metrics at once."""
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 2, 8)).round(1)
    got = compare(*(evaluation({"HR@5": each[0], "MRR@5": each[1]}) for each in (a, b)), flips=40_000)
    flips = np.array(list(product((-1, 1), repeat=8)))
    for name, row in (("HR@5", 0), ("MRR@5", 1)):
        d = a[row] - b[row]
        each = next(each for each in got if each.metric == name)
        exact = np.mean(np.abs(flips @ d) >= abs(d.sum()) - 1e-9)
        assert each.p == pytest.approx(exact, abs=0.01)
        assert (each.a, each.b) == pytest.approx((a[row].mean(), b[row].mean()))
        assert each.difference == interval(d)
    assert [each.metric for each in got if each.p is None] == ["Coverage@5"]


def test_p_of_no_difference_and_of_an_obvious_one():
    values = np.random.default_rng(2).random(50)
    one = evaluation({"HR@5": values})
    assert compare(one, one)[0].p == 1
    assert compare(evaluation({"HR@5": values + 1}), one, flips=999)[0].p == 1 / 1000
    assert compare(one, one)[0].difference.low == 0


def test_p_is_uniform_under_the_null_hypothesis():
    rng = np.random.default_rng(3)
    alike = evaluation({f"m{n}": np.zeros(60) for n in range(400)})
    noise = evaluation({f"m{n}": rng.standard_normal(60) for n in range(400)})
    p = np.array([each.p for each in compare(noise, alike, flips=1000) if each.p is not None])
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": "1 + 99"}, "the same protocol, got different ones: 'full' and '1 \\+ 99'"),
        ({"fingerprint": "0" * 64}, "the same training or held-out items, or candidates"),
        ({"users": np.array([0, 2])}, "the same users"),
        ({"users": ["0", "1"]}, "the same users"),
        ({"users": np.arange(3)}, "the same number of users, got different ones: 2 and 3"),
        ({"per_user": {"HR@10": np.zeros(2)}}, "a common metric, got HR@5; HR@10"),
    ],
)
def test_incompatible_evaluations_are_rejected(changes, message):
    one = evaluation({"HR@5": [0, 1]})
    with pytest.raises(ArgumentError, match=f"compare: expected .*{message}"):
        compare(one, replace(one, **changes))

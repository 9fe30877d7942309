"""The cost of filters in `Scorer.top_k`, shape A, a million items: `pytest benches/core/bench_filters.py`."""

from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benches.shapes import A, random_tensors
from neuralcf import Scorer

USERS, ITEMS, USER = 1_000, 1_000_000, 7
RNG = np.random.default_rng(3)
SOME, MANY, HALF = (RNG.choice(ITEMS, size, replace=False) for size in (1_000, 10_000, 500_000))
SEEN = np.arange(USERS + 1) * 1_000, RNG.integers(0, ITEMS, USERS * 1_000)
ROW = np.array([0, SOME.size]), SOME
EVERYTHING = np.arange(ITEMS)

FILTERS: dict[str, tuple[dict[str, Any], np.ndarray]] = {
    "none": ({}, EVERYTHING),
    "exclude 1,000": ({"exclude": ROW}, np.setdiff1d(EVERYTHING, SOME)),
    "exclude 1,000 seen": ({"exclude": "seen"}, np.setdiff1d(EVERYTHING, SEEN[1][USER * 1_000 : (USER + 1) * 1_000])),
    "deny 1,000": ({"deny": SOME}, np.setdiff1d(EVERYTHING, SOME)),
    "allow half by mask": ({"allow": np.isin(EVERYTHING, HALF)}, np.sort(HALF)),
    "allow 20 by index": ({"allow": SOME[:20]}, np.sort(SOME[:20])),
    "allow 1 % by index": ({"allow": MANY}, np.sort(MANY)),
    "1,000 candidates": ({"allow": ROW}, np.sort(SOME)),
}
"""Filters by name, with the items that remain."""


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer.from_tensors(random_tensors(A, USERS, ITEMS), seen=SEEN)


@pytest.mark.parametrize("name", FILTERS)
def test_one_user(benchmark: BenchmarkFixture, scorer: Scorer, name: str) -> None:
    filters, remaining = FILTERS[name]
    benchmark.group = "top-10, A, 1,000,000 items, one user"
    benchmark.extra_info.update(isa=scorer.isa, threads=scorer.threads)
    top = benchmark(scorer.top_k, [USER], 10, **filters)
    logits = scorer.score_batch(USER, remaining, logits=True)
    np.testing.assert_array_equal(top.ids[0], remaining[np.lexsort((remaining, -logits))[:10]])

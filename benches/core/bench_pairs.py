"""`Scorer.score_batch`, including the Python call: `pytest benches/core/bench_pairs.py`; for peers, `peers/run.py`."""

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benches.shapes import SHAPES, random_tensors
from neuralcf import Scorer

USERS, ITEMS = 20_000, 100_000
Named = tuple[str, Scorer]


@pytest.fixture(scope="module", params=SHAPES)
def scorer(request: pytest.FixtureRequest) -> Named:
    return request.param, Scorer.from_tensors(random_tensors(SHAPES[request.param], USERS, ITEMS))


def note(benchmark: BenchmarkFixture, group: str, scorer: Scorer) -> None:
    benchmark.group = group
    benchmark.extra_info.update(isa=scorer.isa, threads=scorer.threads)


@pytest.mark.parametrize("pairs", [1, 100, 10_000, 1_000_000])
def test_random_pairs(benchmark: BenchmarkFixture, scorer: Named, pairs: int) -> None:
    name, engine = scorer
    rng = np.random.default_rng(1)
    users, items = rng.integers(0, USERS, pairs), rng.integers(0, ITEMS, pairs)
    note(benchmark, f"score_batch, {name}", engine)
    scores = benchmark(engine.score_batch, users, items)
    assert scores[-1] == engine.score_batch(users[-1:], items[-1:])[0]


def test_candidates_of_one_user(benchmark: BenchmarkFixture, scorer: Named) -> None:
    name, engine = scorer
    items = np.random.default_rng(2).integers(0, ITEMS, 16)
    note(benchmark, f"score_batch, {name}", engine)
    scores = benchmark(engine.score_batch, 7, items)
    np.testing.assert_array_equal(scores, engine.score_batch(np.full(16, 7), items))


@pytest.mark.parametrize("as_row", [False, True], ids=["allow indices", "allow a row"])
def test_top_10_of_candidates(benchmark: BenchmarkFixture, scorer: Named, as_row: bool) -> None:
    name, engine = scorer
    items = np.sort(np.random.default_rng(2).choice(ITEMS, 16, replace=False))
    note(benchmark, f"top_k of 16 candidates, {name}", engine)
    top = benchmark(engine.top_k, [7], 10, allow=(np.array([0, 16]), items) if as_row else items)
    np.testing.assert_array_equal(top.scores[0], np.sort(engine.score_batch(7, items))[::-1][:10])

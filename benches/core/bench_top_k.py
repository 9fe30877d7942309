"""`Scorer.top_k` over the full catalogue: `pytest benches/core/bench_top_k.py`; for peers, `peers/run.py`."""

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benches.shapes import SHAPES, random_tensors
from neuralcf import Scorer

USERS = 1_000
CASES = [("A", 3_706), ("A", 100_000), ("A", 1_000_000), ("B", 3_706), ("B", 100_000)]
Named = tuple[str, Scorer]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def scorer(request: pytest.FixtureRequest) -> Named:
    name, items = request.param
    return f"{name}, {items:,} items", Scorer.from_tensors(random_tensors(SHAPES[name], USERS, items))


def answer(scorer: Scorer, user: int) -> np.ndarray:
    """Find the top-10 by scoring every item and sorting; `top_k` must return the same, to the bit."""
    logits = scorer.score_batch(user, np.arange(scorer.num_items), logits=True)
    return np.lexsort((np.arange(scorer.num_items), -logits))[:10]


@pytest.mark.parametrize("threads", [1, None], ids=["1 thread", "all threads"])
@pytest.mark.parametrize("users", [1, 64])
def test_top_10(benchmark: BenchmarkFixture, scorer: Named, users: int, threads: int | None) -> None:
    name, engine = scorer
    benchmark.group = f"top-10, {name}"
    benchmark.extra_info.update(isa=engine.isa, threads=threads or engine.threads)
    top = benchmark(engine.top_k, np.arange(users), 10, threads=threads)
    for user in {0, users - 1}:
        np.testing.assert_array_equal(top.ids[user], answer(engine, user))

"""Top-10 of the whole catalogue beside torch eager, same weights, same process: `pytest benches/bench_top_k.py`."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from common import A, B, TorchNeuMF, random_tensors
from neuralcf import Scorer

Models = tuple[str, Scorer, TorchNeuMF, torch.Tensor]
CASES = [("A", A, 3_706), ("A", A, 100_000), ("A", A, 1_000_000), ("B", B, 100_000)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[2]}")
def models(request: pytest.FixtureRequest) -> Models:
    name, shape, items = request.param
    tensors = random_tensors(shape, users=1_000, items=items)
    return f"{name}, {items:,} items", Scorer.from_tensors(tensors), TorchNeuMF(tensors), torch.arange(items)


@pytest.fixture(params=[1, torch.get_num_threads()], ids=lambda threads: f"{threads} threads")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Threads for both; torch is sometimes faster on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("engine", ["neuralcf", "torch eager"])
def test_one_user(benchmark: BenchmarkFixture, models: Models, engine: str, threads: int) -> None:
    name, scorer, module, items = models
    ids, scores = scorer.top_k(7, k=10)
    torch_ids, torch_scores = module.top_k(7, items, 10)
    np.testing.assert_allclose(scores, torch_scores.numpy(), atol=1e-5)
    assert set(ids.tolist()) == set(torch_ids.tolist())

    benchmark.group = f"top-10, one user, {name}"
    benchmark.extra_info.update(isa=scorer.isa, threads=threads)
    if engine == "neuralcf":
        benchmark(scorer.top_k, 7, 10, threads=threads)
    else:
        benchmark(module.top_k, 7, items, 10)

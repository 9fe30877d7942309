"""Probabilities of random pairs beside torch eager, same weights and process: `pytest benches/bench_score_batch.py`."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from common import A, B, TorchNeuMF, random_tensors
from neuralcf import Scorer

USERS, ITEMS = 20_000, 100_000
Models = tuple[str, Scorer, TorchNeuMF]


@pytest.fixture(scope="module", params=[("A", A), ("B", B)], ids=lambda case: case[0])
def models(request: pytest.FixtureRequest) -> Models:
    name, shape = request.param
    tensors = random_tensors(shape, USERS, ITEMS)
    return name, Scorer.from_tensors(tensors), TorchNeuMF(tensors)


@torch.inference_mode()
def torch_scores(module: TorchNeuMF, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.float32]:
    return torch.sigmoid(module(torch.from_numpy(users), torch.from_numpy(items))).numpy()


@pytest.mark.parametrize("pairs", [1, 100, 10_000, 1_000_000])
@pytest.mark.parametrize("engine", ["neuralcf", "torch eager"])
def test_random_pairs(benchmark: BenchmarkFixture, models: Models, pairs: int, engine: str) -> None:
    name, scorer, module = models
    rng = np.random.default_rng(1)
    users, items = rng.integers(0, USERS, pairs), rng.integers(0, ITEMS, pairs)
    np.testing.assert_allclose(scorer.score_batch(users, items), torch_scores(module, users, items), atol=1e-5)

    benchmark.group = f"score_batch, {name}, {pairs:,} pairs"
    benchmark.extra_info.update(isa=scorer.isa, threads=scorer.threads, torch_threads=torch.get_num_threads())
    if engine == "neuralcf":
        benchmark(scorer.score_batch, users, items)
    else:
        benchmark(torch_scores, module, users, items)

"""`Scorer.fold_in`, the vectors of a new user from a history of 200 items: `pytest benches/core/bench_fold_in.py`."""

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from neuralcf import Scorer

USERS, ITEMS, HISTORY = 3000, 3706, 200


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(0.15)


def gmf(rng: np.random.Generator, width: int) -> dict[str, np.ndarray]:
    return {
        "gmf.user_embedding.weight": normal(rng, USERS, width),
        "gmf.item_embedding.weight": normal(rng, ITEMS, width),
        "output.weight": np.ones((1, width), np.float32),
        "output.bias": np.full(1, -2, np.float32),
    }


def encoders(rng: np.random.Generator, width: int) -> dict[str, np.ndarray]:
    """Make tensors of history.safetensors in the shape of the preset `fast`: two linear maps and a ridge regression."""
    tensors = {name: normal(rng, ITEMS, width) for name in ("linear.0.items", "linear.1.items", "ridge.0.items")}
    exponents = {"linear.0.exponent": np.float32([0]), "linear.1.exponent": np.float32([0.5])}
    ridge = {
        "ridge.0.output": normal(rng, width, width),
        "ridge.0.diagonal": np.ones(width, np.float32),
        "ridge.0.l2": np.float32([0, 0.01]),
    }
    return {"empty": normal(rng, width), "bias": normal(rng, width), **tensors, **exponents, **ridge}


@pytest.mark.parametrize("how", ["encoders 256", "fit 64", "fit 128", "fit 256"])
def test_one_user(benchmark: BenchmarkFixture, how: str) -> None:
    rng = np.random.default_rng(0)
    width = int(how.split()[1])
    history = encoders(rng, width) if how.startswith("encoders") else None
    scorer = Scorer.from_tensors(gmf(rng, width), history=history)
    items = np.sort(rng.choice(ITEMS, HISTORY, replace=False))
    benchmark.extra_info.update(isa=scorer.isa)
    vectors = benchmark(scorer.fold_in, (np.array([0, HISTORY]), items), threads=1)
    twice = scorer.fold_in((np.array([0, HISTORY, 2 * HISTORY]), np.tile(items, 2)))
    np.testing.assert_array_equal(np.asarray(twice.gmf)[1], np.asarray(vectors.gmf)[0])

"""MovieLens-1M over the full catalogue, 6,040 users, beside torch eager: run with pytest.

Both compute the ranks of the held-out items and the top-100 lists, training items masked, from the same weights. The
metrics are the same NumPy code for both and are not timed. Skipped if the data are missing.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture
from safetensors.numpy import load_file

from benches.peers.engines import Model
from benches.peers.engines.with_torch import TorchNeuMF
from neuralcf import Scorer
from neuralcf.data import Dataset
from neuralcf.data.csr import CSR, take_rows

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
WEIGHTS = DATA / "ncf-weights/neumf8_init.safetensors"
NUM_USERS, NUM_ITEMS, K = 6_040, 3_706, 100
BLOCK = 64
"""Users per forward pass of torch: 237,184 pairs."""

Answers = tuple[NDArray[np.int64], NDArray[np.int64]]


@pytest.fixture(scope="module")
def questions() -> tuple[NDArray[np.int64], NDArray[np.int64], CSR]:
    if not WEIGHTS.is_file():
        pytest.skip(f"no MovieLens-1M and weights at {DATA}")
    train = np.loadtxt(DATA / "ml-1m/ml-1m.train.rating.gz", dtype=np.int64, usecols=(0, 1))
    held = np.loadtxt(DATA / "ml-1m/ml-1m.test.rating", dtype=np.int64, usecols=(0, 1))
    user_items = Dataset(train[:, 0], train[:, 1], None, np.arange(NUM_USERS), np.arange(NUM_ITEMS)).user_items()
    return held[:, 0], held[:, 1], take_rows(user_items, held[:, 0])


def engine(scorer: Scorer, users: NDArray[np.int64], items: NDArray[np.int64], user_items: CSR) -> Answers:
    return scorer.rank_of(users, items, exclude=user_items), scorer.top_k(users, K, exclude=user_items).ids


@torch.inference_mode()
def eager(module: TorchNeuMF, users: NDArray[np.int64], items: NDArray[np.int64], user_items: CSR) -> Answers:
    catalogue, indptr, indices = (
        torch.arange(NUM_ITEMS),
        user_items[0],
        torch.from_numpy(user_items[1].astype(np.int64)),
    )
    ranks, lists = [], []
    for start in range(0, len(users), BLOCK):
        block = slice(start, min(start + BLOCK, len(users)))
        rows = torch.from_numpy(users[block])
        count = len(rows)
        logits = module(rows.repeat_interleave(NUM_ITEMS), catalogue.repeat(count)).view(count, NUM_ITEMS)
        own = logits.gather(1, torch.from_numpy(items[block])[:, None])
        lengths = torch.from_numpy(np.diff(indptr[block.start : block.stop + 1]))
        row = torch.arange(count).repeat_interleave(lengths)
        logits[row, indices[indptr[block.start] : indptr[block.stop]]] = -torch.inf
        ranks.append((logits >= own).sum(dim=1) - 1)
        lists.append(torch.topk(logits, K).indices)
    return torch.cat(ranks).numpy(), torch.cat(lists).numpy()


@pytest.mark.parametrize("which", ["neuralcf", "torch eager"])
def test_full_catalogue(
    benchmark: BenchmarkFixture, questions: tuple[NDArray[np.int64], NDArray[np.int64], CSR], which: str
) -> None:
    scorer, module = Scorer.load(WEIGHTS), TorchNeuMF(Model(load_file(WEIGHTS)))
    threads = torch.get_num_threads()
    benchmark.group = "MovieLens-1M, full catalogue, 6,040 users"
    benchmark.extra_info.update(isa=scorer.isa, threads=scorer.threads, torch_threads=threads)
    ours = engine(scorer, *questions)
    if which == "neuralcf":
        benchmark.pedantic(engine, (scorer, *questions), rounds=5)
        return
    theirs = benchmark.pedantic(eager, (module, *questions), rounds=1)
    assert np.mean(ours[0] == theirs[0]) > 0.99  # logits that differ in the last bits change a few ranks
    overlap = [len(np.intersect1d(a, b)) for a, b in zip(ours[1], theirs[1], strict=True)]
    assert np.mean(overlap) > 0.999 * K

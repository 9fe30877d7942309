"""Engines that find the items with the largest dot products, on one core.

What is not installed is skipped. `exact` engines find the best items up to ties of float32 rounding; the others are
here as what people use in their place.
"""

import importlib
from typing import ClassVar, Protocol

import numpy as np

from benches.peers.engines import Floats, Indices
from neuralcf import Scorer


class DotEngine(Protocol):
    """An engine, constructed from the vectors of users and items: float32 [U, d] and [I, d]."""

    name: ClassVar[str]
    exact: ClassVar[bool]

    def __init__(self, users: Floats, items: Floats) -> None: ...

    def top_k(self, users: Indices, k: int) -> Indices:
        """Find the ids [B, k] of the best items of users [B]."""
        ...


class NeuralCF:
    """`neuralcf.Scorer` with a GMF of unit output weights."""

    name: ClassVar[str] = "NeuralCF"
    exact: ClassVar[bool] = True

    def __init__(self, users: Floats, items: Floats) -> None:
        weights = {"output.weight": np.ones((1, users.shape[1]), np.float32), "output.bias": np.zeros(1, np.float32)}
        tables = {"gmf.user_embedding.weight": users, "gmf.item_embedding.weight": items}
        self.scorer = Scorer.from_tensors(tables | weights, threads=1)

    def top_k(self, users: Indices, k: int) -> Indices:
        return self.scorer.top_k(users, k, logits=True).ids


class FaissFlat:
    """`faiss.IndexFlatIP`."""

    name: ClassVar[str] = "faiss flat"
    exact: ClassVar[bool] = True

    def __init__(self, users: Floats, items: Floats) -> None:
        faiss = importlib.import_module("faiss")
        faiss.omp_set_num_threads(1)
        self.users, self.index = users, self.make(faiss, items)

    def make(self, faiss, items: Floats):
        index = faiss.IndexFlatIP(items.shape[1])
        index.add(items)
        return index

    def top_k(self, users: Indices, k: int) -> Indices:
        return self.index.search(self.users[users], k)[1]


class FaissSQ8(FaissFlat):
    """`faiss.IndexScalarQuantizer` with 8 bits, which is approximate."""

    name: ClassVar[str] = "faiss SQ8"
    exact: ClassVar[bool] = False

    def make(self, faiss, items: Floats):
        quantizer = faiss.ScalarQuantizer.QT_8bit
        index = faiss.IndexScalarQuantizer(items.shape[1], quantizer, faiss.METRIC_INNER_PRODUCT)
        index.train(items)
        index.add(items)
        return index


class Usearch:
    """`usearch.index.search` with `exact=True`."""

    name: ClassVar[str] = "usearch exact"
    exact: ClassVar[bool] = True

    def __init__(self, users: Floats, items: Floats) -> None:
        self.index, self.users, self.items = importlib.import_module("usearch.index"), users, items

    def top_k(self, users: Indices, k: int) -> Indices:
        inner = self.index.MetricKind.IP
        found = self.index.search(self.items, self.users[users], k, inner, exact=True, threads=1)
        return np.asarray(found.keys).reshape(len(users), k).astype(np.int64)


class Implicit:
    """`implicit`'s top-k, which its models' `recommend` calls."""

    name: ClassVar[str] = "implicit"
    exact: ClassVar[bool] = True

    def __init__(self, users: Floats, items: Floats) -> None:
        self.topk, self.users, self.items = importlib.import_module("implicit.cpu.topk").topk, users, items

    def top_k(self, users: Indices, k: int) -> Indices:
        return self.topk(self.items, self.users[users], k, num_threads=1)[0].astype(np.int64)


class Torch:
    """`torch.matmul` and `torch.topk`."""

    name: ClassVar[str] = "torch"
    exact: ClassVar[bool] = True

    def __init__(self, users: Floats, items: Floats) -> None:
        self.torch = importlib.import_module("torch")
        self.torch.set_num_threads(1)
        self.users, self.items = (self.torch.from_numpy(table) for table in (users, items))

    def top_k(self, users: Indices, k: int) -> Indices:
        with self.torch.inference_mode():
            return self.torch.topk(self.users[users] @ self.items.T, k, dim=1)[1].numpy()


ENGINES: tuple[type[DotEngine], ...] = (NeuralCF, FaissFlat, FaissSQ8, Usearch, Implicit, Torch)
PACKAGES = ("numpy", "torch", "faiss-cpu", "usearch", "implicit")

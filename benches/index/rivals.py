"""Approximate indexes of vectors: hnswlib, faiss and usearch, as their documentation builds them.

Each has an effort, which trades time for recall. They are built on all cores, and searched on one.
"""

import importlib
import os
from typing import Any, ClassVar, Protocol

import numpy as np

from benches.peers.engines import Floats, Indices

DEGREE, BREADTH = 16, 100
"""Of graphs: neighbours of a vector, and candidates while it is added."""


class Rival(Protocol):
    """An index of vectors [I, d]."""

    name: ClassVar[str]
    efforts: ClassVar[tuple[int, ...]]

    def __init__(self, items: Floats) -> None: ...

    def search(self, users: Floats, k: int, effort: int) -> Indices:
        """Find about the best items `[B, k]` of users `[B, d]`."""
        ...


class Hnswlib:
    """A graph; the effort is `ef`."""

    name: ClassVar[str] = "hnswlib"
    efforts: ClassVar[tuple[int, ...]] = (16, 32, 64, 128, 256, 512, 1024)

    def __init__(self, items: Floats) -> None:
        self.index = importlib.import_module("hnswlib").Index(space="ip", dim=items.shape[1])
        self.index.init_index(max_elements=len(items), M=DEGREE, ef_construction=BREADTH)
        self.index.add_items(items, num_threads=os.cpu_count())

    def search(self, users: Floats, k: int, effort: int) -> Indices:
        self.index.set_ef(max(effort, k))
        return self.index.knn_query(users, k, num_threads=1)[0].astype(np.int64)


class FaissHnsw:
    """A graph; the effort is `efSearch`."""

    name: ClassVar[str] = "faiss HNSW"
    efforts: ClassVar[tuple[int, ...]] = Hnswlib.efforts

    def __init__(self, items: Floats) -> None:
        self.faiss = importlib.import_module("faiss")
        self.faiss.omp_set_num_threads(os.cpu_count())
        self.index = self.build(items)
        self.faiss.omp_set_num_threads(1)

    def build(self, items: Floats) -> Any:
        index = self.faiss.IndexHNSWFlat(items.shape[1], DEGREE, self.faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BREADTH
        index.add(items)
        return index

    def search(self, users: Floats, k: int, effort: int) -> Indices:
        self.index.hnsw.efSearch = max(effort, k)
        return self.index.search(users, k)[1]


class FaissLists(FaissHnsw):
    """Lists of product codes of four bits; of the best, ten times `k` are rescored. The effort is `nprobe`."""

    name: ClassVar[str] = "faiss IVF-PQ"
    efforts: ClassVar[tuple[int, ...]] = (4, 8, 16, 32, 64, 128, 256, 512)

    def build(self, items: Floats) -> Any:
        lists = max(16, round(4 * len(items) ** 0.5))
        text = f"IVF{lists},PQ{items.shape[1] // 2}x4fs,RFlat"
        index = self.faiss.index_factory(items.shape[1], text, self.faiss.METRIC_INNER_PRODUCT)
        index.train(items[np.random.default_rng(0).permutation(len(items))[: 64 * lists]])
        index.add(items)
        return index

    def search(self, users: Floats, k: int, effort: int) -> Indices:
        self.index.k_factor = 10
        self.faiss.downcast_index(self.index.base_index).nprobe = effort
        return self.index.search(users, k)[1]


class Usearch:
    """A graph; the effort is `expansion_search`."""

    name: ClassVar[str] = "usearch"
    efforts: ClassVar[tuple[int, ...]] = Hnswlib.efforts

    def __init__(self, items: Floats) -> None:
        module = importlib.import_module("usearch.index")
        self.index = module.Index(
            ndim=items.shape[1], metric="ip", dtype="f32", connectivity=DEGREE, expansion_add=BREADTH
        )
        self.index.add(np.arange(len(items)), items, threads=os.cpu_count())

    def search(self, users: Floats, k: int, effort: int) -> Indices:
        self.index.expansion_search = max(effort, k)
        return np.asarray(self.index.search(users, k, threads=1).keys).reshape(len(users), k).astype(np.int64)


RIVALS: tuple[type[Rival], ...] = (Hnswlib, FaissHnsw, FaissLists, Usearch)
PACKAGES = ("numpy", "hnswlib", "faiss-cpu", "usearch")

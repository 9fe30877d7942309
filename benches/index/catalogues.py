"""Catalogues of the index benchmarks, each with users who have no part in building its index."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benches.peers.dots import spread, trained
from benches.peers.engines import Floats
from benches.shapes import SHAPES, Tensors, random_tensors
from benches.training.datasets import DATA
from neuralcf import UserVectors

FRESH = 1000
"""Users who are kept back."""
NOISE = 0.3
"""Of spread and of clustered items, in standard deviations."""


@dataclass(frozen=True)
class Catalogue:
    """A model without its last users, and these users."""

    name: str
    items: int
    tensors: Tensors
    fresh: UserVectors

    @property
    def vectors(self) -> Floats | None:
        """The vectors of the items of a dot product."""
        return None if self.fresh.mlp is not None else self.tensors["gmf.item_embedding.weight"]


def catalogue(name: str, tensors: Tensors) -> Catalogue:
    """Keep back the last users."""
    tables = {table: rows for table, rows in tensors.items() if "user_embedding" in table}
    kept = tensors | {table: rows[:-FRESH] for table, rows in tables.items()}
    fresh = (tables.get(f"{part}.user_embedding.weight") for part in ("gmf", "mlp"))
    users = UserVectors(*(None if rows is None else np.ascontiguousarray(rows[-FRESH:]) for rows in fresh))
    items = next(len(rows) for table, rows in tensors.items() if "item_embedding" in table)
    return Catalogue(name, items, kept, users)


def dots(data: str, factors: int, items: int) -> Tensors:
    """Make a GMF of iALS factors; items beyond those of the data are mixtures of two of them, with noise."""
    users, vectors = trained(data, factors)
    return {
        "gmf.user_embedding.weight": users,
        "gmf.item_embedding.weight": spread(vectors, items) if items > len(vectors) else vectors,
        "output.weight": np.ones((1, factors), np.float32),
        "output.bias": np.zeros(1, np.float32),
    }


def published(items: int) -> Tensors:
    """Take the NeuMF of 8 factors that the paper's authors trained on MovieLens-1M; spread its items."""
    from safetensors.numpy import load_file

    tensors = load_file(DATA / "ncf-weights" / "neumf8_init.safetensors")
    names = [name for name in tensors if "item_embedding" in name]
    widths = np.cumsum([tensors[name].shape[1] for name in names])[:-1]
    joined = np.hstack([tensors[name] for name in names])
    joined = spread(joined, items) if items > len(joined) else joined
    return tensors | dict(zip(names, map(np.ascontiguousarray, np.split(joined, widths, axis=1)), strict=True))


def clustered(shape: str, items: int, clusters: int) -> Tensors:
    """Make a random model whose items lie around the centres of clusters."""
    tensors, rng = random_tensors(SHAPES[shape], 6000, clusters), np.random.default_rng(5)
    cluster = rng.integers(0, clusters, items)
    for name in [name for name in tensors if "item_embedding" in name]:
        centres = tensors[name]
        noise = rng.standard_normal((items, centres.shape[1]), dtype=np.float32)
        tensors[name] = centres[cluster] + np.float32(NOISE * centres.std()) * noise
    return tensors


CATALOGUES: dict[str, Callable[[], Tensors]] = {
    "A, trained, 4k": lambda: published(0),
    "A, trained, 20k": lambda: published(20_000),
    "A, trained, 100k": lambda: published(100_000),
    "A, random, 100k": lambda: random_tensors(SHAPES["A"], 6000, 100_000),
    "A, clustered, 1M": lambda: clustered("A", 1_000_000, 4000),
    "B, clustered, 100k": lambda: clustered("B", 100_000, 1000),
    "GMF 64, ml-1m, 4k": lambda: dots("ml-1m", 64, 0),
    "GMF 64, ml-1m, 1M": lambda: dots("ml-1m", 64, 1_000_000),
    "GMF 64, Gowalla, 41k": lambda: dots("gowalla", 64, 0),
    "GMF 64, Gowalla, 1M": lambda: dots("gowalla", 64, 1_000_000),
    "GMF 192, Gowalla, 1M": lambda: dots("gowalla", 192, 1_000_000),
}

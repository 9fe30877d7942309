"""Random models for the benchmarks of the service: what a score costs does not depend on its value."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import neuralcf

__all__ = ["MODELS", "USERS", "made", "tensors_of"]

USERS = 6040
MODELS = {
    "A, 3.7k items": ("neumf", 3_706),
    "A, 100k items": ("neumf", 100_000),
    "GMF-192, 3.7k items": ("gmf", 3_706),
    "GMF-192, 100k items": ("gmf", 100_000),
}
"""Kind and number of items; A is the NeuMF of 8 factors of the paper, with an MLP of 64, 32, 16 and 8."""


def tensors_of(kind: str, items: int) -> dict[str, np.ndarray]:
    """Return the tensors of a random model."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(0.1)

    width = 192 if kind == "gmf" else 8
    tensors = {
        "gmf.user_embedding.weight": normal(USERS, width),
        "gmf.item_embedding.weight": normal(items, width),
        "output.weight": normal(1, width if kind == "gmf" else 2 * width),
        "output.bias": np.zeros(1, np.float32),
    }
    if kind == "neumf":
        tensors |= {"mlp.user_embedding.weight": normal(USERS, 32), "mlp.item_embedding.weight": normal(items, 32)}
        for layer, (wide, narrow) in enumerate([(64, 32), (32, 16), (16, 8)]):
            tensors |= {f"mlp.layers.{layer}.weight": normal(narrow, wide), f"mlp.layers.{layer}.bias": normal(narrow)}
    return tensors


def made(folder: Path, name: str) -> Path:
    """Save a model, unless it is there."""
    kind, items = MODELS[name]
    path = folder / f"{kind}-{items}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(1)
        items_seen = rng.integers(0, items // 100, (USERS, 100)) + np.arange(100) * (items // 100)  # ascending
        seen = np.arange(USERS + 1) * 100, items_seen.ravel()
        neuralcf.save(tensors_of(kind, items), path, kind=kind, ids=(np.arange(USERS), np.arange(items)), seen=seen)
    return path

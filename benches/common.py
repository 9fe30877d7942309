"""Models for benchmarks: the two shapes that every figure refers to, and torch modules with the same weights."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Shape:
    """The sizes of a NeuMF but for the numbers of users and items."""

    gmf: int
    mlp: int
    layers: tuple[int, ...]


A = Shape(gmf=8, mlp=32, layers=(32, 16, 8))
B = Shape(gmf=64, mlp=128, layers=(128, 64))


def random_tensors(shape: Shape, users: int, items: int, seed: int = 0) -> Tensors:
    """Weights under the names of the model format, scaled so that activations keep their size from layer to layer."""
    rng = np.random.default_rng(seed)

    def normal(*dims: int, scale: float) -> NDArray[np.float32]:
        return (rng.standard_normal(dims, dtype=np.float32) * scale).astype(np.float32)

    tensors = {
        "gmf.user_embedding.weight": normal(users, shape.gmf, scale=0.3),
        "gmf.item_embedding.weight": normal(items, shape.gmf, scale=0.3),
        "mlp.user_embedding.weight": normal(users, shape.mlp, scale=0.3),
        "mlp.item_embedding.weight": normal(items, shape.mlp, scale=0.3),
    }
    inputs = 2 * shape.mlp
    for n, outputs in enumerate(shape.layers):
        tensors[f"mlp.layers.{n}.weight"] = normal(outputs, inputs, scale=(2 / inputs) ** 0.5)
        tensors[f"mlp.layers.{n}.bias"] = normal(outputs, scale=0.03)
        inputs = outputs
    tensors["output.weight"] = normal(1, shape.gmf + inputs, scale=0.3)
    tensors["output.bias"] = normal(1, scale=0.3)
    return tensors


class TorchNeuMF(torch.nn.Module):
    """What a torch user writes: embeddings, linear layers, one row for each pair."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        self.t = {name: torch.from_numpy(values) for name, values in tensors.items()}
        self.layers = sum(name.startswith("mlp.layers.") for name in tensors) // 2

    def forward(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Logits [B] of pairs [B]."""
        t, f = self.t, torch.nn.functional
        gmf = f.embedding(users, t["gmf.user_embedding.weight"]) * f.embedding(items, t["gmf.item_embedding.weight"])
        p, q = f.embedding(users, t["mlp.user_embedding.weight"]), f.embedding(items, t["mlp.item_embedding.weight"])
        x = torch.cat([p, q], dim=1)
        for n in range(self.layers):
            x = torch.relu(f.linear(x, t[f"mlp.layers.{n}.weight"], t[f"mlp.layers.{n}.bias"]))
        return f.linear(torch.cat([gmf, x], dim=1), t["output.weight"], t["output.bias"]).squeeze(1)

    @torch.inference_mode()
    def top_k(self, user: int, items: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The best `k` of the catalogue `items` for one user: ids and probabilities."""
        logits = self(torch.full_like(items, user), items)
        best = torch.topk(logits, k)
        return best.indices, torch.sigmoid(best.values)

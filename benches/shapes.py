"""The two model shapes of all benchmarks, and random weights for them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a NeuMF, except the numbers of users and items."""

    gmf: int
    mlp: int
    layers: tuple[int, ...]


A = ModelShape(gmf=8, mlp=32, layers=(32, 16, 8))
B = ModelShape(gmf=64, mlp=128, layers=(128, 64))
SHAPES = {"A": A, "B": B}


def random_tensors(shape: ModelShape, users: int, items: int, seed: int = 0) -> Tensors:
    """Return weights by their names in the model format, scaled so that activations keep their magnitude."""
    rng = np.random.default_rng(seed)

    def normal(*dims: int, scale: float) -> NDArray[np.float32]:
        values = rng.standard_normal(dims, dtype=np.float32)
        values *= np.float32(scale)
        return values

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

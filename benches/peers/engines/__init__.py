"""Engines that answer the same queries with the same weights, behind one interface.

An engine is a class in one of the modules here; if a module's framework is not installed, its engines are skipped with
the reason. Naive engines are what a framework's users would write. "Split" applies the first layer's algebra of
`rust/kernel/README.md` by hand in that framework: both tables are projected once, the GMF head is folded into users.

Letters: `B` users or pairs, `I` items, `G` GMF width, `M` MLP width, `H0` width of the first hidden layer, `H` of the
last.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from benches.shapes import Tensors

Indices = NDArray[np.int64]
Floats = NDArray[np.float32]

PAIRS_AT_ONCE = 1 << 18
"""Pairs per block of users, about, and at least one user; larger blocks only add memory traffic."""


@dataclass(frozen=True)
class Layer:
    """`x -> weight x + bias`: float32 [out, in] and [out]."""

    weight: Floats
    bias: Floats


class Model:
    """A NeuMF's tensors, and the projected tables of the split engines, each computed once on first use."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self.num_items = int(tensors["gmf.item_embedding.weight"].shape[0])
        self.gmf_width = int(tensors["gmf.item_embedding.weight"].shape[1])
        depth = sum(name.startswith("mlp.layers.") for name in tensors) // 2
        pairs = [(tensors[f"mlp.layers.{n}.weight"], tensors[f"mlp.layers.{n}.bias"]) for n in range(depth)]
        self.layers = [Layer(weight, bias) for weight, bias in pairs]
        self.output = Layer(tensors["output.weight"], tensors["output.bias"])
        self.mlp_width = int(tensors["mlp.user_embedding.weight"].shape[1])

    @property
    def hidden_output(self) -> Layer:
        """The part of the output layer for the last hidden layer: [1, H], [1]."""
        return Layer(np.ascontiguousarray(self.output.weight[:, self.gmf_width :]), self.output.bias)

    @cached_property
    def user_first(self) -> Floats:
        """The user half of the first layer, with its bias: [U, H0]."""
        weight, bias = self.layers[0].weight[:, : self.mlp_width], self.layers[0].bias
        return self.tensors["mlp.user_embedding.weight"] @ weight.T + bias

    @cached_property
    def item_first(self) -> Floats:
        """The item half of the first layer: [I, H0]."""
        return self.tensors["mlp.item_embedding.weight"] @ self.layers[0].weight[:, self.mlp_width :].T

    @cached_property
    def user_gmf(self) -> Floats:
        """The users' GMF embeddings times the output layer's weights: [U, G]."""
        return self.tensors["gmf.user_embedding.weight"] * self.output.weight[:, : self.gmf_width]

    @property
    def item_gmf(self) -> Floats:
        """The items' GMF embeddings: [I, G]."""
        return self.tensors["gmf.item_embedding.weight"]

    @cached_property
    def item_gmf_columns(self) -> Floats:
        """`item_gmf` transposed and contiguous: [G, I]."""
        return np.ascontiguousarray(self.item_gmf.T)

    def activations(self) -> int:
        """Bytes of a pair's activations if none is freed before the last one."""
        hidden = sum(int(layer.bias.size) for layer in self.layers)
        return 4 * (3 * self.gmf_width + 4 * self.mlp_width + 2 * hidden)


class Engine(Protocol):
    """An engine, constructed from a model and a number of threads."""

    name: ClassVar[str]
    naive: ClassVar[bool]

    def __init__(self, model: Model, threads: int) -> None: ...

    def top_k(self, users: Indices, k: int) -> tuple[Indices, Floats]:
        """Find the best `k` items for each of users [B]: ids and probabilities, [B, k]."""
        ...

    def score(self, users: Indices, items: Indices) -> Floats:
        """Score pairs [B]: probabilities [B]."""
        ...


def in_blocks(
    users: Indices, num_items: int, top_k: Callable[[Indices], tuple[Indices, Floats]]
) -> tuple[Indices, Floats]:
    """Run `top_k` on blocks of users whose length is a power of two, and join the results."""
    block = 1 << max(0, (PAIRS_AT_ONCE // num_items).bit_length() - 1)
    found = [top_k(users[start : start + block]) for start in range(0, len(users), block)]
    return np.concatenate([ids for ids, _ in found]), np.concatenate([scores for _, scores in found])


MODULES = {
    "benches.peers.engines.ours": ("NeuralCF",),
    "benches.peers.engines.with_torch": ("TorchEager", "TorchCompiled", "TorchSplit", "TorchSplitCompiled"),
    "benches.peers.engines.with_onnxruntime": ("OnnxNaive", "OnnxSplit"),
    "benches.peers.engines.with_openvino": ("OpenVinoSplit",),
}


def available() -> tuple[list[type[Engine]], dict[str, str]]:
    """Return the engines that can be imported, and the frameworks that cannot, with the reason."""
    engines: list[type[Engine]] = []
    missing: dict[str, str] = {}
    for module, names in MODULES.items():
        try:
            imported = import_module(module)
        except ImportError as error:
            missing[module.removeprefix("benches.peers.engines.with_")] = f"not installed: {error}"
            continue
        engines += [getattr(imported, name) for name in names]
    return engines, missing

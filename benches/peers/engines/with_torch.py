"""torch, eager and compiled, naive and with the first layer split by hand."""

from typing import ClassVar

import torch
from torch.nn.functional import embedding, linear

from . import Floats, Indices, Model, in_blocks


class TorchNeuMF(torch.nn.Module):
    """The naive torch module: embeddings, linear layers, one row per pair."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.t = {name: torch.from_numpy(values) for name, values in model.tensors.items()}
        self.depth = len(model.layers)

    def forward(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Compute logits [B] of pairs [B]."""
        t = self.t
        gmf = embedding(users, t["gmf.user_embedding.weight"]) * embedding(items, t["gmf.item_embedding.weight"])
        x = torch.cat(
            [embedding(users, t["mlp.user_embedding.weight"]), embedding(items, t["mlp.item_embedding.weight"])], dim=1
        )
        for n in range(self.depth):
            x = torch.relu(linear(x, t[f"mlp.layers.{n}.weight"], t[f"mlp.layers.{n}.bias"]))
        logits: torch.Tensor = linear(torch.cat([gmf, x], dim=1), t["output.weight"], t["output.bias"]).squeeze(1)
        return logits

    def catalogue(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Compute logits [B, I] of users [B] for the catalogue's items [I]."""
        pairs: torch.Tensor = self(users.repeat_interleave(len(items)), items.repeat(len(users)))
        return pairs.view(len(users), len(items))


class SplitNeuMF(torch.nn.Module):
    """The split torch module: all that depends on only a user or only an item is precomputed in tables."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.user_first, self.item_first = torch.from_numpy(model.user_first), torch.from_numpy(model.item_first)
        self.user_gmf, self.item_gmf = torch.from_numpy(model.user_gmf), torch.from_numpy(model.item_gmf)
        self.columns = torch.from_numpy(model.item_gmf_columns)
        layers = [*model.layers[1:], model.hidden_output]
        self.layers = [(torch.from_numpy(layer.weight), torch.from_numpy(layer.bias)) for layer in layers]

    def after_first(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the MLP's part of the logits [...] from the first layer's sums [..., H0]."""
        for weight, bias in self.layers:
            x = linear(torch.relu(x), weight, bias)
        return x.squeeze(-1)

    def forward(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Compute logits [B] of pairs [B]."""
        gmf = (self.user_gmf[users] * self.item_gmf[items]).sum(dim=1)
        return self.after_first(self.user_first[users] + self.item_first[items]) + gmf

    def catalogue(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:  # noqa: ARG002, same signature as TorchNeuMF
        """Compute logits [B, I] of users [B] for the catalogue."""
        mlp = self.after_first(self.user_first[users][:, None] + self.item_first)
        logits: torch.Tensor = mlp + self.user_gmf[users] @ self.columns
        return logits


class _Torch:
    """Base of all torch engines; subclasses choose the module, and whether to compile it."""

    name: ClassVar[str]
    naive: ClassVar[bool]
    module: ClassVar[type[TorchNeuMF | SplitNeuMF]]
    compiled: ClassVar[bool]

    def __init__(self, model: Model, threads: int) -> None:
        torch.set_num_threads(threads)
        module = self.module(model)
        self.items = torch.arange(model.num_items)
        self.pairs, self.catalogue = module.forward, module.catalogue
        if self.compiled:
            torch.compiler.reset()  # compile each model separately, as its users would
            self.pairs, self.catalogue = torch.compile(self.pairs, dynamic=True), torch.compile(self.catalogue)

    def top_k(self, users: Indices, k: int) -> tuple[Indices, Floats]:
        return in_blocks(users, len(self.items), lambda block: self._top_k(block, k))

    @torch.inference_mode()
    def _top_k(self, users: Indices, k: int) -> tuple[Indices, Floats]:
        best = torch.topk(self.catalogue(torch.from_numpy(users), self.items), k)
        return best.indices.numpy(), torch.sigmoid(best.values).numpy()

    @torch.inference_mode()
    def score(self, users: Indices, items: Indices) -> Floats:
        scores: Floats = torch.sigmoid(self.pairs(torch.from_numpy(users), torch.from_numpy(items))).numpy()
        return scores


class TorchEager(_Torch):
    name, naive, module, compiled = "torch eager", True, TorchNeuMF, False


class TorchCompiled(_Torch):
    name, naive, module, compiled = "torch.compile", True, TorchNeuMF, True


class TorchSplit(_Torch):
    name, naive, module, compiled = "torch eager, split", False, SplitNeuMF, False


class TorchSplitCompiled(_Torch):
    name, naive, module, compiled = "torch.compile, split", False, SplitNeuMF, True

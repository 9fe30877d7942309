"""Feature embeddings: the embedding of an entity is its own plus those of its attributes, in any of the paper's models.

    e_u = own_u + a_u W,    own [n, d], W [F, d]

with the rows a_u of `neuralcf.data.features`: a sum over columns, and over the values of a multi-valued one.
An entity without interactions in the training set has no own part, which it would only learn as a negative.
This is the linear part of a factorisation machine's sum of embeddings (Rendle, "Factorization machines", ICDM 2010),
as in LightFM (Kula, 2015), ahead of each tower. After training e_u is an ordinary table, so that the exported model is
the one it would be without features; W is what gives an embedding to an entity that has no table row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from neuralcf.attributes import FeatureMap
from neuralcf.data.dataset import Dataset
from neuralcf.data.features import Features
from neuralcf.models import EMBEDDING_STD, Model

__all__ = ["FeatureEmbedding", "add_features", "feature_maps", "fold"]

OWN: Final = "embedding.own"
SHARED: Final = "embedding.features"
WEIGHT: Final = "embedding.weight"


class FeatureEmbedding(nn.Module):
    """An embedding table whose rows are sums; takes the place of an `nn.Embedding`.

    Args:
        own: float32 or float64 [n, d], the entities' own embeddings.
        bags: of the n entities.
    """

    indices: Tensor
    starts: Tensor
    weights: Tensor
    has_own: Tensor

    def __init__(self, own: Tensor, bags: Bags) -> None:
        super().__init__()
        self.own = nn.Parameter(own)
        self.features = nn.Parameter(own.new_empty(bags.width, own.shape[1]).normal_(std=EMBEDDING_STD))
        for name in ("indices", "starts", "weights", "has_own"):
            self.register_buffer(name, getattr(bags, name), persistent=False)

    def forward(self, entities: Tensor) -> Tensor:
        """Look up entities, int64 [B] -> [B, d]."""
        table = summed(self.own, self.features, self.indices, self.starts, self.weights, self.has_own)  # [n, d]
        return functional.embedding(entities, table)


class Bags:
    """The features of one side of a data set as tensors, and which entities have interactions.

    Args:
        features: of n entities.
        entities: int64, the entities of all interactions.
    """

    def __init__(self, features: Features, entities: NDArray[np.int64]) -> None:
        self.width = features.width
        self.indices = torch.from_numpy(features.indices.astype(np.int64))
        self.starts = torch.from_numpy(features.indptr[:-1].copy())
        self.weights = torch.from_numpy(features.weights.copy())
        counts = np.bincount(entities, minlength=len(features))
        self.has_own = torch.from_numpy((counts > 0).astype(np.float32)[:, None])  # [n, 1]


def summed(own: Tensor, shared: Tensor, indices: Tensor, starts: Tensor, weights: Tensor, has_own: Tensor) -> Tensor:
    """Compute has_own * own + A W, where A has CSR rows of `indices` and `weights` from `starts` on."""
    bags = functional.embedding_bag(indices, shared, starts, mode="sum", per_sample_weights=weights.to(shared.dtype))
    return has_own * own + bags


def add_features(model: Model, dataset: Dataset) -> None:
    """Replace the embeddings of the sides that have features, in all towers of a model; the others stay as they are."""
    for side, bags in _sides(dataset).items():
        for tower in (getattr(model, name) for name in ("gmf", "mlp") if hasattr(model, name)):
            own = getattr(tower, f"{side}_embedding").weight.detach()
            setattr(tower, f"{side}_embedding", FeatureEmbedding(own, bags))


def fold(weights: Mapping[str, Tensor], dataset: Dataset) -> dict[str, Tensor]:
    """Fold a `state_dict` with feature embeddings, on the CPU, into that of the plain model."""
    folded = {name: weight for name, weight in weights.items() if not name.endswith((OWN, SHARED))}
    for side, bags in _sides(dataset).items():
        for stem in (f"{tower}.{side}_" for tower in ("gmf", "mlp")):
            if stem + OWN in weights:
                own, shared = weights[stem + OWN], weights[stem + SHARED]
                table = summed(own, shared, bags.indices, bags.starts, bags.weights, bags.has_own)
                folded[stem + WEIGHT] = table
    return folded


def feature_maps(weights: Mapping[str, Tensor], dataset: Dataset) -> dict[str, FeatureMap]:
    """Take the maps W out of a `state_dict` with feature embeddings, by side: of `user`, of `item`, of both or none."""
    maps = {}
    for side, features in (("user", dataset.user_features), ("item", dataset.item_features)):
        if features is not None:
            gmf, mlp = (_array(weights.get(f"{tower}.{side}_{SHARED}")) for tower in ("gmf", "mlp"))
            maps[side] = FeatureMap(features.columns, gmf, mlp)
    return maps


def _sides(dataset: Dataset) -> dict[str, Bags]:
    sides = {"user": (dataset.user_features, dataset.users), "item": (dataset.item_features, dataset.items)}
    return {side: Bags(features, entities) for side, (features, entities) in sides.items() if features is not None}


def _array(weight: Tensor | None) -> NDArray[np.float32] | None:
    return None if weight is None else weight.numpy()

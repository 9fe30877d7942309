"""The three models of Neural Collaborative Filtering, as PyTorch modules.

He et al., "Neural Collaborative Filtering", WWW 2017. With user embeddings p, item embeddings q, and `*` the
element-wise product:

    GMF    logit(u, i) = w . (p_u * q_i) + b                                     (eq. 9)
    MLP    logit(u, i) = w . x_N + b,   x_0 = [p_u ; q_i],  x_n = relu(W_n x_(n-1) + b_n)     (eq. 10)
    NeuMF  logit(u, i) = w . [p_u * q_i ; x_N] + b,  with separate embeddings for both parts     (eq. 12)

The probability of an interaction is sigmoid(logit). The modules return logits, which a numerically stable loss and
ranking need. Their `state_dict` uses the tensor names of the model format, so that exporting renames nothing.

Letters in the shapes: B batch, U users, I items, G width of the GMF embeddings, Mu and Mi widths of the MLP embeddings
of users and items, H width of the last hidden layer.

Initialisation follows the authors' program where it matters: embeddings from N(0, 0.01^2), so that every logit starts
near 0 and the gradient decides the signs; the output layer LeCun uniform; hidden layers He uniform, which preserves the
variance through ReLU; biases 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralcf.errors import ArgumentError

__all__ = ["GMF", "MLP", "Model", "NeuMF", "fuse"]

EMBEDDING_STD: Final = 0.01


class _GMFPart(nn.Module):
    """The element-wise product of a user and an item embedding."""

    def __init__(self, num_users: int, num_items: int, factors: int) -> None:
        super().__init__()
        self.user_embedding = _embedding(num_users, factors)  # [U, G]
        self.item_embedding = _embedding(num_items, factors)  # [I, G]

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        product: Tensor = self.user_embedding(users) * self.item_embedding(items)
        return product  # [B, G]


class _MLPPart(nn.Module):
    """A tower of ReLU layers over the concatenated embeddings."""

    def __init__(
        self, num_users: int, num_items: int, widths: tuple[int, int], hidden: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        user_width, item_width = widths
        self.user_embedding = _embedding(num_users, user_width)  # [U, Mu]
        self.item_embedding = _embedding(num_items, item_width)  # [I, Mi]
        sizes = [user_width + item_width, *hidden]
        self.layers = nn.ModuleList(_hidden(inputs, outputs) for inputs, outputs in zip(sizes, hidden, strict=False))
        self.dropout = dropout

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        x = torch.cat([self.user_embedding(users), self.item_embedding(items)], dim=1)  # [B, Mu + Mi]
        for layer in self.layers:
            if self.training and self.dropout:
                x = functional.dropout(x, self.dropout)
            x = torch.relu(layer(x))  # [B, out]
        return x  # [B, H]


class GMF(nn.Module):
    """Generalised matrix factorisation: a dot product with learned weights.

    Args:
        num_users: number of users, U.
        num_items: number of items, I.
        factors: width of the embeddings, G.

    Raises:
        ArgumentError: a size below 1.
    """

    kind: ClassVar[Literal["gmf", "mlp", "neumf"]] = "gmf"

    def __init__(self, num_users: int, num_items: int, factors: int = 8) -> None:
        super().__init__()
        _at_least_one(num_users=num_users, num_items=num_items, factors=factors)
        self.gmf = _GMFPart(num_users, num_items, factors)
        self.output = _output(factors)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Compute logits, float32 [B], for user and item indices, int64 [B]."""
        logits: Tensor = self.output(self.gmf(users, items))  # [B, 1]
        return logits.squeeze(1)


class MLP(nn.Module):
    """A multi-layer perceptron over the concatenation of a user and an item embedding.

    Args:
        num_users: number of users, U.
        num_items: number of items, I.
        layers: Mu + Mi, then the output width of each hidden layer; at least one hidden layer.
        user_width: Mu; None takes half of `layers[0]`.
        item_width: Mi; None takes the rest of `layers[0]`.
        dropout: share of each hidden layer's inputs to set to zero in training mode; the others are scaled up.

    Raises:
        ArgumentError: a size below 1, widths that do not add up, or a dropout outside [0, 1).
    """

    kind: ClassVar[Literal["gmf", "mlp", "neumf"]] = "mlp"

    def __init__(
        self,
        num_users: int,
        num_items: int,
        layers: Sequence[int] = (64, 32, 16, 8),
        *,
        user_width: int | None = None,
        item_width: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _at_least_one(num_users=num_users, num_items=num_items)
        widths = _widths(layers, user_width, item_width)
        self.mlp = _MLPPart(num_users, num_items, widths, layers[1:], _share(dropout))
        self.output = _output(layers[-1])

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Compute logits, float32 [B], for user and item indices, int64 [B]."""
        logits: Tensor = self.output(self.mlp(users, items))  # [B, 1]
        return logits.squeeze(1)


class NeuMF(nn.Module):
    """GMF and MLP in parallel, each with its own embeddings, joined by the output layer.

    Args:
        num_users: number of users, U.
        num_items: number of items, I.
        factors: width of the GMF embeddings, G.
        layers: as for `MLP`.
        user_width: as for `MLP`.
        item_width: as for `MLP`.
        dropout: as for `MLP`; the GMF part has none.

    Raises:
        ArgumentError: a size below 1, widths that do not add up, or a dropout outside [0, 1).
    """

    kind: ClassVar[Literal["gmf", "mlp", "neumf"]] = "neumf"

    def __init__(
        self,
        num_users: int,
        num_items: int,
        factors: int = 8,
        layers: Sequence[int] = (64, 32, 16, 8),
        *,
        user_width: int | None = None,
        item_width: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _at_least_one(num_users=num_users, num_items=num_items, factors=factors)
        widths = _widths(layers, user_width, item_width)
        self.gmf = _GMFPart(num_users, num_items, factors)
        self.mlp = _MLPPart(num_users, num_items, widths, layers[1:], _share(dropout))
        self.output = _output(factors + layers[-1])

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Compute logits, float32 [B], for user and item indices, int64 [B]."""
        both = torch.cat([self.gmf(users, items), self.mlp(users, items)], dim=1)  # [B, G + H], GMF first
        logits: Tensor = self.output(both)  # [B, 1]
        return logits.squeeze(1)


Model: TypeAlias = GMF | MLP | NeuMF


def fuse(gmf: Mapping[str, Tensor], mlp: Mapping[str, Tensor], alpha: float = 0.5) -> dict[str, Tensor]:
    """Join pre-trained GMF and MLP weights to a NeuMF with logits `alpha * gmf + (1 - alpha) * mlp`.

    He et al., WWW 2017, section 3.4.1, eq. 13: both parts unchanged, with output layer [alpha h_GMF ;
    (1 - alpha) h_MLP]. The bias is weighted in the same way, as in the authors' program.

    Args:
        gmf: a `state_dict` of `GMF`.
        mlp: a `state_dict` of `MLP`.
        alpha: weight of the GMF, from 0 to 1.

    Returns:
        A `state_dict` for `NeuMF`, which shares the tensors of both parts with the arguments.
    """
    parts = {name: weight for name, weight in {**gmf, **mlp}.items() if not name.startswith("output.")}
    weight = torch.cat([alpha * gmf["output.weight"], (1 - alpha) * mlp["output.weight"]], dim=1)  # [1, G + H]
    bias = alpha * gmf["output.bias"] + (1 - alpha) * mlp["output.bias"]
    return {**parts, "output.weight": weight, "output.bias": bias}


def _embedding(rows: int, width: int) -> nn.Embedding:
    embedding = nn.Embedding(rows, width)
    nn.init.normal_(embedding.weight, std=EMBEDDING_STD)
    return embedding


def _hidden(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu")
    nn.init.zeros_(linear.bias)
    return linear


def _output(inputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, 1)
    bound = math.sqrt(3 / inputs)  # LeCun uniform: variance 1 / inputs
    nn.init.uniform_(linear.weight, -bound, bound)
    nn.init.zeros_(linear.bias)
    return linear


def _widths(layers: Sequence[int], user_width: int | None, item_width: int | None) -> tuple[int, int]:
    """Resolve (Mu, Mi) so that they add up to `layers[0]`."""
    if len(layers) < 2 or any(size < 1 for size in layers):
        raise ArgumentError(
            "layers: expected the width of both embeddings and at least one hidden layer, each >= 1, got "
            f"{tuple(layers)}"
        )
    if user_width is None:
        user_width = layers[0] - item_width if item_width is not None else layers[0] // 2
    if item_width is None:
        item_width = layers[0] - user_width
    if user_width < 1 or item_width < 1 or user_width + item_width != layers[0]:
        raise ArgumentError(
            f"user_width, item_width: expected widths >= 1 that add up to layers[0] = {layers[0]}, "
            f"got {user_width} and {item_width}"
        )
    return user_width, item_width


def _share(dropout: float) -> float:
    if not 0 <= dropout < 1:
        raise ArgumentError(f"dropout: expected a number >= 0 and < 1, got {dropout!r}")
    return dropout


def _at_least_one(**sizes: Any) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ArgumentError(f"{name}: expected a size >= 1, got {size!r}")

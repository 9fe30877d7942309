"""The loss of Neural Collaborative Filtering, and its penalty on large weights."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["bce_with_logits", "l2_penalty"]


def bce_with_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean binary cross-entropy of logits, float32 [B], against labels 0 or 1, float32 [B]; a scalar.

        L = -(1 / B) sum y log sigmoid(z) + (1 - y) log(1 - sigmoid(z))

    He et al., WWW 2017, eq. 7, a mean in place of the sum. Computed from the logit as max(z, 0) - z y + log(1 +
    exp(-|z|)), which neither overflows nor loses the small probabilities.
    """
    return functional.binary_cross_entropy_with_logits(logits, labels)


def l2_penalty(model: nn.Module, *, embeddings: float, layers: float) -> Tensor | float:
    """Compute what L2 regularisation adds to the loss of a step; a scalar, 0.0 where both weights are 0.

        R = embeddings * sum of P^2 over all embedding tables + layers * sum of W^2 over the hidden layers

    As in the program of the paper's authors: in the loss (not decoupled from Adam), over whole tables whatever the
    batch holds, of the hidden layers' weights without their biases, and nothing of the output layer.
    """
    penalty: Tensor | float = 0.0
    for name, weight in model.named_parameters():
        if embeddings and name.endswith("embedding.weight"):
            penalty = penalty + embeddings * weight.square().sum()
        elif layers and ".layers." in name and name.endswith(".weight"):
            penalty = penalty + layers * weight.square().sum()
    return penalty

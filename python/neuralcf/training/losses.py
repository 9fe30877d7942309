"""Losses, each with its formula, and L2 regularisation."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["bce_with_logits", "l2_penalty", "softmax_cross_entropy"]


def bce_with_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean binary cross-entropy of logits, float32 [B], against labels 0 or 1, float32 [B]; a scalar.

        L = -(1 / B) sum y log sigmoid(z) + (1 - y) log(1 - sigmoid(z))

    He et al., WWW 2017, eq. 7, with a mean in place of the sum. Computed from the logit as
    max(z, 0) - z y + log(1 + exp(-|z|)), which neither overflows nor loses precision for small probabilities.
    """
    return functional.binary_cross_entropy_with_logits(logits, labels)


def softmax_cross_entropy(logits: Tensor, positives: Tensor) -> Tensor:
    """Compute the cross-entropy of each positive against all items, logits [B, I], positives 0 or 1 [B, I]; a scalar.

        L = - sum over u, positives i of u of log p_ui,   p_ui = exp(s_ui) / sum over all items j of exp(s_uj)

    The multinomial likelihood of a user's items (Liang et al., "Variational autoencoders for collaborative filtering",
    WWW 2018, eq. 2). A sum, not a mean. Its gradient for one positive is p - 1 at the positive and p at the others, and
    so dL / ds_uj = n_u p_uj - positives_uj with n_u positives of user u.
    """
    return (positives.sum(dim=1) * logits.logsumexp(dim=1)).sum() - (positives * logits).sum()


def l2_penalty(model: nn.Module, *, embeddings: float, layers: float) -> Tensor | float:
    """Compute the L2 regularisation term of one step's loss; a scalar, 0.0 if both weights are 0.

        R = embeddings * sum of P^2 over all embedding tables + layers * sum of W^2 over the hidden layers

    As in the program of the paper's authors: part of the loss (not decoupled weight decay), over entire embedding
    tables rather than the rows of the batch (with features, over both parts of each embedding), over the weights of the
    hidden layers without biases, and not over the output layer.
    """
    penalty: Tensor | float = 0.0
    for name, weight in model.named_parameters():
        if embeddings and "_embedding." in name:
            penalty = penalty + embeddings * weight.square().sum()
        elif layers and ".layers." in name and name.endswith(".weight"):
            penalty = penalty + layers * weight.square().sum()
    return penalty

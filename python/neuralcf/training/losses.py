"""Losses, each with its formula, and L2 regularisation."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["bce_with_logits", "bpr", "l2_penalty", "sampled_softmax_cross_entropy", "softmax_cross_entropy"]


def bce_with_logits(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Compute the mean binary cross-entropy of logits, float32 [B], against labels 0 or 1, float32 [B]; a scalar.

        L = -(1 / B) sum y log sigmoid(z) + (1 - y) log(1 - sigmoid(z))

    He et al., WWW 2017, eq. 7, with a mean in place of the sum. Computed from the logit as
    max(z, 0) - z y + log(1 + exp(-|z|)), which neither overflows nor loses precision for small probabilities. With
    weights, float32 [B], each term counts as often as its weight says; the mean is over B all the same.
    """
    return functional.binary_cross_entropy_with_logits(logits, labels, weight=weights)


def bpr(positives: Tensor, negatives: Tensor) -> Tensor:
    """Compute the mean BPR loss of logits of items that users have, [B], and do not have, [n, B]; a scalar.

        L = -(1 / nB) sum log sigmoid(s_ui - s_uj)

    Bayesian personalised ranking: the likelihood that each user prefers i to j (Rendle et al., "BPR: Bayesian
    personalized ranking from implicit feedback", UAI 2009, section 4.1), without its regularisation. Its gradient for
    one pair is -sigmoid(s_uj - s_ui) at the positive and as much the other way at the negative. Computed as
    log(1 + exp(s_uj - s_ui)), which neither overflows nor loses precision.
    """
    return functional.softplus(negatives - positives).mean()


def softmax_cross_entropy(logits: Tensor, positives: Tensor) -> Tensor:
    """Compute the cross-entropy of each positive against all items, logits [B, I], positives 0 or 1 [B, I]; a scalar.

        L = - sum over u, positives i of u of log p_ui,   p_ui = exp(s_ui) / sum over all items j of exp(s_uj)

    The multinomial likelihood of a user's items (Liang et al., "Variational autoencoders for collaborative filtering",
    WWW 2018, eq. 2). A sum, not a mean. Its gradient for one positive is p - 1 at the positive and p at the others, and
    so dL / ds_uj = n_u p_uj - positives_uj with n_u positives of user u.
    """
    return (positives.sum(dim=1) * logits.logsumexp(dim=1)).sum() - (positives * logits).sum()


def sampled_softmax_cross_entropy(
    positives: Tensor, rows: Tensor, sampled: Tensor, correction: Tensor, known: Tensor
) -> Tensor:
    """Estimate `softmax_cross_entropy` of B users from samples of the items; a scalar.

        L = - sum over u, positives i of u of log (exp(s_ui) / Z_u)
        Z_u = sum over positives i of u of exp(s_ui) + sum over samples j that u does not have of exp(s_uj - log c_j)

    with c_j the expected number of times that j is sampled, S q_j for S samples from the proposals q: the logQ
    correction. The positives count in full, the samples stand for all other items, and the mean of Z_u is that of the
    full softmax (Bengio and Senecal, "Adaptive importance sampling to accelerate training of a neural probabilistic
    language model", IEEE Trans. Neural Networks 19, 2008; Yi et al., "Sampling-bias-corrected neural modeling for large
    corpus item recommendations", RecSys 2019, eq. 3). With every item sampled once, it is the full softmax.

    Args:
        positives: [N], logits of the users' items.
        rows: int64 [N], the user of each, from 0 to B - 1; each user has at least one.
        sampled: [B, S], logits of the samples.
        correction: [S], log c_j. For a sample that stands for m equal ones, log(c_j / m).
        known: bool [B, S], whether the user has the sampled item.
    """
    others = (sampled - correction).masked_fill(known, -math.inf)  # [B, S]
    highest = others.detach().amax(dim=1).scatter_reduce(0, rows, positives.detach(), "amax")  # [B], against overflow
    total = (others - highest[:, None]).exp().sum(dim=1)
    total = total.index_add(0, rows, (positives - highest[rows]).exp())  # [B], Z_u / exp(highest)
    return ((highest + total.log())[rows] - positives).sum()


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

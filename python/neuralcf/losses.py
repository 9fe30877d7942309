"""The loss of Neural Collaborative Filtering."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ["bce_with_logits"]


def bce_with_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean binary cross-entropy of logits, float32 [B], against labels 0 or 1, float32 [B]; a scalar.

        L = -(1 / B) sum y log sigmoid(z) + (1 - y) log(1 - sigmoid(z))

    He et al., WWW 2017, eq. 7, a mean in place of the sum. Computed from the logit as max(z, 0) - z y + log(1 +
    exp(-|z|)), which neither overflows nor loses the small probabilities.
    """
    return functional.binary_cross_entropy_with_logits(logits, labels)

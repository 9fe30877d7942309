"""A logistic history encoder with dropout: from one part of a history it predicts the rest.

Letters: B users in a batch, U users, I items, d width, N interactions; x_u [I] the binary history of user u with n_u
items, n_i the users of item i; K, m_u: the items that were kept of a history, and how many were dropped.

Model       h_u = c + |K|^-.5 sum over j in K of y_j,   score(u, i) = h_u . q_i + b_i + b_u
            A linear denoising auto-encoder: Wu et al., "Collaborative denoising auto-encoders", WSDM 2016, without the
            user's own vector and with an identity in place of the activation.
Dropout     Each item of a history is kept with probability 1 - `dropout`, anew in each batch. What was kept predicts
            what was not, so that no item vouches for itself.
Loss        binary cross-entropy over the items that were not kept: with s = score(u, i), a sum over these of

                [u has i] log(1 + e^-s) + (negatives m_u / I) log(1 + e^s)

            as if `negatives` items had been drawn for each dropped one from all items, in expectation. Regularisation
            and steps are those that it shares with the softmax encoder (`neuralcf.training.encoder_descent`).
Weights     of interactions count in m_u too.
Export      h_u of the whole history; b_u, which changes no ranking, is left out. A new user's vector is exact.
Start       b_i = log((n_i + .5) / (negatives N / I)), the log-odds of popularity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from neuralcf.data.dataset import Dataset
from neuralcf.seeds import Stream, derive
from neuralcf.training.distributed import own_seed
from neuralcf.training.encoder_descent import EncoderConfig, EncoderDescent, EncoderWeights, inverse_root_length
from neuralcf.training.fold_in import FoldIn, LinearEncoder
from neuralcf.training.teachers import Factors

__all__ = ["LogisticEncoderConfig", "dropped_loss", "train_logistic_encoder"]


@dataclass(frozen=True, kw_only=True)
class LogisticEncoderConfig(EncoderConfig):
    """Settings of `train_logistic_encoder`; the defaults are those of MovieLens-1M. The users' own weights are b_u."""

    dropout: float = 0.3
    """Share of a history that is dropped, and predicted."""
    negatives: float = 8.0
    """Weight of all items together as negatives, for each dropped item."""
    epochs: int = 70
    l2_users: float = 0.01
    l2_items: float = 0.001


def dropped_loss(scores: Tensor, kept: Tensor, positives: Tensor, negatives: float) -> Tensor:
    """Compute the loss of what was not kept; a scalar, a sum.

    Args:
        scores: [B, I].
        kept: bool [B, I], the part of each history that the scores were computed from.
        positives: [B, I], the weight of each dropped interaction, 0 elsewhere.
        negatives: as in the settings.
    """
    shares = negatives / scores.shape[1] * positives.sum(dim=1, keepdim=True)  # [B, 1]
    counted = torch.where(kept, 0, shares) + positives
    return (counted * functional.softplus(scores)).sum() - (positives * scores).sum()


def train_logistic_encoder(
    train: Dataset,
    config: LogisticEncoderConfig,
    *,
    seed: int = 0,
    device: torch.device | None = None,
    after_epoch: Callable[[int, float], object] | None = None,
) -> Factors:
    """Train an encoder on all interactions; torch's global random state is not touched.

    Args:
        train: at least one interaction.
        config: how.
        seed: decides the first vectors, the order of users, and what is dropped.
        device: where to compute; the CPU when None.
        after_epoch: called with the epoch, from 1, and its mean loss for a dropped interaction.

    Returns:
        h_u of the whole history, q_i and b_i.

    Raises:
        DivergedError: the loss is NaN or infinite.
    """
    descent = EncoderDescent(train, config, seed, device)
    generator = torch.Generator(descent.device).manual_seed(own_seed(derive(seed, Stream.DROPOUT)))

    def loss(weights: EncoderWeights, history: Tensor, interactions: Tensor) -> tuple[Tensor, Tensor]:
        chance = torch.rand(history.shape, generator=generator, device=history.device)
        kept = (history > 0) & (chance >= config.dropout)
        positives = torch.where(kept, 0, interactions)
        scores = _encoded(weights, torch.where(kept, history, 0)) @ weights.q.T + weights.bias + weights.own
        return dropped_loss(scores, kept, positives, config.negatives), positives.sum()

    odds = np.log((descent.popularity + 0.5) / (config.negatives * descent.per_item))
    own = torch.zeros(train.num_users, 1, device=descent.device)  # b_u
    weights = descent.run("logistic history encoder", odds, own, loss, after_epoch)
    encoded = torch.zeros(train.num_users, config.factors)
    for batch in np.array_split(np.arange(train.num_users), max(1, train.num_users // config.batch_users)):
        history = torch.from_numpy(descent.histories.dense(batch)).to(descent.device)
        encoded[torch.from_numpy(batch)] = _encoded(weights, history).cpu()
    q, y, shared, bias, _ = (weight.cpu().numpy() for weight in weights)
    return Factors(encoded.numpy(), q, bias, FoldIn(shared, (LinearEncoder(y, exponent=0.5),)))


def _encoded(weights: EncoderWeights, histories: Tensor) -> Tensor:
    """Compute h_u, [B, d], of histories [B, I]."""
    return weights.shared + histories * inverse_root_length(histories) @ weights.y

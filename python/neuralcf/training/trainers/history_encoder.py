"""A linear history encoder: a user's vector is the sum of vectors of the items they have, and one of their own.

Letters: B users in a batch, U users, I items, d width, N interactions; x_u [I] the binary history of user u with n_u
items, n_i the users of item i.

Model       h_u = p_u + c + n_u^-.5 sum over j in x_u of y_j,   score(u, i) = h_u . q_i + b_i
            FISM and SVD++ without ratings: Kabbur, Ning, Karypis, KDD 2013; Koren, KDD 2008, eq. 15.
Leave out   While training, an item of the history must not vouch for itself: at i in x_u the logit is
            (h_u - n_u^-.5 y_i) . q_i + b_i, exactly as if i were not in the history. As y_i . q_i does not depend on
            the user, this costs one product of a row and a column.
Loss        softmax_cross_entropy over the batch's users and all items (`neuralcf.training.losses`), a sum.
            Regularisation and steps are those that it shares with the logistic encoder
            (`neuralcf.training.encoder_descent`).
New users   have no p_u. It is estimated from the history by a ridge regression over the users, p_u = N s_u + m with
            s_u = n_u^-.5 sum of y_j, so that h = c + m + (I + N) s. On MovieLens-1M, where it explains .38 of the
            variance of p_u, this halves what new users lose.
Start       b_i = log(n_i + 1) without its mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuralcf.baselines.base import Histories
from neuralcf.data.dataset import Dataset
from neuralcf.training.encoder_descent import EncoderConfig, EncoderDescent, EncoderWeights, inverse_root_length
from neuralcf.training.fold_in import FoldIn, LinearEncoder, regress
from neuralcf.training.losses import softmax_cross_entropy
from neuralcf.training.teachers import Factors

__all__ = ["HistoryEncoderConfig", "leave_one_out_logits", "train_history_encoder"]


@dataclass(frozen=True, kw_only=True)
class HistoryEncoderConfig(EncoderConfig):
    """Settings of `train_history_encoder`; the defaults are those of MovieLens-1M. The users' own weights are p_u."""


def leave_one_out_logits(own: Tensor, shared: Tensor, y: Tensor, q: Tensor, bias: Tensor, history: Tensor) -> Tensor:
    """Compute logits in which no item of a history vouches for itself.

    Args:
        own: [B, d], p_u.
        shared: [d], c.
        y: [I, d].
        q: [I, d].
        bias: [I].
        history: [B, I], 0 or 1; with weights rows of `Histories`.

    Returns:
        Logits, [B, I].
    """
    scaled = history * inverse_root_length(history)  # [B, I], n_u^-.5 x_u
    encoded = own + shared + scaled @ y  # [B, d], h_u
    return encoded @ q.T + bias - scaled * (y * q).sum(dim=1)


def train_history_encoder(
    train: Dataset,
    config: HistoryEncoderConfig,
    *,
    seed: int = 0,
    device: torch.device | None = None,
    after_epoch: Callable[[int, float], object] | None = None,
) -> Factors:
    """Train an encoder on all interactions; torch's global random state is not touched.

    Args:
        train: at least one interaction.
        config: how.
        seed: decides the first vectors and the order of users.
        device: where to compute; the CPU when None.
        after_epoch: called with the epoch, from 1, and its mean loss for an interaction.

    Returns:
        h_u of the whole history, q_i and b_i.

    Raises:
        DivergedError: the loss is NaN or infinite.
    """
    descent = EncoderDescent(train, config, seed, device)
    log_counts = np.log1p(descent.popularity).astype(np.float32)
    own = torch.zeros(train.num_users, config.factors, device=descent.device)
    own[descent.users] = descent.drawn(descent.users.size, config.factors)  # others keep the average user's vector, c

    def loss(weights: EncoderWeights, history: Tensor, interactions: Tensor) -> tuple[Tensor, Tensor]:
        q, y, shared, bias, mine = weights
        logits = leave_one_out_logits(mine, shared, y, q, bias, history)
        return softmax_cross_entropy(logits, interactions), interactions.sum()

    weights = descent.run("history encoder", log_counts - log_counts.mean(), own, loss, after_epoch)
    return _export(weights, descent.histories)


def _export(weights: EncoderWeights, histories: Histories) -> Factors:
    """Compute each user's vector from the whole history, and tell how a new user's follows from theirs."""
    q, y, shared, bias, own = (weight.cpu().numpy() for weight in weights)
    sums = np.zeros_like(own)
    indptr, indices = histories.rows
    for user in np.flatnonzero(histories.sums):
        own_part = slice(indptr[user], indptr[user + 1])
        encoded = y[indices[own_part]]
        if histories.values is not None:
            encoded = encoded * histories.values[own_part, None]
        sums[user] = encoded.sum(axis=0) / np.float32(math.sqrt(len(encoded)))
    known = np.diff(indptr) > 0
    linear, constant = regress(own[known], sums[known])
    fold_in = FoldIn(shared + constant, (LinearEncoder(y + y @ linear, exponent=0.5),))
    return Factors(own + shared + sums, q, bias, fold_in)

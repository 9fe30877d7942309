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

            as if `negatives` items had been drawn for each dropped one from all items, in expectation. Plus
            1/2 l2_items sum over i of (n_i + N / I) (|y_i|^2 + |q_i|^2), in equal shares over the batches of an epoch,
            and 1/2 l2_biases sum over u of n_u b_u^2.
Weights     of interactions: x_u has sqrt(w_ui / w_u) in place of 1, w_u the mean weight of u, and in the loss, m_u,
            n_u, n_i and N each interaction counts as often as its weight says.
Optimiser   Adam with beta_2 = .99, and for b_u, which is stepped once an epoch, Adam of its rows alone with
            beta_2 = .95. The learning rate falls linearly to 0.
Averaging   What is kept is the moving average of the weights after each epoch, m = min(.9, 1 - 1 / epoch) old.
Export      h_u of the whole history; b_u, which changes no ranking, is left out. A new user's vector is exact.
Start       Vectors from N(0, .05^2), b_i = log((n_i + .5) / (negatives N / I)), the log-odds of popularity.

Histories are dense rows [B, I], and so are scores: for catalogues of some ten thousand items at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from neuralcf.baselines.base import Histories
from neuralcf.data.dataset import Dataset
from neuralcf.errors import DivergedError
from neuralcf.seeds import Stream, derive
from neuralcf.training.fold_in import FoldIn, LinearEncoder
from neuralcf.training.rows_adam import RowsAdam
from neuralcf.training.teachers import Factors

__all__ = ["LogisticEncoderConfig", "dropped_loss", "train_logistic_encoder"]

_INITIAL_STD = 0.05
_BETAS, _USER_BETAS = (0.9, 0.99), (0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class LogisticEncoderConfig:
    """Settings of `train_logistic_encoder`; the defaults are those of MovieLens-1M."""

    factors: int = 192
    """d, the width of the vectors."""
    dropout: float = 0.3
    """Share of a history that is dropped, and predicted."""
    epochs: int = 70
    """Passes over all users."""
    steps: int = 12
    """Batches in an epoch, at least; larger data have more, as a batch holds at most `batch_users`."""
    batch_users: int = 256
    """B, at most."""
    negatives: float = 8.0
    """Weight of all items together as negatives, for each dropped item."""
    learning_rate: float = 0.003
    """Of what users share."""
    user_learning_rate: float = 0.01
    """Of the users' biases b_u."""
    l2_items: float = 0.001
    """Regularisation of y_i and q_i, for each user of the item."""
    l2_biases: float = 0.01
    """Regularisation of b_u, for each item of the history."""


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
    device = device or torch.device("cpu")
    rows, pair_weights = train.user_items(), train.pair_weights()
    histories = Histories(rows, train.num_items, pair_weights)
    popularity = np.bincount(rows[1], pair_weights, minlength=train.num_items)
    users = np.flatnonzero(histories.sums)
    per_item = float(histories.sums.sum()) / train.num_items  # N / I
    rng = np.random.default_rng(derive(seed, Stream.INITIALISATION))

    def drawn(*shape: int) -> Tensor:
        values = rng.standard_normal(shape, dtype=np.float32)
        return torch.from_numpy(values * np.float32(_INITIAL_STD)).to(device)

    odds = np.log((popularity + 0.5) / (config.negatives * per_item))
    q, y = drawn(train.num_items, config.factors), drawn(train.num_items, config.factors)
    bias = torch.from_numpy(odds.astype(np.float32)).to(device)
    weights = [q, y, torch.zeros(config.factors, device=device), bias]
    own = torch.zeros(train.num_users, 1, device=device)  # b_u
    optimiser = torch.optim.Adam([w.requires_grad_() for w in weights], lr=1.0, betas=_BETAS, fused=True)
    rows_adam = RowsAdam(own, _USER_BETAS)
    averages = [w.detach().clone() for w in weights]

    means = _column(histories.sums / np.maximum(np.diff(rows[0]), 1)).to(device)
    batches = max(math.ceil(users.size / config.batch_users), min(config.steps, users.size))
    steps, step = config.epochs * batches, 0
    item_l2 = _column(config.l2_items * (popularity + per_item) / batches).to(device)
    user_l2 = _column(config.l2_biases * histories.sums).to(device)
    generator = torch.Generator(device).manual_seed(derive(seed, Stream.DROPOUT))
    for epoch in range(1, config.epochs + 1):
        summed, dropped = 0.0, 0.0
        for batch in np.array_split(rng.permutation(users), batches):
            remaining, step = 1 - step / steps, step + 1
            which = torch.from_numpy(batch).to(device)
            mine = own[which].requires_grad_()
            q, y, shared, bias = weights
            history = torch.from_numpy(histories.dense(batch)).to(device)
            chance = torch.rand(history.shape, generator=generator, device=device)
            kept = (history > 0) & (chance >= config.dropout)
            inputs = torch.where(kept, history, 0)
            positives = torch.where(kept, 0, history.square() * means[which])
            encoded = shared + inputs * _inverse_root_length(inputs) @ y  # [B, d], h_u
            loss = dropped_loss(encoded @ q.T + bias + mine, kept, positives, config.negatives)
            summed, dropped = summed + loss.item(), dropped + positives.sum().item()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for vectors in (y, q):  # the regularisation's gradient
                assert vectors.grad is not None
                vectors.grad.addcmul_(vectors.detach(), item_l2)
            assert mine.grad is not None
            mine.grad.addcmul_(mine.detach(), user_l2[which])
            optimiser.param_groups[0]["lr"] = config.learning_rate * remaining
            optimiser.step()
            rows_adam.step(which, mine.grad, config.user_learning_rate * remaining, epoch)
        if not math.isfinite(summed):
            raise DivergedError(f"logistic history encoder, epoch {epoch}: expected a finite loss, got {summed}")
        for average, weight in zip(averages, weights, strict=True):
            average.lerp_(weight.detach(), max(0.1, 1 / epoch))
        if after_epoch is not None:
            after_epoch(epoch, summed / max(dropped, 1e-9))
    q, y, shared, bias = averages
    encoded = torch.zeros(train.num_users, config.factors)
    for batch in np.array_split(np.arange(train.num_users), max(1, train.num_users // config.batch_users)):
        history = torch.from_numpy(histories.dense(batch)).to(device)
        encoded[torch.from_numpy(batch)] = (shared + history * _inverse_root_length(history) @ y).cpu()
    items, biases, constant, table = (each.cpu().numpy() for each in (q, bias, shared, y))
    return Factors(encoded.numpy(), items, biases, FoldIn(constant, (LinearEncoder(table, exponent=0.5),)))


def _inverse_root_length(histories: Tensor) -> Tensor:
    """Compute n_u^-.5, [B, 1]."""
    return histories.square().sum(dim=1, keepdim=True).clamp(min=1).rsqrt()


def _column(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)[:, None])

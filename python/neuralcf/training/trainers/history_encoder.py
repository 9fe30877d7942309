"""A linear history encoder: a user's vector is the sum of vectors of the items they have, and one of their own.

Letters: B users in a batch, U users, I items, d width, N interactions; x_u [I] the binary history of user u with n_u
items, n_i the users of item i.

Model       h_u = p_u + c + n_u^-.5 sum over j in x_u of y_j,   score(u, i) = h_u . q_i + b_i
            FISM and SVD++ without ratings: Kabbur, Ning, Karypis, KDD 2013; Koren, KDD 2008, eq. 15.
Leave out   While training, an item of the history must not vouch for itself: at i in x_u the logit is
            (h_u - n_u^-.5 y_i) . q_i + b_i, exactly as if i were not in the history. As y_i . q_i does not depend on
            the user, this costs one product of a row and a column.
Weights     of interactions: x_u has sqrt(w_ui / w_u) in place of 1, w_u the mean weight of u, and in the loss, n_u, n_i
            and N each interaction counts as often as its weight says.
Loss        softmax_cross_entropy over the batch's users and all items (`neuralcf.training.losses`), a sum, plus
            1/2 [l2_users sum over u of n_u |p_u|^2 + l2_items sum over i of (n_i + N / I) (|y_i|^2 + |q_i|^2)], the
            items' part in equal shares over the batches of an epoch.
Optimiser   Adam with beta_2 = .99, and for p_u, which is stepped once an epoch, Adam of its rows alone with
            beta_2 = .95. The learning rate falls linearly to 0.
Averaging   What is kept is the moving average of the weights after each epoch, m = min(.9, 1 - 1 / epoch) old.
New users   have no p_u. It is estimated from the history by a ridge regression over the users, p_u = N s_u + m with
            s_u = n_u^-.5 sum of y_j, so that h = c + m + (I + N) s. On MovieLens-1M, where it explains .38 of the
            variance of p_u, this halves what new users lose.
Start       Vectors from N(0, .05^2), b_i = log(n_i + 1) without its mean.

Histories are dense rows [B, I], and so are logits: for catalogues of some ten thousand items at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuralcf.baselines.base import Histories
from neuralcf.data.dataset import Dataset
from neuralcf.errors import DivergedError
from neuralcf.seeds import Stream, derive
from neuralcf.training.fold_in import FoldIn, LinearEncoder, regress
from neuralcf.training.losses import softmax_cross_entropy
from neuralcf.training.rows_adam import RowsAdam
from neuralcf.training.teachers import Factors

__all__ = ["HistoryEncoderConfig", "leave_one_out_logits", "train_history_encoder"]

_INITIAL_STD = 0.05
_BETAS, _USER_BETAS = (0.9, 0.99), (0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class HistoryEncoderConfig:
    """Settings of `train_history_encoder`; the defaults are those of MovieLens-1M."""

    factors: int = 192
    """d, the width of the vectors."""
    epochs: int = 32
    """Passes over all users."""
    steps: int = 12
    """Batches in an epoch, at least; larger data have more, as a batch holds at most `batch_users`."""
    batch_users: int = 256
    """B, at most."""
    learning_rate: float = 0.003
    """Of what users share."""
    user_learning_rate: float = 0.01
    """Of the users' own vectors p_u."""
    l2_users: float = 0.02
    """Regularisation of p_u, for each item of the history."""
    l2_items: float = 0.015
    """Regularisation of y_i and q_i, for each user of the item."""


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
    scaled = history * history.square().sum(dim=1, keepdim=True).clamp(min=1).rsqrt()  # [B, I], n_u^-.5 x_u
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
    device = device or torch.device("cpu")
    rows, pair_weights = train.user_items(), train.pair_weights()
    histories = Histories(rows, train.num_items, pair_weights)
    popularity = np.bincount(rows[1], pair_weights, minlength=train.num_items)
    users = np.flatnonzero(histories.sums)  # one without a history keeps the average user's vector, c
    total, rng = float(histories.sums.sum()), np.random.default_rng(derive(seed, Stream.INITIALISATION))

    def drawn(*shape: int) -> Tensor:
        values = rng.standard_normal(shape, dtype=np.float32)
        return torch.from_numpy(values * np.float32(_INITIAL_STD)).to(device)

    log_counts = np.log1p(popularity).astype(np.float32)
    q, y = drawn(train.num_items, config.factors), drawn(train.num_items, config.factors)
    bias = torch.from_numpy(log_counts - log_counts.mean()).to(device)
    weights = [q, y, torch.zeros(config.factors, device=device), bias]
    own = torch.zeros(train.num_users, config.factors, device=device)
    own[users] = drawn(users.size, config.factors)
    optimiser = torch.optim.Adam([w.requires_grad_() for w in weights], lr=1.0, betas=_BETAS, fused=True)
    rows_adam = RowsAdam(own, _USER_BETAS)
    averages = [w.detach().clone() for w in (*weights, own)]

    mean_weights = None
    if pair_weights is not None:
        means = histories.sums / np.maximum(np.diff(rows[0]), 1)
        mean_weights = _column(means).to(device)
    batches = max(math.ceil(users.size / config.batch_users), min(config.steps, users.size))
    steps, step = config.epochs * batches, 0
    item_l2 = _column(config.l2_items * (popularity + total / train.num_items) / batches).to(device)
    user_l2 = _column(config.l2_users * histories.sums).to(device)
    for epoch in range(1, config.epochs + 1):
        summed = 0.0
        for batch in np.array_split(rng.permutation(users), batches):
            remaining, step = 1 - step / steps, step + 1
            which = torch.from_numpy(batch).to(device)
            mine = own[which].requires_grad_()
            q, y, shared, bias = weights
            history = torch.from_numpy(histories.dense(batch)).to(device)
            positives = history if mean_weights is None else history.square() * mean_weights[which]
            loss = softmax_cross_entropy(leave_one_out_logits(mine, shared, y, q, bias, history), positives)
            summed += loss.item()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for vectors in (y, q):  # the regularisation's gradient; through autograd it takes three times as long
                assert vectors.grad is not None
                vectors.grad.addcmul_(vectors.detach(), item_l2)
            assert mine.grad is not None
            mine.grad.addcmul_(mine.detach(), user_l2[which])
            optimiser.param_groups[0]["lr"] = config.learning_rate * remaining
            optimiser.step()
            rows_adam.step(which, mine.grad, config.user_learning_rate * remaining, epoch)
        if not math.isfinite(summed):
            raise DivergedError(f"history encoder, epoch {epoch}: expected a finite loss, got {summed}")
        for average, weight in zip(averages, (*weights, own), strict=True):
            average.lerp_(weight.detach(), max(0.1, 1 / epoch))
        if after_epoch is not None:
            after_epoch(epoch, summed / total)
    return _export(averages, histories)


def _column(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)[:, None])


def _export(averages: list[Tensor], histories: Histories) -> Factors:
    """Compute each user's vector from the whole history, and tell how a new user's follows from theirs."""
    q, y, shared, bias, own = (average.cpu().numpy() for average in averages)
    sums = np.zeros_like(own)
    indptr, indices = histories.rows
    for user in np.flatnonzero(histories.sums):
        own_part = slice(indptr[user], indptr[user + 1])
        encoded = y[indices[own_part]]
        if histories.values is not None:
            encoded = encoded * histories.values[own_part, None]
        sums[user] = encoded.sum(axis=0) / np.float32(math.sqrt(len(encoded)))
    known = np.diff(indptr) > 0
    weights, constant = regress(own[known], sums[known])
    fold_in = FoldIn(shared + constant, (LinearEncoder(y + y @ weights, exponent=0.5),))
    return Factors(own + shared + sums, q, bias, fold_in)

"""What the history encoders share: weights, steps, regularisation and averages.

Letters: B users in a batch, U users, I items, d width, N interactions; n_u items of user u, n_i users of item i.

Parameters  q_i and y_i [I, d] from N(0, .05^2), c [d], biases b_i [I] and the users' own weights [U, any].
Weights     of interactions: x_u has sqrt(w_ui / w_u) in place of 1, w_u the mean weight of u, and in the loss, n_u, n_i
            and N each interaction counts as often as its weight says.
Loss        a sum over the batch that the encoder gives, plus 1/2 l2_users sum over u of n_u |own_u|^2, and
            1/2 l2_items sum over i of (n_i + N / I) (|y_i|^2 + |q_i|^2) in equal shares over the batches of an epoch.
Optimiser   Adam with beta_2 = .99, and for the users' own weights, which are stepped once an epoch, Adam of their rows
            alone with beta_2 = .95. The learning rate falls linearly to 0.
Averaging   What is kept is the moving average of the weights after each epoch, m = min(.9, 1 - 1 / epoch) old.

Histories are dense rows [B, I]: for catalogues of some ten thousand items at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuralcf.baselines.base import Histories
from neuralcf.data.dataset import Dataset
from neuralcf.errors import DivergedError
from neuralcf.seeds import Stream, derive
from neuralcf.training.distributed import add, part_of
from neuralcf.training.rows_adam import RowsAdam

__all__ = ["EncoderConfig", "EncoderDescent", "EncoderWeights", "inverse_root_length"]

_INITIAL_STD = 0.05
_BETAS, _USER_BETAS = (0.9, 0.99), (0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Settings that all history encoders have."""

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
    """Of the users' own weights."""
    l2_users: float = 0.02
    """Regularisation of the users' own weights, for each item of the history."""
    l2_items: float = 0.015
    """Regularisation of y_i and q_i, for each user of the item."""


class EncoderWeights(NamedTuple):
    """The weights of an encoder; in a batch, `own` has its users' rows alone."""

    q: Tensor
    y: Tensor
    shared: Tensor
    bias: Tensor
    own: Tensor


Loss: TypeAlias = Callable[[EncoderWeights, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Gives a batch's loss, a sum, and the weight of the interactions in it, of weights, histories and their weights."""


class EncoderDescent:
    """The data of a training and the vectors to start from; chance is a function of the seed."""

    def __init__(self, train: Dataset, config: EncoderConfig, seed: int, device: torch.device | None) -> None:
        rows, pair_weights = train.user_items(), train.pair_weights()
        self.config, self.device = config, device or torch.device("cpu")
        self.histories = Histories(rows, train.num_items, pair_weights)
        self.popularity = np.bincount(rows[1], pair_weights, minlength=train.num_items)
        """[I], n_i."""
        self.users = np.flatnonzero(self.histories.sums)
        """Those with a history."""
        self.per_item = float(self.histories.sums.sum()) / train.num_items
        """N / I."""
        self._rng = np.random.default_rng(derive(seed, Stream.INITIALISATION))
        self._items = self.drawn(train.num_items, config.factors), self.drawn(train.num_items, config.factors)

    def drawn(self, *shape: int) -> Tensor:
        """Draw vectors to start from."""
        values = self._rng.standard_normal(shape, dtype=np.float32)
        return torch.from_numpy(values * np.float32(_INITIAL_STD)).to(self.device)

    def run(
        self,
        name: str,
        bias: NDArray[np.floating],
        own: Tensor,
        loss: Loss,
        after_epoch: Callable[[int, float], object] | None,
    ) -> EncoderWeights:
        """Train.

        Args:
            name: of the encoder, for messages.
            bias: [I], b_i to start from.
            own: the users' own weights to start from, one row each; trained in place.
            loss: of a batch.
            after_epoch: called with the epoch, from 1, and its mean loss for an interaction.

        Returns:
            The averages.

        Raises:
            DivergedError: the loss is NaN or infinite.
        """
        config, histories, users, device = self.config, self.histories, self.users, self.device
        shared = torch.zeros(config.factors, device=device)
        weights = (*self._items, shared, torch.from_numpy(bias.astype(np.float32)).to(device))
        optimiser = torch.optim.Adam([w.requires_grad_() for w in weights], lr=1.0, betas=_BETAS, fused=True)
        rows_adam = RowsAdam(own, _USER_BETAS)
        averages = [w.detach().clone() for w in (*weights, own)]
        mean_weights = self._column(histories.sums / np.maximum(np.diff(histories.rows[0]), 1))
        batches = max(math.ceil(users.size / config.batch_users), min(config.steps, users.size))
        steps, step = config.epochs * batches, 0
        item_l2 = self._column(config.l2_items * (self.popularity + self.per_item) / batches)
        user_l2 = self._column(config.l2_users * histories.sums)
        for epoch in range(1, config.epochs + 1):
            summed, counted = 0.0, 0.0
            for batch in np.array_split(self._rng.permutation(users), batches):
                remaining, step = 1 - step / steps, step + 1
                which, part = torch.from_numpy(batch).to(device), part_of(batch.size)
                mine = own[which].requires_grad_()
                history = torch.from_numpy(histories.dense(batch[part.rows])).to(device)
                interactions = history.square() * mean_weights[which][part.rows]
                of_part, of_part_count = loss(EncoderWeights(*weights, mine[part.rows]), history, interactions)
                optimiser.zero_grad()
                of_part.backward()  # type: ignore[no-untyped-call]
                of_batch, count = add([*weights, mine], of_part.item(), of_part_count.item())
                summed, counted = summed + of_batch, counted + count
                for vectors in weights[
                    :2
                ]:  # the regularisation's gradient; through autograd it takes three times as long
                    assert vectors.grad is not None
                    vectors.grad.addcmul_(vectors.detach(), item_l2)
                assert mine.grad is not None
                mine.grad.addcmul_(mine.detach(), user_l2[which])
                optimiser.param_groups[0]["lr"] = config.learning_rate * remaining
                optimiser.step()
                rows_adam.step(which, mine.grad, config.user_learning_rate * remaining, epoch)
            if not math.isfinite(summed):
                raise DivergedError(f"{name}, epoch {epoch}: expected a finite loss, got {summed}")
            for average, weight in zip(averages, (*weights, own), strict=True):
                average.lerp_(weight.detach(), max(0.1, 1 / epoch))
            if after_epoch is not None:
                after_epoch(epoch, summed / max(counted, 1e-9))
        return EncoderWeights(*averages)

    def _column(self, values: NDArray[np.floating]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)[:, None]).to(self.device)


def inverse_root_length(histories: Tensor) -> Tensor:
    """Compute n_u^-.5 of histories [B, I], [B, 1]; 1 for an empty one."""
    return histories.square().sum(dim=1, keepdim=True).clamp(min=1).rsqrt()

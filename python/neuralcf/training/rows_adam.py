"""Adam of the rows of a table, each of which is stepped once an epoch.

Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, with the epoch as the step of each row: a step
costs the rows of a batch, not the table, and no moment decays while other rows are stepped.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["RowsAdam"]

_EPSILON = 1e-8


class RowsAdam:
    """The optimiser of a table, [R, d], which it updates in place.

    Args:
        table: float32 [R, d].
        betas: beta_1 and beta_2, the decay of both moments.
    """

    def __init__(self, table: Tensor, betas: tuple[float, float]) -> None:
        self._table, self._betas = table, betas
        self.moments = torch.zeros_like(table), torch.zeros_like(table)
        """The means of gradients and of their squares, [R, d] each."""

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, learning_rate: float, epoch: int) -> None:
        """Step `rows`, int64 [B], all different, by their gradient, [B, d]; `epoch` from 1."""
        first, second = self._betas
        mean = torch.lerp(self.moments[0][rows], gradient, 1 - first)
        square = torch.lerp(self.moments[1][rows], gradient.square(), 1 - second)
        self.moments[0][rows], self.moments[1][rows] = mean, square
        scale = (square / (1 - second**epoch)).sqrt() + _EPSILON
        self._table[rows] -= learning_rate * mean / (1 - first**epoch) / scale

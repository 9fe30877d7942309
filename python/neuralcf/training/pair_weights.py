"""The weights of interactions by user and item, for losses over batches of positives and negatives."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from neuralcf.data.dataset import Dataset

__all__ = ["PairWeights"]


class PairWeights:
    """The weights of a data set that has any.

    Args:
        dataset: the training set.
    """

    def __init__(self, dataset: Dataset) -> None:
        weights = dataset.pair_weights()
        assert weights is not None
        indptr, items = dataset.user_items()
        users = np.repeat(np.arange(dataset.num_users), np.diff(indptr))
        self._num_items = dataset.num_items
        self._keys = torch.from_numpy(users * dataset.num_items + items)  # ascending
        self._weights = torch.from_numpy(weights)

    @classmethod
    def of(cls, dataset: Dataset) -> PairWeights | None:
        """Return the weights, or None if all interactions count alike."""
        return None if dataset.weights is None else cls(dataset)

    def find(self, users: Tensor, items: Tensor, labels: Tensor) -> Tensor:
        """Find the weight of each sample on the CPU, all [B] -> float32 [B]: 1 where the label is 0."""
        weights = torch.ones(len(labels))
        positive = labels > 0
        keys = users[positive].long() * self._num_items + items[positive].long()
        weights[positive] = self._weights[torch.searchsorted(self._keys, keys)]
        return weights

"""Negative sampling: the shuffled pairs of an epoch, every interaction once with its sampled negatives."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from neuralcf.data.dataset import Dataset
from neuralcf.data.negatives import NegativeSampler
from neuralcf.seeds import Stream, derive

__all__ = ["Batch", "EpochSampler"]

Batch: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""`(users int64 [B], items int64 [B], labels float32 [B])`."""


class EpochSampler:
    """Samples the pairs of an epoch; equal seed, stage and epoch give equal pairs.

    Args:
        dataset: the interactions to train on.
        negatives: how many negatives to sample for each interaction.
        seed: random seed of the run.
    """

    def __init__(self, dataset: Dataset, negatives: int, seed: int) -> None:
        user_items = dataset.user_items()
        self.pairs = user_items[1].size * (1 + negatives)
        """Number of pairs in an epoch."""
        self._sampler = NegativeSampler(user_items, dataset.num_items)
        self._users = np.repeat(np.arange(dataset.num_users), np.diff(user_items[0]))  # [n], ascending
        self._items = user_items[1].astype(np.int64)  # [n]
        self._negatives = negatives
        self._seed = seed

    def draw(self, stage: int, epoch: int) -> Batch:
        """Return all pairs of an epoch, shuffled: `stage` from 0, `epoch` from 1.

        Raises:
            ArgumentError: a user has every item, so that no negative can be sampled.
        """
        rng = np.random.default_rng(derive(self._seed, Stream.NEGATIVES, stage, epoch))
        negative_users = np.repeat(self._users, self._negatives)  # ascending: fast to sample for
        users = np.concatenate([self._users, negative_users])
        items = np.concatenate([self._items, self._sampler.draw(rng, negative_users)])
        order = rng.permutation(self.pairs)
        labels = (order < self._users.size).astype(np.float32)
        return torch.from_numpy(users[order]), torch.from_numpy(items[order]), torch.from_numpy(labels)

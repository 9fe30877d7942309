"""Negative sampling: the shuffled batches of an epoch, every interaction once with its sampled negatives.

Negatives are sampled uniformly and independently from the items that the user does not have, by the Rust core
(`rust/sampler.rs`). Of users with dislikes (`Dataset.dislikes`), a share is sampled from these. A user who has every
item has no negatives, and nothing to be ranked: their interactions are left out. Batches are made some hundred thousand
samples at a time, in memory that torch takes without a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import torch
from torch import Tensor

from neuralcf._core import Sampler
from neuralcf.data.dataset import Dataset
from neuralcf.seeds import Stream, derive

__all__ = ["Batch", "EpochSampler"]

Batch: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""`(users int32 [B], items int32 [B], labels float32 [B])`: label 1 for an interaction, 0 for a negative; or `(users
int32 [B], items int32 [B], negatives int32 [n, B])`, n for each interaction."""

_BLOCK = 1 << 18


class EpochSampler:
    """Samples the batches of an epoch; equal seed, stage and epoch give equal batches.

    Args:
        dataset: the interactions to train on.
        negatives: how many negatives to sample for each interaction, n.
        seed: random seed of the run.
        batch_size: samples in a batch, B; the last batch may have fewer.
        labels: whether negatives are samples of their own, with labels, or beside their interaction.
        dislike_share: of the negatives of a user with dislikes, the share that is sampled from them, 0 to 1.
        threads: the maximum number of threads that sample; it changes no batch.

    Raises:
        ArgumentError: no user lacks an item, so that no negative can be sampled.
    """

    def __init__(
        self,
        dataset: Dataset,
        negatives: int,
        seed: int,
        *,
        batch_size: int,
        labels: bool = True,
        dislike_share: float = 0.0,
        threads: int = 1,
    ) -> None:
        dislikes = None if dataset.dislikes is None else dataset.dislikes.user_items()
        self._sampler = Sampler(
            dataset.user_items(),
            dataset.num_items,
            negatives=negatives,
            labels=labels,
            dislikes=dislikes,
            dislike_share=dislike_share,
        )
        self._rows = 3 if labels else 2 + negatives
        self._labels, self._seed, self._batch_size, self._threads = labels, seed, batch_size, threads

    @property
    def samples(self) -> int:
        """Number of samples in an epoch."""
        return len(self._sampler)

    @property
    def steps(self) -> int:
        """Number of batches in an epoch."""
        return -(-self.samples // self._batch_size)

    def batches(self, stage: int, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch: `stage` from 0, `epoch` from 1."""
        seed = derive(self._seed, Stream.NEGATIVES, stage, epoch)
        size = self._batch_size
        block = size * max(1, _BLOCK // size)
        for start in range(0, self.samples, block):
            stop = min(start + block, self.samples)
            values = self._sampler.draw(seed, start, stop, batch_size=size, threads=self._threads)
            for batch in torch.split(torch.from_numpy(values), size * self._rows):
                users, items, *others = batch.view(self._rows, -1)
                yield users, items, others[0].view(torch.float32) if self._labels else batch.view(self._rows, -1)[2:]

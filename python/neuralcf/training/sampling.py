"""Negative sampling: the shuffled batches of an epoch, every interaction once with its sampled negatives.

Negatives are sampled uniformly and independently from the items that the user does not have, by the Rust core
(`rust/sampler.rs`). Of users with dislikes (`Dataset.dislikes`), a share is sampled from these. A user who has every
item has no negatives, and nothing to be ranked: their interactions are left out. Batches are made some hundred thousand
samples at a time, in memory that torch takes without a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from neuralcf._core import Sampler
from neuralcf.data.dataset import Dataset
from neuralcf.data.shards import Shards
from neuralcf.errors import ArgumentError
from neuralcf.seeds import Stream, derive

__all__ = ["Batch", "EpochSampler", "ShardSampler"]

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
        for batch in _drawn(self._sampler, seed, self._batch_size, self._rows, self._threads):
            users, items, *others = batch
            yield users, items, others[0].view(torch.float32) if self._labels else batch[2:]


class ShardSampler:
    """Samples the batches of an epoch from shards on disk, in random order, one in memory at a time.

    Within a shard samples are shuffled as those of `EpochSampler`, and negatives are as exact, because a shard has all
    items of its users. Equal seed, stage and epoch give equal batches.

    Args:
        shards: the interactions to train on.
        negatives: how many negatives to sample for each interaction.
        seed: random seed of the run.
        batch_size: samples in a batch, B; the last batch of each shard may have fewer.
        threads: the maximum number of threads that sample; it changes no batch.

    Raises:
        ArgumentError: no user lacks an item, so that no negative can be sampled.
    """

    def __init__(self, shards: Shards, negatives: int, seed: int, *, batch_size: int, threads: int = 1) -> None:
        self._shards, self._negatives, self._seed = shards, negatives, seed
        self._batch_size, self._threads = batch_size, threads
        lengths = [shards.lengths(shard) for shard in range(shards.count)]
        samples = [int(each[each < shards.num_items].sum()) * (1 + negatives) for each in lengths]
        self._sampled = [shard for shard, count in enumerate(samples) if count]
        """The shards that have samples."""
        self.samples = sum(samples)
        """Number of samples in an epoch."""
        self.steps = sum(-(-count // batch_size) for count in samples)
        """Number of batches in an epoch."""
        if not self.samples:
            raise ArgumentError("shards: expected a user who lacks an item, got none: no negative can be sampled")

    def batches(self, stage: int, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch: `stage` from 0, `epoch` from 1."""
        seed = derive(self._seed, Stream.NEGATIVES, stage, epoch)
        for shard in np.random.default_rng(seed).permutation(self._sampled):
            sampler = Sampler(self._shards.rows(shard), self._shards.num_items, negatives=self._negatives, labels=True)
            first = int(self._shards.bounds[shard])
            drawn_by = derive(self._seed, Stream.NEGATIVES, stage, epoch, int(shard))
            for users, items, labels in _drawn(sampler, drawn_by, self._batch_size, 3, self._threads):
                yield users + first, items, labels.view(torch.float32)


def _drawn(sampler: Sampler, seed: int, size: int, rows: int, threads: int) -> Iterator[Tensor]:
    """Draw the batches of an epoch, int32 [rows, B] each, some hundred thousand samples at a time."""
    block = size * max(1, _BLOCK // size)
    for start in range(0, len(sampler), block):
        stop = min(start + block, len(sampler))
        values = sampler.draw(seed, start, stop, batch_size=size, threads=threads)
        for batch in torch.split(torch.from_numpy(values), size * rows):
            yield batch.view(rows, -1)

"""The validation set: one interaction of each user, held out of the training set to choose the best epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neuralcf._core import Scorer
from neuralcf.data.csr import CSR
from neuralcf.data.dataset import Dataset
from neuralcf.data.negatives import draw_candidates
from neuralcf.data.split import Split, hold_out_fewer, leave_last_out, leave_one_out
from neuralcf.errors import ArgumentError, argument
from neuralcf.evaluation.metrics import hit_ratio, ndcg
from neuralcf.seeds import Stream, derive

__all__ = ["Validation"]

_BLOCK_USERS = 256


@dataclass(frozen=True, eq=False)
class Validation:
    """Held-out interactions and the candidates that each is ranked among."""

    split: Split
    candidates: CSR

    @classmethod
    def of(cls, dataset: Dataset, seed: int, *, most: int | None = None) -> Validation:
        """Hold out each user's latest interaction, or a random one without timestamps, and sample 99 candidates for it.

        Users with fewer than two items keep all of theirs.

        With `most`, only that many users, sampled at random, have one held out.

        Raises:
            ArgumentError: no user has two items.
        """
        if dataset.timestamps is None:
            split = leave_one_out(dataset, seed, stream=Stream.VALIDATION_SPLIT)
        else:
            split = leave_last_out(dataset, seed, stream=Stream.VALIDATION_SPLIT)
        if split.users.size == 0:
            raise ArgumentError(
                "validation: expected a user with at least two items, got none; train with "
                f"{argument('validation', False)}"
            )
        if most is not None and most < split.users.size:
            split = hold_out_fewer(dataset, split, most, derive(seed, Stream.VALIDATION_SPLIT, 1))
        candidates = draw_candidates(
            split.train.known_items(),
            dataset.num_items,
            split.users,
            split.items,
            seed=derive(seed, Stream.VALIDATION_CANDIDATES),
        )
        return cls(split, candidates)

    def measure(self, weights: Mapping[str, Tensor]) -> tuple[float, float]:
        """Compute HR@10 and NDCG@10 of a model's weights (tensors on the CPU).

        Raises:
            ModelFormatError: weights that the scorer refuses, such as infinite ones.
        """
        scorer = Scorer.from_tensors({name: weight.numpy() for name, weight in weights.items()})
        ranks = scorer.rank_of(self.split.users, self.split.items, allow=self.candidates)
        return float(hit_ratio(ranks, 10).mean()), float(ndcg(ranks, 10).mean())

    def measure_scores(self, scores: Callable[[NDArray[np.int64]], NDArray[np.float32]]) -> tuple[float, float]:
        """Compute HR@10 and NDCG@10 of what scores all items, users int64 [B] -> float32 [B, I]; ties count against."""
        own, others = self.pair_scores(scores)
        row = np.repeat(np.arange(own.size), np.diff(self.candidates[0]))
        ranks = np.bincount(row, weights=others >= own[row], minlength=own.size).astype(np.int64)
        return float(hit_ratio(ranks, 10).mean()), float(ndcg(ranks, 10).mean())

    def pair_scores(
        self, scores: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Give the scores of the held-out items, float32 [m], and of their candidates, float32 [nnz], row by row."""
        users, items, (indptr, indices) = self.split.users, self.split.items, self.candidates
        own, others = np.empty(users.size, np.float32), np.empty(indices.size, np.float32)
        for start in range(0, users.size, _BLOCK_USERS):
            stop = min(start + _BLOCK_USERS, users.size)
            block, bounds = scores(users[start:stop]), indptr[start : stop + 1]
            own[start:stop] = block[np.arange(stop - start), items[start:stop]]
            row = np.repeat(np.arange(stop - start), np.diff(bounds))
            others[bounds[0] : bounds[-1]] = block[row, indices[bounds[0] : bounds[-1]]]
        return own, others

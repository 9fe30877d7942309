"""The validation set: one interaction of each user, held out of the training set to choose the best epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from neuralcf._core import Scorer
from neuralcf.data.csr import CSR
from neuralcf.data.dataset import Dataset
from neuralcf.data.negatives import draw_candidates
from neuralcf.data.split import Split, leave_last_out, leave_one_out
from neuralcf.errors import ArgumentError
from neuralcf.evaluation.metrics import hit_ratio, ndcg
from neuralcf.seeds import Stream, derive

__all__ = ["Validation"]


@dataclass(frozen=True, eq=False)
class Validation:
    """Held-out interactions and the candidates that each is ranked among."""

    split: Split
    candidates: CSR

    @classmethod
    def of(cls, dataset: Dataset, seed: int) -> Validation:
        """Hold out each user's latest interaction, or a random one without timestamps, and sample 99 candidates for it.

        Users with fewer than two items keep all of theirs.

        Raises:
            ArgumentError: no user has two items.
        """
        if dataset.timestamps is None:
            split = leave_one_out(dataset, derive(seed, Stream.VALIDATION_SPLIT))
        else:
            split = leave_last_out(dataset)
        if split.users.size == 0:
            raise ArgumentError(
                "validation: expected a user with at least two items, got none; train with validation=False "
                "(--no-validation)"
            )
        candidates = draw_candidates(
            split.train.user_items(),
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

"""From interactions to a model directory: hold out, train, measure, write. What `neuralcf train` and the demo share."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

from neuralcf._core import Scorer
from neuralcf.config import TrainConfig
from neuralcf.data import Dataset, Split, hold_out
from neuralcf.evaluate import Evaluation, Ranker, candidates_for, evaluate_candidates, evaluate_full
from neuralcf.export import export
from neuralcf.references import Popularity
from neuralcf.train import TrainResult, train

__all__ = ["Metric", "Run", "measure", "run"]


@dataclass(frozen=True)
class Metric:
    """A metric on the held-out items, beside that of ranking by popularity."""

    name: str
    value: float
    popularity: float
    users: int
    """How many held-out items were ranked, one a user."""
    among: str
    """Among what, in two words; `protocol` tells it whole."""
    protocol: str


@dataclass(frozen=True)
class Run:
    """A trained model with what it was trained on and how it did."""

    config: TrainConfig
    split: Split
    result: TrainResult
    metrics: list[Metric]
    fingerprint: str
    """Of the whole data set, before the split."""

    def stored_config(self) -> dict[str, Any]:
        """Give what config.json is to hold of this run."""
        return {
            "training": {**self.config.to_dict(), "best_epoch": self.result.best_epoch},
            "history": [asdict(record) for record in self.result.history],
            "metrics": [asdict(metric) for metric in self.metrics],
            "data": {"fingerprint": self.fingerprint, "held_out": self.split.guarantee},
        }

    def write(
        self,
        path: str | PathLike[str],
        *,
        ids: tuple[Sequence[int], Sequence[int]] | tuple[list[str], list[str]] | None = None,
    ) -> None:
        """Write the model directory, with the training interactions and `ids` (those of the data set when None)."""
        train_part = self.split.train
        export(
            self.result.model,
            path,
            ids=ids or (train_part.user_ids, train_part.item_ids),
            seen=train_part.known(),
            config=self.stored_config(),
        )


def run(
    dataset: Dataset,
    config: TrainConfig,
    *,
    directory: str | PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> Run:
    """Hold out one interaction of each user, train on the rest, measure on what was held out.

    `directory` and `resume` are `run` and `resume` of `neuralcf.train.train`.

    Raises:
        ArgumentError: data that cannot be trained on; a run directory that cannot be used.
        DivergedError: the loss is NaN or infinite.
    """
    split = hold_out(dataset, config.seed)
    result = train(split.train, config, run=directory, resume=resume, progress=progress)
    scorer = Scorer.from_tensors({name: weight.numpy() for name, weight in result.model.state_dict().items()})
    return Run(config, split, result, measure(scorer, split, config.seed), dataset.fingerprint())


def measure(scorer: Scorer, split: Split, seed: int, k: int = 10) -> list[Metric]:
    """Compute HR@k and NDCG@k among 1 + 99 candidates and in the full catalogue, of the model and of popularity."""
    candidates = candidates_for(split, seed=seed)

    def both(ranker: Ranker) -> tuple[Evaluation, Evaluation]:
        drawn = evaluate_candidates(ranker, split.users, split.items, *candidates, k, origin=f"drawn with seed {seed}")
        return drawn, evaluate_full(ranker, split, k)

    metrics = []
    names = ("1 + 99", "all items")
    for among, ours, popular in zip(names, both(scorer), both(Popularity(split.train)), strict=True):
        metrics.append(Metric(f"HR@{k}", ours.hr, popular.hr, len(ours.users), among, ours.protocol))
        metrics.append(Metric(f"NDCG@{k}", ours.ndcg, popular.ndcg, len(ours.users), among, ours.protocol))
    return metrics

"""From interactions to a model directory: train, measure, write. What `neuralcf train` and the demo share."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

from neuralcf._core import Scorer
from neuralcf.baselines import Popularity
from neuralcf.data import Split
from neuralcf.evaluation.protocols import Ranker, candidates_of, evaluate_candidates, evaluate_full
from neuralcf.evaluation.result import Evaluation
from neuralcf.format.save import export
from neuralcf.training.config import TrainConfig
from neuralcf.training.train import train
from neuralcf.training.trainer import TrainResult

__all__ = ["CUTOFFS", "Experiment", "Metric", "measure", "run_experiment"]

CUTOFFS = (5, 10, 20)
"""k of what is measured and stored."""


@dataclass(frozen=True)
class Metric:
    """A metric on the held-out items, beside that of ranking by popularity."""

    name: str
    value: float
    popularity: float
    users: int
    """How many users it is a mean over."""
    among: str
    """Among what the held-out items are ranked, in two words; `protocol` tells it whole."""
    protocol: str


@dataclass(frozen=True)
class Experiment:
    """A trained model with what it was trained on and how it did."""

    config: TrainConfig[Any]
    split: Split
    result: TrainResult
    metrics: list[Metric]
    """Empty where nothing was held out."""
    data: dict[str, Any]
    """What the data were: `fingerprint`, of the whole data set before a split by rule, and `split`, the rule."""

    def stored_config(self) -> dict[str, Any]:
        """Give what config.json is to hold of this run."""
        return {
            "training": {**self.config.to_dict(), "best_epoch": self.result.best_epoch},
            "history": [asdict(record) for record in self.result.history],
            "metrics": [asdict(metric) for metric in self.metrics],
            "data": {**self.data, "held_out": self.split.guarantee},
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
            seen=train_part.user_items(),
            config=self.stored_config(),
        )


def run_experiment(
    split: Split,
    config: TrainConfig[Any],
    *,
    data: dict[str, Any],
    directory: str | PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> Experiment:
    """Train on the training part of a split, measure on what was held out.

    `data` goes into the model's config.json; `directory` and `resume` are `run` and `resume` of
    `neuralcf.training.train`.

    Raises:
        ArgumentError: data that cannot be trained on; a run directory that cannot be used.
        DivergedError: the loss is NaN or infinite.
    """
    result = train(split.train, config, run=directory, resume=resume, progress=progress)
    scorer = Scorer.from_tensors({name: weight.numpy() for name, weight in result.model.state_dict().items()})
    metrics = measure(scorer, split, config.seed) if split.users.size else []
    return Experiment(config, split, result, metrics, data)


def measure(scorer: Scorer, split: Split, seed: int, cutoffs: Sequence[int] = CUTOFFS) -> list[Metric]:
    """Rank the held-out items of a model and of popularity, among 1 + 99 candidates and in the full catalogue."""
    candidates, origin = candidates_of(split, seed=seed)

    def both(ranker: Ranker) -> tuple[Evaluation, Evaluation]:
        held = split.users, split.items
        few = evaluate_candidates(ranker, *held, *candidates, cutoffs, origin=origin)
        return few, evaluate_full(ranker, split, cutoffs, lists=True)

    return [
        Metric(name, value, popular.means[name], len(ours.users), among, ours.protocol)
        for among, ours, popular in zip(
            ("1 + 99", "all items"), both(scorer), both(Popularity(split.train)), strict=True
        )
        for name, value in ours.means.items()
    ]

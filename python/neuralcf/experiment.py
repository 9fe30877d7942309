"""An experiment: train, evaluate on the test set, export. Shared by `neuralcf train` and the demo."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

from neuralcf._core import Scorer
from neuralcf.baselines import Popularity
from neuralcf.data import Split
from neuralcf.data.csr import CSR
from neuralcf.data.features import feature_tensors
from neuralcf.data.shards import Shards
from neuralcf.evaluation.protocols import Ranker, candidates_of, evaluate_candidates, evaluate_full
from neuralcf.evaluation.result import Evaluation
from neuralcf.format.save import export
from neuralcf.training.config import TrainConfig
from neuralcf.training.distributed import on_first
from neuralcf.training.start import Start
from neuralcf.training.train import train
from neuralcf.training.trainer import TrainResult

__all__ = ["CUTOFFS", "Experiment", "Metric", "measure", "run_experiment"]

CUTOFFS = (5, 10, 20)
"""The cut-offs k of the stored metrics."""


@dataclass(frozen=True)
class Metric:
    """A metric on the held-out items, beside that of the popularity baseline."""

    name: str
    value: float
    popularity: float
    """The same metric of the popularity baseline."""
    users: int
    """Number of users that it is a mean over."""
    among: str
    """What the held-out items are ranked among, in two words; `protocol` says it in full."""
    protocol: str


@dataclass(frozen=True)
class Experiment:
    """A trained model with its configuration, data and metrics."""

    config: TrainConfig[Any]
    split: Split
    result: TrainResult
    metrics: list[Metric]
    """Empty if nothing was held out."""
    data: dict[str, Any]
    """`fingerprint` of the data set before the split, and `split`, its rule."""
    start: str | None = None
    """Id of the model that training started from; None if it started from nothing."""

    def stored_config(self) -> dict[str, Any]:
        """Return what config.json stores about this experiment."""
        return {
            "training": {**self.config.to_dict(), "best_epoch": self.result.best_epoch, **self._chosen()},
            "history": [asdict(record) for record in self.result.history],
            "metrics": [asdict(metric) for metric in self.metrics],
            "data": {**self.data, "held_out": self.split.guarantee, **self._dislikes()},
            **({} if self.start is None else {"start": {"model_id": self.start}}),
        }

    def _chosen(self) -> dict[str, Any]:
        return {"chosen": dict(self.result.chosen)} if self.result.chosen else {}

    def _dislikes(self) -> dict[str, int]:
        dislikes = self.split.train.dislikes
        return {} if dislikes is None else {"dislikes": len(dislikes)}

    def write(
        self,
        path: str | PathLike[str],
        *,
        ids: tuple[Sequence[int], Sequence[int]] | tuple[list[str], list[str]] | None = None,
        fold_in: bool = True,
        seen: CSR | None = None,
    ) -> None:
        """Write the model directory with what is known of each user and `ids`, which default to those of the data set.

        What is known, `seen`, defaults to the training set and its dislikes.

        With `fold_in` also how a history becomes a user's vectors, if the trainer can tell.

        Raises:
            ArgumentError: ids that do not fit the model, or a target that may not be overwritten.
            OSError: the directory cannot be written.
        """
        train_set = self.split.train
        export(
            self.result.model,
            path,
            ids=ids or (train_set.user_ids, train_set.item_ids),
            seen=train_set.known_items() if seen is None else seen,
            history=self.result.fold_in if fold_in else None,
            features=feature_tensors(self.result.features) if self.result.features else None,
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
    start: Start | None = None,
    shards: Shards | None = None,
) -> Experiment:
    """Train on the training set of a split and evaluate on the held-out pairs.

    Args:
        split: training set and held-out pairs.
        config: the training configuration.
        data: what config.json records about the data.
        directory: `run` of `neuralcf.training.train`.
        resume: as for `neuralcf.training.train`.
        progress: as for `neuralcf.training.train`.
        start: as for `neuralcf.training.train`.
        shards: as for `neuralcf.training.train`, without the held-out pairs; the baseline's popularity is then that
            among the users of the split.

    Raises:
        ArgumentError: data that cannot be trained on; a run directory that cannot be used.
        DivergedError: the loss or the weights are no longer finite.
    """
    result = train(split.train, config, run=directory, resume=resume, progress=progress, start=start, shards=shards)
    scorer = Scorer.from_tensors({name: weight.numpy() for name, weight in result.model.state_dict().items()})
    metrics = on_first(lambda: measure(scorer, split, config.seed) if split.users.size else [])
    return Experiment(config, split, result, metrics, data, None if start is None else start.model_id)


def measure(scorer: Scorer, split: Split, seed: int, cutoffs: Sequence[int] = CUTOFFS) -> list[Metric]:
    """Evaluate a model and the popularity baseline, among 1 + 99 candidates and among the full catalogue.

    Args:
        scorer: the model.
        split: training set and held-out pairs, at least one.
        seed: random seed of the sampled candidates.
        cutoffs: the cut-offs k.
    """
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

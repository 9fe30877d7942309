"""What a trainer is: its settings, and a function from interactions and a configuration to a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Generic, Protocol, TypeVar

from neuralcf.data.dataset import Dataset
from neuralcf.errors import ArgumentError
from neuralcf.models import Model
from neuralcf.training.config import TrainConfig, TrainerConfig
from neuralcf.training.run_directory import RunDirectory

__all__ = ["EpochRecord", "Fit", "TrainResult", "Trainer"]

AnyConfig = TypeVar("AnyConfig", bound=TrainerConfig)
Told = TypeVar("Told", bound=TrainerConfig, contravariant=True)


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave."""

    stage: str
    """Which model was trained: with pre-training `gmf`, then `mlp`, then `neumf`; once more on everything,
    `gmf refit` and so on."""

    epoch: int
    """From 1, in its stage."""

    loss: float
    """Mean binary cross-entropy over the epoch's pairs, each measured before the step that it is part of."""

    seconds: float
    """Time for drawing and training, without validation."""

    validation_hr: float | None
    """HR@10 over the validation candidates; None without validation."""

    validation_ndcg: float | None
    """NDCG@10, likewise."""


@dataclass(frozen=True)
class TrainResult:
    """A trained model and how it came about."""

    model: Model
    """With the weights of the best epoch, in evaluation mode, on the CPU."""

    history: list[EpochRecord]
    """One record an epoch, of all stages in turn."""

    best_epoch: int
    """The epoch of the weights in the last stage, from 1: the best by validation, or the last without. 0 where
    fine-tuning never ranked better than the joined models that it started from."""


class Fit(Protocol[Told]):
    """How a trainer trains."""

    def __call__(
        self, dataset: Dataset, config: TrainConfig[Told], run: RunDirectory | None, *, progress: bool | None
    ) -> TrainResult:
        """Train a model.

        Args:
            dataset: at least one interaction; all that may be looked at.
            config: how.
            run: where to log, and to save what is needed to go on; what was saved there is to be gone on with. None
                leaves no trace.
            progress: whether to show a progress bar; None shows one on a terminal only.

        Raises:
            ArgumentError: data or a configuration that it cannot train with.
            DivergedError: a loss or weights that are no finite numbers.
        """


@dataclass(frozen=True)
class Trainer(Generic[AnyConfig]):
    """A way to get a model from interactions: one file, entered in `neuralcf.training.TRAINERS`.

    Raises:
        ArgumentError: a setting with the name of one that all trainers share.
    """

    config: type[AnyConfig]
    """Its settings; their `name` is the trainer's."""

    fit: Fit[AnyConfig]

    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings by name."""

    def __post_init__(self) -> None:
        shared = {each.name for each in fields(TrainConfig)} & {each.name for each in fields(self.config)}
        if shared:
            raise ArgumentError(f"{self.name}: expected settings of its own, all trainers share {', '.join(shared)}")

    @property
    def name(self) -> str:
        """What chooses it."""
        return self.config.name

"""The trainer interface: a settings class, and a function from a `Dataset` and a `TrainConfig` to a `TrainResult`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from neuralcf.attributes import FeatureMap
from neuralcf.data.dataset import Dataset
from neuralcf.errors import ArgumentError
from neuralcf.models import Model
from neuralcf.training.config import TrainConfig, TrainerConfig
from neuralcf.training.run_directory import RunDirectory

__all__ = ["EpochRecord", "Fit", "TrainResult", "Trainer"]

AnyConfig = TypeVar("AnyConfig", bound=TrainerConfig)
FitConfig = TypeVar("FitConfig", bound=TrainerConfig, contravariant=True)


@dataclass(frozen=True)
class EpochRecord:
    """Loss, time and validation metrics of one epoch."""

    stage: str
    """Which model was trained: with pre-training `gmf`, then `mlp`, then `neumf`; with `refit` then `gmf refit` and
    so on. For `distill` each teacher, then `sum`, then `gmf` or `neumf`, and `features` if there are any."""

    epoch: int
    """Number of the epoch within its stage, from 1."""

    loss: float | None
    """Mean training loss over the epoch, each batch measured before its step; None for a stage without a loss of its
    own. For `ncf` binary cross-entropy over pairs, for the history encoder softmax cross-entropy over interactions."""

    seconds: float
    """Time for sampling and training, without validation."""

    validation_hr: float | None
    """HR@10 over the validation candidates; None without validation."""

    validation_ndcg: float | None
    """NDCG@10 over the validation candidates; None without validation."""


@dataclass(frozen=True)
class TrainResult:
    """A trained model and its history."""

    model: Model
    """The model with the weights of the best epoch, in evaluation mode, on the CPU."""

    history: list[EpochRecord]
    """One record for each epoch of all stages, in order."""

    best_epoch: int
    """Epoch of the kept weights within the last stage, from 1: the best on the validation set, or the last one without
    validation. 0 if no epoch of fine-tuning ranked better than the joined models that it started from."""

    chosen: Mapping[str, Any] = field(default_factory=dict)
    """What the trainer chose itself, such as settings it searched; plain values by name."""

    features: Mapping[str, FeatureMap] = field(default_factory=dict)
    """What gives embeddings to users or items by their features alone: a map for `user`, for `item`, for both, or none,
    as the data set has features."""

    fold_in: Mapping[str, NDArray[np.float32]] | None = None
    """How a history becomes a user's vectors, for new users: the tensors of history.safetensors; None if the trainer
    cannot tell."""


class Fit(Protocol[FitConfig]):
    """The function that trains a model."""

    def __call__(
        self, dataset: Dataset, config: TrainConfig[FitConfig], run: RunDirectory | None, *, progress: bool | None
    ) -> TrainResult:
        """Train a model.

        Args:
            dataset: the training set, at least one interaction; the trainer sees no other data.
            config: the configuration.
            run: an open run directory: log to it, save checkpoints in it, and resume from its checkpoint if it has one.
                None writes nothing.
            progress: whether to show a progress bar; None shows one on a terminal only.

        Raises:
            ArgumentError: data or a configuration that the trainer cannot train with.
            DivergedError: the loss or the weights are no longer finite.
        """


@dataclass(frozen=True)
class Trainer(Generic[AnyConfig]):
    """A trainer, as registered in `neuralcf.training.TRAINERS`.

    Raises:
        ArgumentError: a setting of the trainer has the name of a common one.
    """

    config: type[AnyConfig]
    """The class of its settings, whose `name` is the name of the trainer."""

    fit: Fit[AnyConfig]

    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Named sets of settings."""

    fit_from: Callable[..., TrainResult] | None = None
    """As `fit`, with the `Start` to start from before its arguments; None if the trainer cannot."""

    continued: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]] | None = None
    """From the settings that a model was trained with, and what its training chose, to those of training on from it."""

    ignores: Callable[[AnyConfig], tuple[Literal["weights", "dislikes"], ...]] = lambda _: ()
    """Which fields of a data set training with these settings does not use."""

    fit_shards: Callable[..., TrainResult] | None = None
    """As `fit`, with the `Shards` to train on before its arguments, where the data set has all ids and interactions of
    some users only, to hold out a validation set of; None if the trainer cannot."""

    def __post_init__(self) -> None:
        shared = {each.name for each in fields(TrainConfig)} & {each.name for each in fields(self.config)}
        if shared:
            raise ArgumentError(
                f"{self.name}: expected names of its own for its settings, got {', '.join(shared)}, which all trainers "
                "have"
            )

    @property
    def name(self) -> str:
        """The name that selects it."""
        return self.config.name

"""Training by epochs, whatever the model and the loss: validation, early stopping, averaging, checkpoints and resume.

Validation  After each epoch the weights are ranked by the validation set. The epoch with the best HR@10 is kept; the
            earlier one wins a tie. Early stopping ends a stage after `patience` epochs without improvement.
Averaging   After step n, the average moves 1 / min(n, time constant) of the way to the weights: first a plain mean,
            then an exponential moving average. The average is what is evaluated and kept, because it smooths out the
            noise of single steps (Polyak and Juditsky, SIAM J. Control Optim. 30, 1992).
Resuming    After the last complete epoch. A checkpoint holds weights, optimiser state and history, but no generator
            state: a subclass derives its randomness from (seed, purpose, stage, epoch).
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]

from neuralcf.errors import DivergedError, ModelFormatError
from neuralcf.training.distributed import on_first
from neuralcf.training.run_directory import RunDirectory
from neuralcf.training.trainer import EpochRecord
from neuralcf.training.validation import Validation

__all__ = ["Descent", "MovingAverage", "TrainingState", "Weights", "copied"]

Weights: TypeAlias = dict[str, Tensor]


@dataclass
class TrainingState:
    """The state of training, as stored in a checkpoint."""

    finished: list[Weights] = field(default_factory=list)
    """The best weights of each finished stage."""

    history: list[EpochRecord] = field(default_factory=list)

    epoch: int = 0
    """Number of complete epochs in the current stage."""

    best_epoch: int = 0
    """Best epoch of the current stage; of the last stage when training is finished."""

    best_epochs: list[int] = field(default_factory=list)
    """Best epoch of each finished stage."""

    best_hr: float = -1.0
    best: Weights | None = None
    model: Weights | None = None
    average: Weights | None = None
    optimiser: dict[str, Any] | None = None

    @classmethod
    def of(cls, checkpoint: dict[str, Any] | None) -> TrainingState:
        """Restore the state from a checkpoint, or begin without one."""
        if checkpoint is None:
            return cls()
        values = {name: value for name, value in checkpoint.items() if name != "metrics_bytes"}
        return cls(**{**values, "history": [EpochRecord(**record) for record in values["history"]]})

    def saved(self) -> dict[str, Any]:
        """Return the state as tensors and plain values, for a checkpoint."""
        return {**vars(self), "history": [asdict(record) for record in self.history]}

    def finish_stage(self) -> None:
        """Keep the best weights and reset the rest for the next stage."""
        assert self.best is not None
        self.finished.append(self.best)
        self.best_epochs.append(self.best_epoch)
        self.epoch, self.best_hr, self.best = 0, -1.0, None
        self.model, self.average, self.optimiser = None, None, None


class Descent(ABC):
    """The training of one stage; a subclass has the model, the optimiser, and what an epoch is.

    Args:
        name: name of the stage.
        epochs: maximum number of epochs.
        steps: number of optimiser steps in an epoch.
        patience: early stopping; 0 trains for all epochs.
        validation: what to rank, or None.
        run: an open run directory, or None.
        state: where to begin, and where to leave the result.
    """

    model: nn.Module
    average: MovingAverage | None = None

    def __init__(
        self,
        name: str,
        *,
        epochs: int,
        steps: int,
        patience: int,
        validation: Validation | None,
        run: RunDirectory | None,
        state: TrainingState,
    ) -> None:
        self.name, self.epochs, self.steps, self.patience = name, epochs, steps, patience
        self.validation, self.run, self.state = validation, run, state

    @abstractmethod
    def descend(self, epoch: int, after_step: Callable[[int, float], None]) -> float:
        """Take the steps of an epoch; return the mean loss.

        After each step, `after_step` is called with its number, from 1, and the loss before it.
        """

    @abstractmethod
    def optimiser_state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of the optimiser."""

    def measure(self, validation: Validation, weights: Weights) -> tuple[float, float]:
        """Compute HR@10 and NDCG@10 of weights."""
        return validation.measure(weights)

    def train(self, progress: bool | None) -> None:
        """Train the remaining epochs and store the stage's best weights in the state."""
        state, epochs = self.state, self.epochs
        bar = tqdm(
            total=epochs * self.steps,
            initial=state.epoch * self.steps,
            desc=self.name,
            unit="batch",
            disable=None if progress is None else not progress,
        )
        with bar:
            while state.epoch < epochs and not self._stops_early():
                self._train_epoch(state.epoch + 1, bar)
        state.finish_stage()
        if self.run:
            self.run.save(state.saved())

    def measure_start(self) -> None:
        """Evaluate the weights before training as epoch 0, which training has to beat."""
        weights = copied(self.model.state_dict())
        hr, ndcg = self._validate(weights, 0)
        self.state.best_epoch, self.state.best = 0, weights
        if hr is not None:
            self.state.best_hr = hr
        self._log(stage=self.name, epoch=0, validation_hr=hr, validation_ndcg=ndcg)

    def check_loss(self, loss: float, epoch: int, step: int) -> None:
        """Raise DivergedError for a loss that is not finite."""
        if not math.isfinite(loss):
            raise DivergedError(
                f"stage {self.name}, epoch {epoch}, batch {step}: expected a finite loss, got {loss}; "
                "a smaller learning_rate may help"
            )

    def _stops_early(self) -> bool:
        without_improvement = self.state.epoch - self.state.best_epoch
        return self.validation is not None and 0 < self.patience <= without_improvement

    def _train_epoch(self, epoch: int, bar: tqdm) -> None:
        """Train an epoch, validate, keep the weights if they are the best so far, save a checkpoint."""

        def after_step(step: int, loss: float) -> None:
            self._log(stage=self.name, epoch=epoch, step=step, loss=loss)
            bar.update()

        started = time.perf_counter()
        self.model.train()
        loss = self.descend(epoch, after_step)
        seconds = time.perf_counter() - started
        model = copied(self.model.state_dict())
        weights = model if self.average is None else copied(self.average.weights)
        hr, ndcg = self._validate(weights, epoch)
        record = EpochRecord(self.name, epoch, loss, seconds, hr, ndcg)
        self._log(**asdict(record))
        bar.set_postfix(epoch=epoch, loss=f"{loss:.4f}", hr="-" if hr is None else f"{hr:.4f}")

        state = self.state
        state.history.append(record)
        if hr is None or hr > state.best_hr:
            state.best_epoch, state.best = epoch, weights
            state.best_hr = -1.0 if hr is None else hr
        state.epoch, state.model, state.optimiser = epoch, model, self.optimiser_state()
        state.average = None if self.average is None else weights
        if self.run:
            self.run.save(state.saved())

    def _validate(self, weights: Weights, epoch: int) -> tuple[float | None, float | None]:
        for name, weight in weights.items():
            if not weight.isfinite().all():
                raise DivergedError(
                    f"stage {self.name}, after epoch {epoch}: expected finite weights, {name} is not; "
                    "a smaller learning_rate may help"
                )
        if self.validation is None:
            return None, None
        validation = self.validation
        try:
            return on_first(lambda: self.measure(validation, weights))
        except ModelFormatError as error:
            raise DivergedError(
                f"stage {self.name}, after epoch {epoch}: {error}; a smaller learning_rate may help"
            ) from error

    def _log(self, **values: Any) -> None:
        if self.run:
            self.run.log(**values)


class MovingAverage:
    """A moving average of a model's weights.

    Args:
        model: whose weights.
        steps: time constant, in updates.
        start: the average so far; None begins with the model's weights.
    """

    def __init__(self, model: nn.Module, steps: float, start: Weights | None) -> None:
        self._model = model.state_dict()  # the live tensors, which the optimiser updates in place
        self._steps = steps
        self.weights = {name: weight.clone() for name, weight in self._model.items()}
        if start is not None:
            for name, weight in start.items():
                self.weights[name].copy_(weight)

    def update(self, step: int) -> None:
        """Update the average with the weights after step `step`, from 1."""
        share = 1 / max(1, min(step, self._steps))
        for name, weight in self.weights.items():
            weight.lerp_(self._model[name], share)


def copied(weights: Weights) -> Weights:
    """Copy weights to the CPU."""
    return {name: weight.detach().cpu().clone() for name, weight in weights.items()}

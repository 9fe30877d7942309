"""Training: from interactions and a configuration to a model, by one of several trainers."""

from __future__ import annotations

from os import PathLike
from typing import Any

from neuralcf.data.dataset import Dataset
from neuralcf.errors import ArgumentError
from neuralcf.training.config import TrainConfig
from neuralcf.training.run_directory import RunDirectory
from neuralcf.training.trainer import TrainResult
from neuralcf.training.trainers import find_trainer

__all__ = ["train"]


def train(
    dataset: Dataset,
    config: TrainConfig[Any],
    *,
    run: str | PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> TrainResult:
    """Train a model on the interactions of `dataset`.

    Equal data and configuration give equal weights on one machine's CPU, however often the run was stopped and resumed.
    The global random state of torch and NumPy is not touched; the number of torch threads is that of the configuration
    meanwhile.

    Args:
        dataset: what may be learned from; a test split is already out of it.
        config: how.
        run: a directory for configuration, metrics and checkpoints (`RunDirectory`); None keeps none.
        resume: whether to go on with the run that stands there; one begins where none does.
        progress: whether to show a progress bar; None shows one on a terminal only.

    Raises:
        ArgumentError: no interactions; a user who knows every item, so that no negative can be drawn; nothing to
            validate on; a trainer or a device that is not there; a run directory that cannot be used.
        DivergedError: the loss is NaN or infinite.
    """
    if len(dataset) == 0:
        raise ArgumentError("dataset: expected interactions, got none")
    fit = find_trainer(config.trainer.name).fit
    if run is None:
        if resume:
            raise ArgumentError("resume: expected a run directory to resume from, got none")
        return fit(dataset, config, None, progress=progress)
    with RunDirectory(run, config, dataset.fingerprint(), resume=resume) as directory:
        return fit(dataset, config, directory, progress=progress)

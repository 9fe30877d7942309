"""The entry point of training: run the configured trainer, with a run directory if one is given."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from os import PathLike
from typing import Any

from neuralcf.data.dataset import Dataset
from neuralcf.data.shards import Shards
from neuralcf.errors import ArgumentError
from neuralcf.training.config import TrainConfig
from neuralcf.training.distributed import check_equal, first_only, is_first, on_first
from neuralcf.training.run_directory import RunDirectory
from neuralcf.training.start import Start
from neuralcf.training.trainer import Fit, TrainResult
from neuralcf.training.trainers import find_trainer

__all__ = ["train", "unused"]


def train(
    dataset: Dataset,
    config: TrainConfig[Any],
    *,
    run: str | PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | None = None,
    start: Start | None = None,
    shards: Shards | None = None,
) -> TrainResult:
    """Train a model on the interactions of `dataset`.

    Equal data and configuration give equal weights on one machine's CPU, however often the run was stopped and resumed.
    Within `neuralcf.training.distributed.joined` the processes of `torchrun` train together: each calls this function
    with equal arguments, the first one writes to `run`, and all return its result.

    Training leaves the global random state of torch and NumPy untouched. It sets the number of torch threads to
    `config.threads` and restores it afterwards.

    Args:
        dataset: the training set, validation interactions included; the test set is already held out.
        config: the configuration.
        run: directory for configuration, metrics and checkpoints (`RunDirectory`); None writes nothing.
        resume: whether to resume the run in `run`; if there is none, a new run starts.
        progress: whether to show a progress bar; None shows one on a terminal only.
        start: a model to start from; the data set's ids begin with its (`neuralcf.data.renumbered`).
        shards: interactions that need not fit in memory, to train on; `dataset` then has all ids, and the interactions
            of some users, of whom the validation set is held out (`Shards.of_users`).

    Raises:
        ArgumentError: no interactions; a start that the trainer or the data do not fit; shards that it cannot take; no
            user who lacks an item, so that no negative can be sampled; no user to hold out a validation interaction of;
            an unknown trainer or device; a run directory that cannot be used.
        DivergedError: the loss or the weights are no longer finite.
    """
    if len(dataset) == 0:
        raise ArgumentError("dataset: expected interactions, got none")
    trainer = find_trainer(config.trainer.name)
    fit: Fit[Any]
    if shards is not None:
        if trainer.fit_shards is None or start is not None:
            raise ArgumentError(
                f"shards: the trainer {trainer.name} cannot train on them" + " from a start" * bool(start)
            )
        fit = partial(trainer.fit_shards, shards)
    elif start is None:
        fit = trainer.fit
    elif trainer.fit_from is None:
        raise ArgumentError(f"start: the trainer {trainer.name} cannot start from a model")
    else:
        fit = partial(trainer.fit_from, start)
    if run is None and resume:
        raise ArgumentError("resume: expected a run directory to resume from, got none")
    check_equal("dataset: fingerprint", lambda: _fingerprint(dataset))
    start_id = None if start is None else start.model_id

    def opened() -> AbstractContextManager[RunDirectory | None]:
        if run is None:
            return nullcontext()
        return RunDirectory(run, config, _fingerprint(dataset), resume=resume, start=start_id)

    with first_only(opened) or nullcontext() as directory:
        result = fit(dataset, config, directory, progress=progress if is_first() else False)
    return on_first(lambda: result)


def unused(dataset: Dataset, config: TrainConfig[Any]) -> list[str]:
    """Say which of the weights and dislikes of a data set training will not use, each in a sentence."""
    what = {
        "weights": "weights of interactions: all count alike",
        "dislikes": "dislikes: it takes them for any other item, and they are still never recommended",
    }
    name = config.trainer.name
    ignored = [field for field in find_trainer(name).ignores(config.trainer) if getattr(dataset, field) is not None]
    return [f"the trainer {name}, with these settings, does not use {what[field]}" for field in ignored]


def _fingerprint(dataset: Dataset) -> str:
    """Compute the fingerprint of all that is trained on: the interactions and, if there are any, the features."""
    sides = {"user": dataset.user_features, "item": dataset.item_features}
    parts = [f"{side} features {features.fingerprint()}" for side, features in sides.items() if features is not None]
    return " with ".join([dataset.fingerprint(), *parts])

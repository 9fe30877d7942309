"""Ways to get a model from interactions, one file each behind `neuralcf.training.trainer.Trainer`."""

from typing import Any, Final

from neuralcf.errors import ArgumentError
from neuralcf.training.trainer import Trainer
from neuralcf.training.trainers import ncf

__all__ = ["TRAINERS", "find_trainer"]

TRAINERS: Final[dict[str, Trainer[Any]]] = {trainer.name: trainer for trainer in (ncf.TRAINER,)}
"""The trainers by name; a program may add its own."""


def find_trainer(name: object) -> Trainer[Any]:
    """Give the trainer of a name.

    Raises:
        ArgumentError: there is none.
    """
    if not isinstance(name, str) or name not in TRAINERS:
        raise ArgumentError(f"trainer: expected one of {', '.join(TRAINERS)}, got {name!r}")
    return TRAINERS[name]

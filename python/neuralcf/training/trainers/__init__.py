"""The trainers, one file each; `neuralcf.training.trainer` defines their interface."""

from typing import Any, Final

from neuralcf.errors import ArgumentError
from neuralcf.training.trainer import Trainer
from neuralcf.training.trainers import distill, matrix_factorization, ncf

__all__ = ["TRAINERS", "find_trainer"]

TRAINERS: Final[dict[str, Trainer[Any]]] = {
    trainer.name: trainer for trainer in (distill.TRAINER, ncf.TRAINER, matrix_factorization.TRAINER)
}
"""The trainers by name; programs may add their own."""


def find_trainer(name: object) -> Trainer[Any]:
    """Return the trainer with this name.

    Raises:
        ArgumentError: unknown name.
    """
    if not isinstance(name, str) or name not in TRAINERS:
        raise ArgumentError(f"trainer: expected one of {', '.join(TRAINERS)}, got {name!r}")
    return TRAINERS[name]

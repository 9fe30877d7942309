"""Training configuration: the settings common to all trainers, and the base class of a trainer's own settings.

Both are frozen dataclasses, validated on construction and stored in full with the model. Each trainer defines its own
settings beside it, in a class derived from `TrainerConfig`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, ClassVar, Generic, TypeVar

from neuralcf.errors import ArgumentError

__all__ = ["TrainConfig", "TrainerConfig", "check_choice", "check_flag", "check_int", "check_layers", "check_number"]


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """Base of a trainer's settings: a frozen dataclass; every field has a default and `__post_init__` validates it."""

    name: ClassVar[str]
    """Name that selects the trainer: the value of `trainer` in a TOML file, in `--set` and in config.json."""


OwnConfig = TypeVar("OwnConfig", bound=TrainerConfig, covariant=True)


@dataclass(frozen=True)
class TrainConfig(Generic[OwnConfig]):
    """The configuration of `neuralcf.training.train`.

    Raises:
        ArgumentError: invalid value; the message names the field, what was expected and what it got.
    """

    trainer: OwnConfig
    """The trainer's own settings; their class selects the trainer. `NCFConfig` is the paper's."""

    _: KW_ONLY

    seed: int = 0
    """Random seed of all random choices, through independent streams: splits, candidates, initial weights, negative
    sampling, dropout. Equal seeds give equal models on one machine."""

    threads: int = 1
    """Number of torch threads during training. Layers as narrow as the usual ones gain nothing from more. Another
    number may round differently."""

    device: str = "cpu"
    """Where to train: "cpu", "cuda", "cuda:N", "mps", or "auto" for a GPU if there is one. Only the CPU promises
    the same bits again."""

    validation: bool = True
    """Whether to hold out one interaction of each user as the validation set and keep the epoch that ranks them
    best. Otherwise every interaction is used for training and the last epoch is kept."""

    refit: bool = False
    """Whether to retrain afterwards on all interactions, validation set included, for as many epochs as validation
    chose."""

    def __post_init__(self) -> None:
        if not isinstance(self.trainer, TrainerConfig):
            raise ArgumentError(f"trainer: expected settings, such as NCFConfig(), got {self.trainer!r}")
        check_int("seed", self.seed, minimum=0)
        check_int("threads", self.threads, minimum=1)
        for name in ("validation", "refit"):
            check_flag(name, getattr(self, name))
        if self.refit and not self.validation:
            raise ArgumentError(
                "refit: expected False without validation, which chooses the number of epochs, got True"
            )
        if not isinstance(self.device, str) or not re.fullmatch(r"cpu|auto|mps|cuda(:[0-9]{1,3})?", self.device):
            raise ArgumentError(f"device: expected cpu, cuda, cuda:N, mps or auto, got {self.device!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return all fields by name as JSON values: the trainer's name, the common settings, the trainer's own."""
        settings = {
            field.name: getattr(record, field.name)
            for record in (self, self.trainer)
            for field in fields(record)
            if field.name != "trainer"
        }
        listed = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
        return {"trainer": self.trainer.name, **listed}


def check_choice(name: str, value: object, *choices: str) -> None:
    """Check that `value` is one of `choices`; raise ArgumentError if not, as all these checks do."""
    if value not in choices:
        listed = ", ".join(map(repr, choices[:-1]))
        raise ArgumentError(f"{name}: expected {listed} or {choices[-1]!r}, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Check that `value` is True or False."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{name}: expected True or False, got {value!r}")


def check_int(name: str, value: object, *, minimum: int) -> None:
    """Check that `value` is an integer of at least `minimum`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ArgumentError(f"{name}: expected an integer >= {minimum}, got {value!r}")


def check_number(name: str, value: object, expected: str, fits: Callable[[float], bool]) -> None:
    """Check that `value` is a finite number for which `fits` is true; `expected` describes it in the error."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not fits(value):  # type: ignore[arg-type]
        raise ArgumentError(f"{name}: expected {expected}, got {value!r}")


def check_layers(name: str, value: object) -> tuple[int, ...]:
    """Check the widths of a tower, that of both embeddings together first; give them as a tuple."""
    if not isinstance(value, tuple | list):
        raise ArgumentError(f"{name}: expected a sequence of sizes, got {value!r}")
    sizes = all(isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in value)
    if not sizes or len(value) < 2 or value[0] < 2:
        raise ArgumentError(
            f"{name}: expected the width of both embeddings (>= 2) and at least one hidden layer (>= 1), "
            f"got {tuple(value)!r}"
        )
    return tuple(value)

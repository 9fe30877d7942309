"""What a training run is told: a frozen record, checked at birth and stored with the model it produced."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from neuralcf.errors import ArgumentError

__all__ = ["TrainConfig"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The configuration of `neuralcf.train.train`.

    Raises:
        ArgumentError: a value that cannot be used; the message names the field, what was expected and what came.
    """

    model: Literal["gmf", "mlp", "neumf"] = "neumf"
    """Which model: the linear one, the multi-layer perceptron, or both joined."""

    factors: int = 8
    """Width of the GMF embeddings; the MLP alone does not use it."""

    layers: tuple[int, ...] = (64, 32, 16, 8)
    """Width of both MLP embeddings together, then that of each hidden layer; GMF alone does not use it."""

    negatives: int = 4
    """How many items without an interaction are drawn for each interaction, anew in each epoch."""

    epochs: int = 20
    """How many times the training interactions are gone through."""

    batch_size: int = 1024
    """Pairs, positive and negative together, in one step of the optimiser."""

    learning_rate: float = 0.004
    """Step size of Adam. The paper's 0.001 goes with its batches of 256; four times both ranks as well, and faster."""

    seed: int = 0
    """Decides all chance: weights, negatives, order, validation. Equal seeds give equal models on one machine."""

    threads: int = 1
    """Threads of torch while training: layers as narrow as the usual ones gain nothing from more, and wait for
    each other on a busy machine. Another number may round differently."""

    validation: bool = True
    """Whether to hold one interaction of each user out of training and keep the epoch that ranks them best; otherwise
    every interaction is trained on, and the last epoch is kept."""

    def __post_init__(self) -> None:
        if self.model not in ("gmf", "mlp", "neumf"):
            raise ArgumentError(f"model: expected 'gmf', 'mlp' or 'neumf', got {self.model!r}")
        if not isinstance(self.layers, tuple | list):
            raise ArgumentError(f"layers: expected a sequence of sizes, got {self.layers!r}")
        object.__setattr__(self, "layers", tuple(self.layers))
        if len(self.layers) < 2 or not all(_is_int(size) and size >= 1 for size in self.layers) or self.layers[0] < 2:
            raise ArgumentError(
                "layers: expected the width of both embeddings (>= 2) and at least one hidden layer (>= 1), "
                f"got {self.layers!r}"
            )
        for name in ("factors", "negatives", "epochs", "batch_size", "threads"):
            _check_int(name, getattr(self, name), minimum=1)
        _check_int("seed", self.seed, minimum=0)
        rate = self.learning_rate
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not math.isfinite(rate) or rate <= 0:
            raise ArgumentError(f"learning_rate: expected a finite number > 0, got {rate!r}")
        if not isinstance(self.validation, bool):
            raise ArgumentError(f"validation: expected True or False, got {self.validation!r}")

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON can hold them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_int(name: str, value: object, *, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ArgumentError(f"{name}: expected an integer >= {minimum}, got {value!r}")

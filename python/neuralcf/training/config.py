"""What a training run is told: a frozen record, checked at birth and stored with the model it produced."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from neuralcf.errors import ArgumentError

__all__ = ["TrainConfig"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The configuration of `neuralcf.training.train`.

    Raises:
        ArgumentError: a value that cannot be used; the message names the field, what was expected and what came.
    """

    trainer: str = "ncf"
    """Which trainer: "ncf" is the paper's, by gradient descent; `neuralcf.training.TRAINERS` lists them."""

    model: Literal["gmf", "mlp", "neumf"] = "neumf"
    """Which model: the linear one, the multi-layer perceptron, or both joined."""

    factors: int = 8
    """Width of the GMF embeddings; the MLP alone does not use it."""

    layers: tuple[int, ...] = (64, 32, 16, 8)
    """Width of both MLP embeddings together, then that of each hidden layer; GMF alone does not use it."""

    negatives: int = 4
    """How many items without an interaction are drawn for each interaction, anew in each epoch."""

    epochs: int = 20
    """How many times the training interactions are gone through, at most; with pre-training, in fine-tuning."""

    batch_size: int = 1024
    """Pairs, positive and negative together, in one step of the optimiser."""

    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or gradient descent without momentum; with pre-training, that of GMF and MLP."""

    learning_rate: float = 0.004
    """Step size. The paper's 0.001 of Adam goes with its batches of 256; four times both ranks as well, and faster."""

    l2_embeddings: float = 0.0
    """Weight of the sum of squares of all embedding tables, added to the loss of each step; 0 in the paper."""

    l2_layers: float = 0.0
    """Weight of the sum of squares of the hidden layers' weights, added likewise; biases and output layer are free."""

    dropout: float = 0.0
    """Share of the inputs of each hidden layer set to zero while training; GMF alone does not use it."""

    patience: int = 5
    """Stop after so many epochs without a better one on validation; 0 goes through all. Needs `validation`."""

    pretrain: bool = False
    """Whether to train GMF and MLP first and start NeuMF from both (section 3.4.1 of the paper). NeuMF only."""

    pretrain_epochs: int = 3
    """How many epochs GMF and MLP get each, at most. Few: parts that have learned all they can by themselves leave
    fine-tuning little to do but to overfit."""

    alpha: float = 0.5
    """Weight of GMF in the output layer that joins both; the MLP's is 1 - alpha."""

    fine_tune_optimizer: Literal["adam", "sgd"] = "adam"
    """Optimiser of NeuMF after pre-training; gradient descent in the paper, as the moments of Adam are lost."""

    fine_tune_learning_rate: float = 0.004
    """Its step size."""

    seed: int = 0
    """Decides all chance, by independent streams: splits, candidates, weights, negatives, dropout. Equal seeds give
    equal models on one machine."""

    threads: int = 1
    """Threads of torch while training: layers as narrow as the usual ones gain nothing from more, and wait for
    each other on a busy machine. Another number may round differently."""

    device: str = "cpu"
    """Where to train: "cpu", "cuda", "cuda:N", "mps", or "auto" for a GPU where there is one. The same bits again are
    promised for the CPU."""

    averaging: float = 1.0
    """Time constant, in epochs, of the moving average of the weights that is measured and kept in their place; 0 keeps
    the weights of the last step, as the paper does."""

    validation: bool = True
    """Whether to hold one interaction of each user out of training and keep the epoch that ranks them best; otherwise
    every interaction is trained on, and the last epoch is kept."""

    refit: bool = False
    """Whether to train once more, on the validation interactions too, for as many epochs as validation chose."""

    def __post_init__(self) -> None:
        _check_choice("model", self.model, "gmf", "mlp", "neumf")
        for name in ("optimizer", "fine_tune_optimizer"):
            _check_choice(name, getattr(self, name), "adam", "sgd")
        if not isinstance(self.trainer, str):
            raise ArgumentError(f"trainer: expected a name, got {self.trainer!r}")
        if not isinstance(self.layers, tuple | list):
            raise ArgumentError(f"layers: expected a sequence of sizes, got {self.layers!r}")
        object.__setattr__(self, "layers", tuple(self.layers))
        if len(self.layers) < 2 or not all(_is_int(size) and size >= 1 for size in self.layers) or self.layers[0] < 2:
            raise ArgumentError(
                "layers: expected the width of both embeddings (>= 2) and at least one hidden layer (>= 1), "
                f"got {self.layers!r}"
            )
        for name in ("factors", "negatives", "epochs", "pretrain_epochs", "batch_size", "threads"):
            _check_int(name, getattr(self, name), minimum=1)
        for name in ("seed", "patience"):
            _check_int(name, getattr(self, name), minimum=0)
        for name in ("learning_rate", "fine_tune_learning_rate"):
            _check_number(name, getattr(self, name), "a finite number > 0", lambda x: x > 0)
        for name in ("l2_embeddings", "l2_layers", "averaging"):
            _check_number(name, getattr(self, name), "a finite number >= 0", lambda x: x >= 0)
        _check_number("dropout", self.dropout, "a number >= 0 and < 1", lambda x: 0 <= x < 1)
        _check_number("alpha", self.alpha, "a number from 0 to 1", lambda x: 0 <= x <= 1)
        for name in ("validation", "pretrain", "refit"):
            if not isinstance(getattr(self, name), bool):
                raise ArgumentError(f"{name}: expected True or False, got {getattr(self, name)!r}")
        if self.refit and not self.validation:
            raise ArgumentError("refit: expected False without validation, which would choose the epoch, got True")
        if self.pretrain and self.model != "neumf":
            raise ArgumentError(f"pretrain: expected False for any model but neumf, got True for {self.model}")
        if not isinstance(self.device, str) or not re.fullmatch(r"cpu|auto|mps|cuda(:[0-9]{1,3})?", self.device):
            raise ArgumentError(f"device: expected cpu, cuda, cuda:N, mps or auto, got {self.device!r}")

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON can hold them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Make the configuration of fields by name, defaults for the others.

        Raises:
            ArgumentError: a name that is no field; a value that cannot be used.
        """
        for name in values:
            cls.check_field(name)
        return cls(**values)

    @classmethod
    def check_field(cls, name: str) -> None:
        """Check that `name` is a field.

        Raises:
            ArgumentError: it is not; the message tells the nearest one.
        """
        known = [field.name for field in fields(cls)]
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise ArgumentError(f"{name}: expected a field of the training configuration; the nearest is {near}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_choice(name: str, value: object, *choices: str) -> None:
    if value not in choices:
        listed = ", ".join(map(repr, choices[:-1]))
        raise ArgumentError(f"{name}: expected {listed} or {choices[-1]!r}, got {value!r}")


def _check_int(name: str, value: object, *, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ArgumentError(f"{name}: expected an integer >= {minimum}, got {value!r}")


def _check_number(name: str, value: object, expected: str, fits: Callable[[float], bool]) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not fits(value):  # type: ignore[arg-type]
        raise ArgumentError(f"{name}: expected {expected}, got {value!r}")

"""The exceptions of NeuralCF. `TypeError`, `MemoryError`, `OSError` and `KeyboardInterrupt` are raised as they are."""

from collections.abc import Sequence

__all__ = [
    "ArgumentError",
    "DivergedError",
    "InternalError",
    "ModelFormatError",
    "NeuralCFError",
    "OutOfRangeError",
    "UnknownItemError",
    "UnknownUserError",
]


class NeuralCFError(Exception):
    """Base class of all exceptions of NeuralCF."""


class ModelFormatError(NeuralCFError, ValueError):
    """A model file, model directory or set of tensors that violates the model format."""


class ArgumentError(NeuralCFError, ValueError):
    """An invalid argument: a wrong shape, length, value or combination."""


class OutOfRangeError(NeuralCFError, IndexError):
    """A user or item index outside the model. Negative indices never count from the end."""


class InternalError(NeuralCFError, RuntimeError):
    """A bug in NeuralCF. Please report it with its message."""


class DivergedError(NeuralCFError, ArithmeticError):
    """Training diverged: the loss or the weights are no longer finite; the message names the epoch and the batch."""


class _UnknownIdError(NeuralCFError, KeyError):
    def __init__(self, message: str, ids: Sequence[int] | Sequence[str] = ()) -> None:
        super().__init__(message)
        self.ids = list(ids)
        """The unknown ids, unique, in the order in which they were given."""

    def __str__(self) -> str:  # a KeyError shows the repr of its message
        return str(self.args[0])


class UnknownUserError(_UnknownIdError):
    """User ids that are not in the model; `ids` lists them."""


class UnknownItemError(_UnknownIdError):
    """Item ids that are not in the model; `ids` lists them."""

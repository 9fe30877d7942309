"""The exceptions that NeuralCF raises. `TypeError`, `MemoryError`, `OSError`, `KeyboardInterrupt` stay Python's own."""

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
    """Base of all of them."""


class ModelFormatError(NeuralCFError, ValueError):
    """A model file, a model directory or a set of tensors that is not what the format says."""


class ArgumentError(NeuralCFError, ValueError):
    """An argument that cannot be used: a wrong shape, length, value or combination."""


class OutOfRangeError(NeuralCFError, IndexError):
    """A user or item index outside the model. Negative indices never count from the end."""


class InternalError(NeuralCFError, RuntimeError):
    """A bug of NeuralCF. Please report it with its message."""


class DivergedError(NeuralCFError, ArithmeticError):
    """Training's loss is no longer a finite number; the message names the epoch and the batch."""


class _UnknownIdError(NeuralCFError, KeyError):
    def __init__(self, message: str, ids: Sequence[int] | Sequence[str] = ()) -> None:
        super().__init__(message)
        self.ids = list(ids)
        """The unknown ids, each once, in the order in which they were given."""

    def __str__(self) -> str:  # a KeyError shows the repr of its message
        return str(self.args[0])


class UnknownUserError(_UnknownIdError):
    """User ids that the model was not trained with; `ids` lists them."""


class UnknownItemError(_UnknownIdError):
    """Item ids that the model was not trained with; `ids` lists them."""

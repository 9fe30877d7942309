"""The exceptions of NeuralCF. `TypeError`, `MemoryError`, `OSError` and `KeyboardInterrupt` are raised as they are."""

import re
from collections.abc import Callable, Sequence

__all__ = [
    "ArgumentError",
    "DivergedError",
    "InternalError",
    "Message",
    "ModelFormatError",
    "NeuralCFError",
    "OutOfRangeError",
    "PublishedError",
    "StoppedError",
    "UnknownItemError",
    "UnknownUserError",
    "argument",
    "in_words_of",
]

_BEGIN, _VALUE, _END = "\x02", "\x1f", "\x03"
_MARKED = re.compile(f"{_BEGIN}([^{_VALUE}{_END}]*)(?:{_VALUE}([^{_END}]*))?{_END}")


def argument(name: str, value: str | bool | None = None) -> str:
    """Mark an argument in an error message, so that each door can name it in its own words.

    In Python `argument("user")` reads `user` and `argument("header", True)` reads `header=True`; the command line says
    `--user-column` and `--header`.
    """
    return f"{_BEGIN}{name}{_END}" if value is None else f"{_BEGIN}{name}{_VALUE}{value!r}{_END}"


def in_words_of(message: str, name_of: Callable[[str, str | None], str]) -> str:
    """Name the marked arguments of a message by `name_of(name, repr of the value or None)`."""
    return _MARKED.sub(lambda marked: name_of(marked[1], marked[2]), message)


class Message(str):
    """A message with marked arguments, which reads as in Python; `marked` is for other doors."""

    __slots__ = ("marked",)
    marked: str

    def __new__(cls, marked: str) -> "Message":
        """Name the arguments as Python does."""
        message = super().__new__(cls, in_words_of(marked, _in_python))
        message.marked = marked
        return message


def _in_python(name: str, value: str | None) -> str:
    return name if value is None else f"{name}={value}"


class NeuralCFError(Exception):
    """Base class of all exceptions of NeuralCF."""

    def __str__(self) -> str:
        return in_words_of(self.marked(), _in_python)

    def marked(self) -> str:
        """Return the message with the marks of `argument`."""
        return super().__str__()


class ModelFormatError(NeuralCFError, ValueError):
    """A model file, model directory or set of tensors that violates the model format."""


class ArgumentError(NeuralCFError, ValueError):
    """An invalid argument: a wrong shape, length, value or combination."""


class OutOfRangeError(NeuralCFError, IndexError):
    """A user or item index outside the model. Negative indices never count from the end."""


class PublishedError(NeuralCFError, OSError):
    """A file or model was published and stands, but a later step failed, and the message says which.

    Either the disk may not have it yet, so that a power failure can bring the old one back, or the replaced model could
    not be removed.
    """


class InternalError(NeuralCFError, RuntimeError):
    """A bug in NeuralCF. Please report it with its message."""


class StoppedError(NeuralCFError):
    """A call that its `StopToken` stopped: another thread asked for it, or its time was over."""


class DivergedError(NeuralCFError, ArithmeticError):
    """Training diverged: the loss or the weights are no longer finite; the message names the epoch and the batch."""


class _UnknownIdError(NeuralCFError, KeyError):
    def __init__(self, message: str, ids: Sequence[int] | Sequence[str] = ()) -> None:
        super().__init__(message)
        self.ids = list(ids)
        """The unknown ids, unique, in the order in which they were given."""

    def marked(self) -> str:  # a KeyError shows the repr of its message
        """Return the message with the marks of `argument`."""
        return str(self.args[0])


class UnknownUserError(_UnknownIdError):
    """User ids that are not in the model; `ids` lists them."""


class UnknownItemError(_UnknownIdError):
    """Item ids that are not in the model; `ids` lists them."""

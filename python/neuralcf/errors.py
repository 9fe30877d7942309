"""The exceptions that NeuralCF raises; `TypeError`, `MemoryError`, `OSError` and `KeyboardInterrupt` stay Python's own."""

__all__ = ["ArgumentError", "InternalError", "ModelFormatError", "NeuralCFError", "OutOfRangeError"]


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

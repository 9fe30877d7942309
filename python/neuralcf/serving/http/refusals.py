"""Refusals: what the service answers instead of a result, always in one JSON shape."""

from __future__ import annotations

import json
from collections.abc import Mapping

from neuralcf.errors import ModelFormatError, NeuralCFError, StoppedError, UnknownItemError, UnknownUserError

__all__ = ["RefusedError", "overloaded", "refusal_of"]


class RefusedError(Exception):
    """A request that is not answered; the body is `{"error": message, "code": code}`."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    @property
    def body(self) -> bytes:
        """The JSON body."""
        return json.dumps({"error": self.message, "code": self.code}).encode()


def overloaded(what: str) -> RefusedError:
    """Return the refusal of a request for which there is no room now."""
    return RefusedError(503, "overloaded", f"too many {what}; try again in a second", {"Retry-After": "1"})


def refusal_of(error: Exception) -> RefusedError | None:
    """Return the refusal that an error of a query means; None if it is a fault of the service."""
    match error:
        case RefusedError():
            return error
        case UnknownUserError():
            return RefusedError(404, "unknown_user", str(error))
        case UnknownItemError():
            return RefusedError(404, "unknown_item", str(error))
        case StoppedError():
            return RefusedError(504, "deadline_exceeded", "the deadline of the request passed before it was answered")
        case MemoryError():
            return RefusedError(503, "out_of_memory", "not enough memory for this request", {"Retry-After": "1"})
        case ModelFormatError():  # of the files that were loaded, a query can find this of the index alone
            return RefusedError(503, "index_refused", 'search: the model\'s index cannot be used; "exact" can')
        case NeuralCFError() if not isinstance(error, RuntimeError):
            return RefusedError(422, "bad_argument", str(error))
    return None

"""Who is let in, and for how long: bounded admission, deadlines, the API key."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from time import monotonic
from typing import Final

from neuralcf.serving.http.metrics import Metrics
from neuralcf.serving.http.refusals import RefusedError, overloaded

__all__ = ["Admission", "check_key", "deadline_of"]

_ALWAYS: Final = 4
"""As many requests in flight are always let in, however long the engine takes for one."""


class Admission:
    """Bounds the requests in flight by their number, and by how long a new one would wait for the engine."""

    def __init__(self, metrics: Metrics, expected_wait: Callable[[int], float], *, most: int, max_wait: float) -> None:
        """Make a bound.

        Args:
            metrics: what to count in.
            expected_wait: returns how many seconds a request would wait behind so many others.
            most: how many requests may be in flight.
            max_wait: how many seconds a request may be expected to wait.
        """
        self._metrics = metrics
        self._expected_wait = expected_wait
        self._most = most
        self._max_wait = max_wait
        self._in_flight = 0

    def enter(self) -> None:
        """Let a request in.

        Raises:
            RefusedError: 503; the service is full.
        """
        if self.is_full():
            raise overloaded("requests")
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)

    def is_full(self) -> bool:
        """Return whether there is no room for another request."""
        in_flight = self._in_flight
        return in_flight >= self._most or (in_flight >= _ALWAYS and self._expected_wait(in_flight) > self._max_wait)

    def leave(self) -> None:
        """Count a request as answered."""
        self._in_flight -= 1
        self._metrics.in_flight.set(self._in_flight)


def deadline_of(header: bytes | None, timeout: float) -> float:
    """Return when to give up a request that arrives now, by `time.monotonic`.

    Args:
        header: the client's own limit in milliseconds, `X-Timeout-Ms`.
        timeout: the service's limit in seconds.

    Raises:
        RefusedError: 400; the header is not a positive integer.
    """
    if header is None:
        return monotonic() + timeout
    if not header.isdigit() or len(header) > 9 or int(header) == 0:
        raise RefusedError(400, "bad_header", "X-Timeout-Ms: expected an integer of at least 1")
    return monotonic() + min(timeout, int(header) / 1000)


def check_key(key: bytes | None, authorization: bytes | None) -> None:
    """Compare an Authorization header with the API key, in time that does not depend on where they differ.

    Raises:
        RefusedError: 401.
    """
    if key is not None and not hmac.compare_digest(authorization or b"", b"Bearer " + key):
        raise RefusedError(
            401,
            "unauthorized",
            "expected the header Authorization: Bearer and the API key",
            {"WWW-Authenticate": "Bearer"},
        )

"""Who is let in, and for how long: bounded admission, deadlines, the API key."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from time import monotonic
from typing import Final

from neuralcf.serving.http.refusals import RefusedError, overloaded

__all__ = ["Admission", "check_key", "deadline_of"]

_ALWAYS: Final = 4
"""As many requests in flight are always let in, however long the engine takes for one."""
_LEAST_WAIT: Final = 0.025
"""Seconds of waiting that are always allowed."""
_MEASURED: Final = 0.1
"""Seconds of work after which the time for an answer is measured again."""


class Admission:
    """Bounds the requests in flight by their number, and by how long a new one would wait.

    The wait of two calls of the engine is allowed, which keeps it busy. A burst may wait longer, up to `max_wait`, if
    there was rest before: time at rest is saved, and spent while more wait. So a queue that drains is allowed and one
    that stands is not, as in the CoDel of routers: under a load that lasts, waiting longer would help nobody.
    """

    def __init__(
        self,
        expected_wait: Callable[[int], float],
        seconds_per_call: Callable[[], float],
        *,
        most: int,
        max_wait: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Make a bound.

        Args:
            expected_wait: returns how many seconds a request would wait for the engine behind so many others.
            seconds_per_call: returns how many seconds a call of the engine takes.
            most: how many requests may be in flight.
            max_wait: how many seconds a request may be expected to wait.
            clock: returns the time in seconds.
        """
        self._expected_wait = expected_wait
        self._seconds_per_call = seconds_per_call
        self._most = most
        self._max_wait = max_wait
        self._clock = clock
        self.in_flight = 0
        """Requests accepted and not yet answered."""
        self._at = clock()
        self._saved = max_wait
        """Seconds at rest that were saved."""
        self._busy = 0.0
        self._answered = 0
        """Seconds of work and requests answered in them, since the last measurement."""
        self._seconds_per_answer = 0.0

    def enter(self) -> None:
        """Let a request in.

        Raises:
            RefusedError: 503; the service is full.
        """
        if self.is_full():
            raise overloaded("requests")
        self._change(1)

    def leave(self) -> None:
        """Count a request as answered."""
        self._answered += 1
        self._change(-1)

    def is_full(self) -> bool:
        """Return whether there is no room for another request."""
        if self.in_flight >= self._most:
            return True
        if self.in_flight < _ALWAYS:
            return False
        self._change(0)
        return self._wait() > min(self._max_wait, self._allowed_wait() + self._saved)

    def _wait(self) -> float:
        return max(self._expected_wait(self.in_flight), self.in_flight * self._seconds_per_answer)

    def _allowed_wait(self) -> float:
        return max(_LEAST_WAIT, 2 * self._seconds_per_call())

    def _change(self, by: int) -> None:
        """Account for the time since the last change, then change the requests in flight."""
        now = self._clock()
        passed, self._at = now - self._at, now
        if self.in_flight == 0:
            self._saved = min(self._max_wait, self._saved + passed)
        else:
            self._busy += passed
            if self._wait() > self._allowed_wait():
                self._saved = max(0.0, self._saved - passed)
            if self._busy >= _MEASURED and self._answered:
                self._seconds_per_answer = self._busy / self._answered
                self._busy, self._answered = 0.0, 0
        self.in_flight += by


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

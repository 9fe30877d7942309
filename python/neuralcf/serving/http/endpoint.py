"""A route: from an ASGI request to an answer or a refusal in JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import Any, Final, NamedTuple

from neuralcf.serving.http.admission import Admission, check_key, deadline_of
from neuralcf.serving.http.fields import Schema, check, parse_json, parse_query, query_form
from neuralcf.serving.http.metrics import Metrics
from neuralcf.serving.http.refusals import RefusedError, refusal_of

__all__ = ["WITHOUT_BODY", "Answered", "Call", "Endpoint", "Gate", "Route"]

WITHOUT_BODY: Final = ("GET", "HEAD", "DELETE")
"""Methods whose fields come as a query string."""

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

_LOG: Final = logging.getLogger("neuralcf.serving")
_JSON: Final = "application/json"


class Call(NamedTuple):
    """A request whose fields are checked."""

    fields: dict[str, Any]
    path: Mapping[str, str]
    """The variable parts of the path."""
    route: str
    """The path with their names in their place."""
    deadline: float
    receive: Receive


class Answered(NamedTuple):
    """A response that is not a JSON object of status 200."""

    body: bytes
    content_type: str = _JSON
    status: int = 200
    headers: Mapping[str, str] = {}


@dataclass(frozen=True)
class Route:
    """What OpenAPI and the router know of a route."""

    path: str
    methods: tuple[str, ...]
    summary: str
    answer: Callable[[Call], Awaitable[Any]]
    """Returns what becomes JSON, or `Answered`."""
    fields: Mapping[str, Schema] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    path_schemas: Mapping[str, Schema] = field(default_factory=dict)
    """For OpenAPI, what is known of the variable parts of the path."""
    response: Schema = field(default_factory=lambda: {"type": "object"})
    refusals: tuple[int, ...] = ()
    """Statuses of refusals beside those of every route."""
    content_type: str = _JSON
    open: bool = False
    """Whether it needs no API key."""
    admitted: bool = True
    """Whether it counts among the requests in flight; health, metrics and administration do not."""

    @cached_property
    def query_fields(self) -> Mapping[str, Schema]:
        """The fields that a query string can say."""
        forms = {name: query_form(schema) for name, schema in self.fields.items()}
        return {name: form for name, form in forms.items() if form is not None}


@dataclass(frozen=True)
class Gate:
    """What stands before every route."""

    admission: Admission
    metrics: Metrics
    key: bytes | None
    timeout: float
    max_body: int
    log_requests: bool


class Endpoint:
    """The ASGI application of one route."""

    def __init__(self, route: Route, gate: Gate) -> None:
        self.route = route
        self.gate = gate
        self._latency = gate.metrics.latency.labels(route.path)
        self._answered: dict[int, Any] = {}
        """The counter of each status."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        started, route, metrics = perf_counter(), self.route, self.gate.metrics
        headers: dict[bytes, bytes] = dict(scope["headers"])
        try:
            answered = await self._admit(scope, headers, receive)
        except _ClientGoneError:
            metrics.rejections.labels("client_gone").inc()
            return
        except Exception as error:
            answered = self._refusal(error, scope["path"])
        await _send(send, answered)
        seconds = perf_counter() - started
        if (counter := self._answered.get(answered.status)) is None:
            counter = self._answered[answered.status] = metrics.requests.labels(route.path, str(answered.status))
        counter.inc()
        self._latency.observe(seconds)
        if self.gate.log_requests:
            _LOG.info(
                "request",
                extra={
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": answered.status,
                    "ms": round(seconds * 1e3, 3),
                },
            )

    def _refusal(self, error: Exception, path: str) -> Answered:
        """Return the answer to a request that failed.

        A method of its own, because `__call__` is in the traceback of the error: if it held the error too, both would
        stay until the garbage collector comes, and with them the model that the request used.
        """
        refused = refusal_of(error)
        if refused is None:
            _LOG.error("failed", exc_info=error, extra={"path": path})
            refused = RefusedError(500, "internal", "an internal error; the log has it")
        self.gate.metrics.rejections.labels(refused.code).inc()
        return Answered(refused.body, status=refused.status, headers=refused.headers)

    async def _admit(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive) -> Answered:
        if not self.route.open:
            check_key(self.gate.key, headers.get(b"authorization"))
        body = await _read(headers, receive, self.gate.max_body)  # first: who sends slowly takes nobody's place
        if not self.route.admitted:
            return await self._answer(scope, headers, body, receive)
        self.gate.admission.enter()
        try:
            return await self._answer(scope, headers, body, receive)
        finally:
            self.gate.admission.leave()

    async def _answer(self, scope: Scope, headers: Mapping[bytes, bytes], body: bytes, receive: Receive) -> Answered:
        route = self.route
        deadline = deadline_of(headers.get(b"x-timeout-ms"), self.gate.timeout)
        if scope["method"] in WITHOUT_BODY:
            values = parse_query(scope["query_string"], route.query_fields)
        else:
            if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != _JSON.encode():
                raise RefusedError(415, "not_json", f"content-type: expected {_JSON}")
            values = parse_json(body)
        fields = check(values, route.fields, route.required)
        result = await route.answer(Call(fields, scope.get("path_params", {}), route.path, deadline, receive))
        return result if isinstance(result, Answered) else Answered(json.dumps(result).encode())


class _ClientGoneError(Exception):
    """The client left before its request was complete."""


async def _read(headers: Mapping[bytes, bytes], receive: Receive, most: int) -> bytes:
    """Read the body.

    Raises:
        RefusedError: 413; it is larger than `most` bytes.
    """
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 18 or int(length) > most:
        raise _too_large(most)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGoneError
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(most: int) -> RefusedError:
    return RefusedError(413, "too_large", f"body: expected at most {most} bytes", {"Connection": "close"})


async def _send(send: Send, answered: Answered) -> None:
    """Send a whole response."""
    headers = [
        (b"content-type", answered.content_type.encode()),
        (b"content-length", b"%d" % len(answered.body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *((name.lower().encode(), value.encode()) for name, value in answered.headers.items()),
    ]
    await send({"type": "http.response.start", "status": answered.status, "headers": headers})
    await send({"type": "http.response.body", "body": answered.body})

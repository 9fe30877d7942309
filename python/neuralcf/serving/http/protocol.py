"""uvicorn's HTTP protocol, with the bounds that it lacks: size of headers, time to receive a request, connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from neuralcf.serving.http.refusals import RefusedError, overloaded

__all__ = ["BoundedProtocol", "bounded"]

MAX_HEADERS: Final = 32 << 10
"""The most bytes of a request line and headers; what comes with the last of them may be longer by one read."""


def _response(refused: RefusedError, *headers: bytes) -> bytes:
    status = b"HTTP/1.1 %d %s" % (refused.status, HTTPStatus(refused.status).phrase.encode())
    extra = (f"{name.lower()}: {value}".encode() for name, value in refused.headers.items())
    length = b"content-length: %d" % len(refused.body)
    return b"\r\n".join([status, b"content-type: application/json", length, *extra, *headers, b"", refused.body])


_FULL: Final = _response(overloaded("requests"))
_REFUSED: Final = SimpleNamespace(response_complete=True, message_event=SimpleNamespace(set=lambda: None))
"""Stands for the request that was refused: uvicorn takes it for one that is answered, and skips its body."""


class _Corked:
    """A transport that sends what is written during one turn of the event loop with one system call.

    uvicorn writes the head of a response, and then its body.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._parts:
            self._transport.write(b"".join(self._parts))
            self._parts.clear()


class BoundedProtocol(HttpToolsProtocol):
    """Answers 431, 408 and 503 in the service's shape where uvicorn would read on, wait on, or accept on."""

    receive_timeout: float = 10.0
    """Seconds from the connection, or from the first byte of a further request, to the last byte of a request."""
    max_connections: int = 1000
    is_full: Callable[[bytes], bool] = staticmethod(lambda _path: False)
    """Whether there is no room for a request to this path; then it is refused at a fifth of the cost."""

    cycle: Any
    """uvicorn's request that is being answered, or was last."""
    _timer: asyncio.TimerHandle | None = None
    _in_headers = True
    _receiving = True
    _header_bytes = 0
    _too_large = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock."""
        super().connection_made(_Corked(transport, self.loop))  # type: ignore[arg-type]
        if len(self.connections) > self.max_connections:
            self._refuse(overloaded("connections"))
            return
        self._timer = self.loop.call_later(self.receive_timeout, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of headers, and start the clock for a request that is not complete."""
        if self.transport.is_closing():
            return
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._in_headers and self._header_bytes > MAX_HEADERS:
            self._refuse_headers()
        elif not self._receiving:
            self._stop_clock()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.receive_timeout, self._too_slow)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._receiving = self._in_headers = True

    def on_headers_complete(self) -> None:
        """Its headers are complete."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        self._in_headers = False
        self._header_bytes = 0
        if size > MAX_HEADERS:
            self._too_large = True
            raise ValueError("headers too large")  # the parser stops, and uvicorn calls `send_400_response`
        idle = self.cycle is None or self.cycle.response_complete
        path = self.url.partition(b"?")[0]
        if idle and self.parser.should_keep_alive() and self.is_full(path):
            self.cycle = _REFUSED
            self.transport.write(_FULL)
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """It is complete."""
        self._receiving = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, and headers that came in one read."""
        if self._too_large:
            self._refuse_headers()
        else:
            self._refuse(RefusedError(400, "bad_http", msg))

    def _refuse_headers(self) -> None:
        message = f"headers: expected at most {MAX_HEADERS} bytes"
        self._refuse(RefusedError(431, "headers_too_large", message))

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and self.cycle.response_started:
            self.transport.close()
        else:
            message = f"the request did not arrive within {self.receive_timeout:g} seconds"
            self._refuse(RefusedError(408, "too_slow", message))

    def _refuse(self, refused: RefusedError) -> None:
        """Answer and close."""
        if not self.transport.is_closing():
            self.transport.write(_response(refused, b"connection: close"))
            self.transport.close()


def bounded(receive_timeout: float, max_connections: int, is_full: Callable[[bytes], bool]) -> type[Any]:
    """Return a protocol class with these bounds."""
    bounds = {
        "receive_timeout": receive_timeout,
        "max_connections": max_connections,
        "is_full": staticmethod(is_full),
    }
    return type("Bounded", (BoundedProtocol,), bounds)

"""uvicorn's HTTP protocol, with the bounds that it lacks: size of headers, time to receive a request, connections."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["BoundedProtocol", "bounded"]

MAX_HEADERS: Final = 32 << 10
"""The most bytes of a request line and headers; what comes with the last of them may be longer by one read."""


class BoundedProtocol(HttpToolsProtocol):
    """Answers 431, 408 and 503 in the service's shape where uvicorn would read on, wait on, or accept on."""

    receive_timeout: float = 10.0
    """Seconds from the connection, or from the first byte of a further request, to the last byte of a request."""
    max_connections: int = 1000

    _timer: asyncio.TimerHandle | None = None
    _in_headers = True
    _receiving = True
    _header_bytes = 0
    _too_large = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > self.max_connections:
            self._refuse(503, "overloaded", "too many connections; try again in a second", b"retry-after: 1\r\n")
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
            self._refuse(400, "bad_http", msg)

    def _refuse_headers(self) -> None:
        self._refuse(431, "headers_too_large", f"headers: expected at most {MAX_HEADERS} bytes")

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
            self._refuse(408, "too_slow", f"the request did not arrive within {self.receive_timeout:g} seconds")

    def _refuse(self, status: int, code: str, message: str, extra: bytes = b"") -> None:
        """Answer and close."""
        if self.transport.is_closing():
            return
        body = json.dumps({"error": message, "code": code}).encode()
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n%s\r\n%s"
            % (status, HTTPStatus(status).phrase.encode(), len(body), extra, body)
        )
        self.transport.close()


def bounded(receive_timeout: float, max_connections: int) -> type[Any]:
    """Return a protocol class with these bounds."""
    return type("Bounded", (BoundedProtocol,), {"receive_timeout": receive_timeout, "max_connections": max_connections})

"""Our server: uvicorn, with bounds on connections, and a stop that finishes what was accepted."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Coroutine, Iterator
from typing import Any, Final

import uvicorn

from neuralcf.serving.http.app import Service
from neuralcf.serving.http.model import model_id
from neuralcf.serving.http.protocol import bounded
from neuralcf.serving.http.refusals import RefusedError
from neuralcf.serving.http.reloading import Reloader, watch
from neuralcf.serving.watcher import Changes

__all__ = ["serve"]

_LOG: Final = logging.getLogger("neuralcf.serving")
_ACCEPTED: Final = 16
"""Connections that are accepted in one turn of the event loop, which takes some 10 ms under too many requests: uvloop
accepts one from each listening socket."""
_SWITCH: Final = 5e-4
"""Seconds after which the engine's thread gets the interpreter from the event loop; Python's default is ten times as
long."""


def serve(
    service: Service,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    receive_timeout: float = 10.0,
    max_connections: int = 1000,
    drain: float = 0.0,
    watched: Changes | None = None,
    watch_every: float = 1.0,
) -> None:
    """Serve until SIGTERM or SIGINT, then answer what was accepted and return.

    Args:
        service: what to serve.
        host: the address to listen on.
        port: the port; 0 takes a free one, which the log tells.
        receive_timeout: seconds to receive a request.
        max_connections: the most connections.
        drain: seconds from a signal, which makes `/readyz` say no, until no more connections are accepted.
        watched: the files of the model, looked at before they were loaded, to load it again when they have changed;
            None to watch nothing.
        watch_every: seconds between two looks.

    Raises:
        OSError: the address cannot be listened on.
    """
    sys.setswitchinterval(_SWITCH)
    gc.collect()
    gc.freeze()  # what is here stays: a full collection would take tens of milliseconds to look at it again
    config = uvicorn.Config(
        service.app,
        http=bounded(receive_timeout, max_connections, service.is_full),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=30,
    )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=1024) as listener:
        listeners = [listener, *(listener.dup() for _ in range(_ACCEPTED - 1))]
        _Server(config, service, drain, watched, watch_every).run(sockets=listeners)
    service.close()
    _LOG.info("stopped")


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        drain: float,
        watched: Changes | None,
        watch_every: float,
    ) -> None:
        super().__init__(config)
        self._service = service
        self._drain = drain
        self._watched = watched
        self._watch_every = watch_every
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `startup`: uvicorn's own handlers end the process by the signal, not with exit code 0."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell where."""
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, loop)
        reloader = self._service.reloader
        loop.add_signal_handler(signal.SIGHUP, lambda: self._start(_reload(reloader)))
        if self._watched is not None:
            self._start(watch(self._watched, reloader, self._watch_every))
        assert sockets is not None
        host, port = sockets[0].getsockname()[:2]
        model = self._service.model
        _LOG.info(
            "listening",
            extra={
                "url": f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}",
                "model_id": model_id(model.recommender),
                "shares_calls": model.cost.shares_calls,
            },
        )

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # a loop alone does not keep a task
        task.add_done_callback(self._tasks.discard)

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say no to `/readyz`, and stop after the time for draining; at once at the second signal."""
        if self._service.draining:
            self.should_exit = True
            return
        _LOG.info("draining", extra={"seconds": self._drain})
        self._service.draining = True
        loop.call_later(self._drain, setattr, self, "should_exit", True)


async def _reload(reloader: Reloader) -> None:
    with contextlib.suppress(RefusedError):  # logged
        await reloader.reload("SIGHUP")

"""What Prometheus reads at `/metrics`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_SECONDS: Final = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_USERS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of one service, in a registry of their own."""

    def __init__(self, generation: Callable[[], float]) -> None:
        """Make them; `generation` returns the generation of the model."""
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"namespace": "neuralcf", "registry": self.registry}
        self.requests = Counter("requests", "Requests answered", ["route", "status"], **own)
        self.latency = Histogram("request_seconds", "From headers to answer", ["route"], buckets=_SECONDS, **own)
        self.queue_wait = Histogram("queue_wait_seconds", "Waiting for the engine", buckets=_SECONDS, **own)
        self.compute = Histogram("compute_seconds", "One call of the engine", buckets=_SECONDS, **own)
        self.batch = Histogram("batch_requests", "Requests that shared a call of the engine", buckets=_USERS, **own)
        self.rejections = Counter("rejections", "Requests not answered with a result", ["reason"], **own)
        self.in_flight = Gauge("in_flight", "Requests accepted and not yet answered", **own)
        self.generation = Gauge("generation", "Generation: 1, and 1 more with every change of model or sets", **own)
        self.generation.set_function(generation)
        self.reloads = Counter("reloads", "New models, loaded or refused", ["outcome"], **own)

    def page(self) -> bytes:
        """Return the text that Prometheus reads."""
        text: bytes = generate_latest(self.registry)
        return text

"""The settings of a service."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Limits of the service, and who may ask what."""

    max_k: int = 1000
    """The longest list."""
    max_users: int = 256
    """The most users in a request."""
    max_items: int = 10_000
    """The most items in a list of a request."""
    max_body: int = 1 << 20
    """The largest body, in bytes."""
    max_in_flight: int = 64
    """The most requests accepted and not yet answered."""
    max_wait: float = 0.1
    """The longest that a request may be expected to wait for the engine, in seconds."""
    max_shared: int = 64
    """The most requests in one call of the engine."""
    timeout: float = 2.0
    """Seconds to answer a request."""
    api_key: str | None = None
    """The key that requests must carry; None for none."""
    admin: bool = True
    """Whether there are the routes under /admin, which change what this process serves; with several processes, each
    request would change one of them."""
    log_requests: bool = False
    """Whether to log every request."""

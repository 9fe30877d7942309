"""The service as an ASGI application: `make_app(recommender)` for any server, `neuralcf serve` for ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from neuralcf.serving.http.admission import Admission
from neuralcf.serving.http.batching import Batcher
from neuralcf.serving.http.catalogue import CatalogueRoutes
from neuralcf.serving.http.endpoint import Answered, Call, Endpoint, Gate, Route
from neuralcf.serving.http.inference_protocol import InferenceProtocol
from neuralcf.serving.http.item_changes import ItemChangeRoutes
from neuralcf.serving.http.lists import ListRoutes
from neuralcf.serving.http.metrics import CONTENT_TYPE, Metrics
from neuralcf.serving.http.model import Prepare, ServedModel, model_id
from neuralcf.serving.http.openapi import describe
from neuralcf.serving.http.page import page
from neuralcf.serving.http.pairs import PairRoutes
from neuralcf.serving.http.refusals import RefusedError
from neuralcf.serving.http.reloading import Reloader
from neuralcf.serving.http.schemas import Schemas
from neuralcf.serving.http.settings import Settings
from neuralcf.serving.recommender import Recommender

__all__ = ["Application", "Service", "Settings", "make_app"]


def make_app(
    recommender: Recommender, settings: Settings | None = None, *, titles: Mapping[int | str, str] | None = None
) -> Application:
    """Make the ASGI application.

    Args:
        recommender: the model.
        settings: limits.
        titles: titles of items by id, which answers then carry.

    Raises:
        ModelFormatError: the model contradicts itself.
    """
    return Service(recommender, settings or Settings(), lambda _: titles).app


class Application:
    """The ASGI application: routes without variable parts by a look-up, all others and errors by Starlette."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._plain = {
            (method, endpoint.route.path): endpoint for endpoint in endpoints for method in endpoint.route.methods
        }
        by_path: dict[str, dict[str, Endpoint]] = {}
        for (method, path), endpoint in self._plain.items():
            by_path.setdefault(path, {})[method] = endpoint
        self._starlette = Starlette(
            routes=[StarletteRoute(path, _ByMethod(found), methods=list(found)) for path, found in by_path.items()],
            exception_handlers={HTTPException: _refuse},
        )
        self._starlette.router.redirect_slashes = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        endpoint = self._plain.get((scope.get("method"), scope.get("path")))
        await (endpoint or self._starlette)(scope, receive, send)


class _ByMethod:
    """The endpoints of a path."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = {"HEAD": endpoints["GET"], **endpoints} if "GET" in endpoints else endpoints

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._endpoints[scope["method"]](scope, receive, send)


class Service:
    """What all routes share, and the routes of its operation: the page, health, metrics, reload."""

    def __init__(self, recommender: Recommender, settings: Settings, prepare: Prepare = lambda _: None) -> None:
        """Check the model, and make the routes.

        Args:
            recommender: the model.
            settings: limits.
            prepare: sets the named sets and groups of a model that was just loaded, and returns titles of items.

        Raises:
            ModelFormatError: the model contradicts itself.
            Exception: what `prepare` raises.
        """
        self.metrics = Metrics(lambda: recommender.generation)
        self.model = model = ServedModel(recommender, prepare)
        self.reloader = Reloader(model, self.metrics)
        self.engine, self.aside = (
            Batcher(model.snapshot, lambda: model.cost, self.metrics, most=settings.max_shared) for _ in range(2)
        )
        self.draining = False
        self._sound = 0.0, True
        admission = Admission(
            self.engine.expected_wait,
            lambda: self.engine.seconds_per_call,
            most=settings.max_in_flight,
            max_wait=settings.max_wait,
        )
        self.metrics.in_flight.set_function(lambda: admission.in_flight)
        key = None if settings.api_key is None else settings.api_key.encode()
        self.gate = Gate(
            admission, self.metrics, key, settings.timeout, settings.max_body, log_requests=settings.log_requests
        )
        schemas = Schemas(recommender.user_ids.kind, recommender.item_ids.kind, model.features, settings)
        ask, ask_aside = self.engine.ask, self.aside.ask
        routes = [
            *ListRoutes(model, ask, ask_aside, schemas).routes(),
            *PairRoutes(model, ask, ask_aside, schemas).routes(),
            *CatalogueRoutes(model, ask_aside, schemas, admin=settings.admin).routes(),
            *(ItemChangeRoutes(model, ask_aside, schemas).routes() if settings.admin else []),
            *InferenceProtocol(model, ask, self.livez, self.readyz, schemas).routes(),
            *self._routes(admin=settings.admin),
        ]
        self.document = describe(routes)
        self._admitted = {route.path.encode() for route in routes if route.admitted}
        self.app = Application([Endpoint(route, self.gate) for route in routes])

    def is_full(self, path: bytes) -> bool:
        """Return whether a request is to be refused before anything is done for it; count it then."""
        full = path in self._admitted and self.gate.admission.is_full()
        if full:
            self.metrics.rejections.labels("overloaded").inc()
        return full

    def close(self) -> None:
        """End the threads once what waits is answered."""
        self.engine.close()
        self.aside.close()

    def _routes(self, *, admin: bool) -> list[Route]:
        reload = Route(
            "/admin/reload",
            ("POST",),
            "Load the model again, if it has changed",
            self.reload,
            refusals=(409,),
            admitted=False,
        )
        show_page = Route(
            "/",
            ("GET",),
            "A page to try it",
            self.page,
            content_type="text/html; charset=utf-8",
            response={"type": "string"},
            open=True,
            admitted=False,
        )
        show_metrics = Route(
            "/metrics",
            ("GET",),
            "Metrics for Prometheus",
            self.show_metrics,
            content_type=CONTENT_TYPE,
            response={"type": "string"},
            admitted=False,
        )
        return [
            *([reload] if admin else []),
            show_page,
            Route("/livez", ("GET",), "Whether the process lives", self.livez, open=True, admitted=False),
            Route("/readyz", ("GET",), "Whether it can answer now", self.readyz, open=True, admitted=False),
            show_metrics,
            Route("/openapi.json", ("GET",), "This description", self.openapi, open=True, admitted=False),
        ]

    async def reload(self, _call: Call) -> Any:
        """Answer /admin/reload."""
        changed = await self.reloader.reload("request")
        now = self.model.snapshot()
        return {"changed": changed, "model_id": model_id(now), "generation": now.generation}

    async def page(self, _call: Call) -> Any:
        """Answer /."""
        recommender = self.model.recommender
        some = recommender.user_ids.take(range(min(5, recommender.num_users)))
        about = {
            "text": f"A {recommender.scorer.kind.upper()} model of {recommender.num_users:,} users and "
            f"{recommender.num_items:,} items.",
            "user_ids": recommender.user_ids.kind,
            "users": [str(user) for user in some],
            "exclude_seen": self.model.features["exclude_seen"],
        }
        body, headers = page(about)
        return Answered(body, "text/html; charset=utf-8", headers=headers)

    async def livez(self, _call: Call) -> Any:
        """Answer /livez: the event loop turns."""
        return {"live": True}

    async def readyz(self, call: Call) -> Any:
        """Answer /readyz: the golden query, at most once a second, has the answer that it had at load."""
        if self.draining:
            raise RefusedError(503, "draining", "the service is about to stop")
        asked, sound = self._sound
        if monotonic() - asked > 1:
            sound = bool((await self.engine.ask(lambda _: self.model.is_sound(), call)).value)
            self._sound = monotonic(), sound
        if not sound:
            raise RefusedError(503, "unsound", "the golden query has another answer than at load")
        now = self.model.snapshot()
        return {"ready": True, "model_id": model_id(now), "generation": now.generation}

    async def show_metrics(self, _call: Call) -> Any:
        """Answer /metrics."""
        return Answered(self.metrics.page(), CONTENT_TYPE)

    async def openapi(self, _call: Call) -> Any:
        """Answer /openapi.json."""
        return self.document


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer for an unknown path or method in the one shape of refusals."""
    assert isinstance(error, HTTPException)
    headers = {**(error.headers or {})}
    code, message = "no_such_path", "no such path; /openapi.json describes all"
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
        code, message = "method_not_allowed", f"expected {headers['Allow']}, got {request.method}"
    return Response(json.dumps({"error": message, "code": code}), error.status_code, headers, "application/json")

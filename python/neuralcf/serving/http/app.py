"""The service as an ASGI application: `make_app(recommender)` for any server, `neuralcf serve` for ours."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from neuralcf.errors import ArgumentError
from neuralcf.serving.http.admission import Admission
from neuralcf.serving.http.batching import Answer, EngineThread
from neuralcf.serving.http.endpoint import Answered, Call, Endpoint, Gate, Route
from neuralcf.serving.http.fields import Schema
from neuralcf.serving.http.inference_protocol import InferenceProtocol
from neuralcf.serving.http.metrics import CONTENT_TYPE, Metrics
from neuralcf.serving.http.model import ServedModel
from neuralcf.serving.http.openapi import describe
from neuralcf.serving.http.page import page
from neuralcf.serving.http.refusals import RefusedError
from neuralcf.serving.http.reloading import Reloader
from neuralcf.serving.recommendations import Recommendations
from neuralcf.serving.recommender import Recommender
from neuralcf.serving.requests import RecommendRequest

__all__ = ["Application", "Service", "Settings", "make_app"]

_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True)
class Settings:
    """Limits of the service."""

    max_k: int = 1000
    """The longest list."""
    max_users: int = 256
    """The most users in a request."""
    max_items: int = 10_000
    """The most items in a request."""
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
    log_requests: bool = False
    """Whether to log every request."""


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
    return Service(recommender, settings or Settings(), titles).app


class Application:
    """The ASGI application: routes without variable parts by a look-up, all others and errors by Starlette."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._plain = {
            (method, endpoint.route.path): endpoint for endpoint in endpoints for method in endpoint.route.methods
        }
        self._starlette = Starlette(
            routes=[StarletteRoute(one.route.path, one, methods=list(one.route.methods)) for one in endpoints],
            exception_handlers={HTTPException: _refuse},
        )
        self._starlette.router.redirect_slashes = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        endpoint = self._plain.get((scope.get("method"), scope.get("path")))
        await (endpoint or self._starlette)(scope, receive, send)


class Service:
    """The routes and what they share."""

    def __init__(
        self, recommender: Recommender, settings: Settings, titles: Mapping[int | str, str] | None = None
    ) -> None:
        self.settings = settings
        self.titles = titles
        self.reloader: Reloader | None = None
        self.metrics = Metrics()
        self.model = ServedModel.of(recommender, 1)
        self.metrics.generation.set(1)
        self.engine = EngineThread(lambda: self.model, self.metrics, most=settings.max_shared)
        self.draining = False
        self._sound = 0.0, True
        admission = Admission(
            self.metrics,
            self.engine.expected_wait,
            most=settings.max_in_flight,
            max_wait=settings.max_wait,
        )
        key = None if settings.api_key is None else settings.api_key.encode()
        self.gate = Gate(
            admission, self.metrics, key, settings.timeout, settings.max_body, log_requests=settings.log_requests
        )
        self.features = _features(recommender)
        routes = self.routes()
        self.document = describe(routes)
        self._admitted = {route.path.encode() for route in routes if route.admitted}
        self.app = Application([Endpoint(route, self.gate) for route in routes])

    def is_full(self, path: bytes) -> bool:
        """Return whether a request is to be refused before anything is done for it; count it then."""
        full = path in self._admitted and self.gate.admission.is_full()
        if full:
            self.metrics.rejections.labels("overloaded").inc()
        return full

    def exchange(self, model: ServedModel, titles: Mapping[int | str, str] | None) -> None:
        """Serve another model from the next call of the engine on."""
        self.model, self.titles = model, titles
        self.metrics.generation.set(model.generation)

    def routes(self) -> list[Route]:
        """Return all routes."""
        recommender, limits = self.model.recommender, self.settings
        user, item = _id_schema(recommender.user_ids.kind), _id_schema(recommender.item_ids.kind)
        items: Schema = {"type": "array", "items": item, "maxItems": limits.max_items}
        scored: dict[str, Any] = {
            "type": "object",
            "required": ["item", "score"],
            "properties": {"item": item, "score": {"type": "number"}, "title": {"type": ["string", "null"]}},
        }
        listed = {
            "type": "object",
            "required": ["user", "known", "items"],
            "properties": {"user": user, "known": {"type": "boolean"}, "items": {"type": "array", "items": scored}},
        }
        options: dict[str, Schema] = {
            "k": {
                "type": "integer",
                "minimum": 1,
                "maximum": limits.max_k,
                "default": 10,
                "description": "how many items for each user",
            },
            "exclude_seen": {
                "type": "boolean",
                "default": True,
                "description": "leave out what the users have already seen",
            },
            "allow": {**items, "description": "the only items to return"},
            "deny": {**items, "description": "items never to return"},
            "min_score": {"type": "number", "description": "leave out items that score less"},
            "on_unknown": {
                "type": "string",
                "enum": ["raise", "skip", "popular"] if self.features["popular"] else ["raise", "skip"],
                "default": "raise",
                "description": "refuse unknown ids, give unknown users an empty list, or popular items",
            },
            "logits": {"type": "boolean", "default": False, "description": "logits instead of probabilities"},
        }
        users: Schema = {"type": "array", "items": user, "maxItems": limits.max_users, "description": "ids of users"}
        histories: Schema = {
            "type": "array",
            "items": items,
            "minItems": 1,
            "maxItems": limits.max_users,
            "description": "the items of each user",
        }
        titled: Schema = {
            "type": "object",
            "required": ["item", "title"],
            "properties": {"item": item, "title": scored["properties"]["title"]},
        }
        for_histories = Route(
            "/recommend_for_history",
            ("POST",),
            "The best items of users who are not in the model, by the items that they have",
            self.recommend_for_history,
            fields={"histories": histories, **options},
            required=("histories",),
            response=_answer({"lists": {"type": "array", "items": {**listed, "required": ["known", "items"]}}}),
            refusals=(404,),
        )
        protocol = InferenceProtocol(
            lambda: self.model, self._ask, self.livez, self.readyz, {"users": users, **options}, limits.max_items
        )
        return [
            *([for_histories] if self.features["histories"] else []),
            *protocol.routes(),
            Route(
                "/items",
                ("POST", "GET"),
                "Items by a part of their title, or by their id",
                self.items,
                fields={
                    "query": {"type": "string", "maxLength": 200, "description": "a part of a title, or an id"},
                    "k": {**options["k"], "description": "how many items at most"},
                },
                required=("query",),
                response={
                    "type": "object",
                    "required": ["items"],
                    "properties": {"items": {"type": "array", "items": titled}},
                },
            ),
            Route(
                "/admin/reload",
                ("POST",),
                "Load the model again, if it has changed",
                self.reload,
                refusals=(409,),
                admitted=False,
            ),
            Route(
                "/",
                ("GET",),
                "A page to try it",
                self.page,
                content_type="text/html; charset=utf-8",
                response={"type": "string"},
                open=True,
                admitted=False,
            ),
            Route(
                "/recommend",
                ("POST", "GET"),
                "The best items of each user",
                self.recommend,
                fields={"users": users, **options},
                required=("users",),
                response=_answer({"lists": {"type": "array", "items": listed}}),
                refusals=(404,),
            ),
            Route(
                "/score",
                ("POST", "GET"),
                "Scores of pairs of a user and an item",
                self.score,
                fields={
                    "users": {**users, "maxItems": limits.max_items, "description": "one user, or one for each item"},
                    "items": {**items, "description": "ids of items"},
                    "logits": options["logits"],
                },
                required=("users", "items"),
                response=_answer({"scores": {"type": "array", "items": {"type": "number"}}}),
                refusals=(404,),
            ),
            Route("/livez", ("GET",), "Whether the process lives", self.livez, open=True, admitted=False),
            Route("/readyz", ("GET",), "Whether it can answer now", self.readyz, open=True, admitted=False),
            Route(
                "/metrics",
                ("GET",),
                "Metrics for Prometheus",
                self.show_metrics,
                content_type=CONTENT_TYPE,
                response={"type": "string"},
                admitted=False,
            ),
            Route("/openapi.json", ("GET",), "This description", self.openapi, open=True, admitted=False),
        ]

    async def recommend(self, call: Call) -> Any:
        """Answer /recommend."""
        users = call.fields["users"]
        return await self._lists(call, [{"user": user} for user in users], users=users)

    async def recommend_for_history(self, call: Call) -> Any:
        """Answer /recommend_for_history."""
        histories = call.fields["histories"]
        return await self._lists(call, [{} for _ in histories], histories=histories)

    async def _lists(self, call: Call, whose: list[dict[str, Any]], **asked: Any) -> Any:
        """Answer with a list for each user, which begins with what `whose` says."""
        fields = call.fields
        request = RecommendRequest(
            **asked,
            k=fields["k"],
            exclude_seen=fields["exclude_seen"],
            allow=None if fields["allow"] is None else tuple(fields["allow"]),
            deny=None if fields["deny"] is None else tuple(fields["deny"]),
            min_score=fields["min_score"],
            on_unknown=fields["on_unknown"],
            logits=fields["logits"],
        )
        answer = await self._ask(request, call)
        best: Recommendations = answer.value
        ids, scores = best.ids.tolist(), best.scores.tolist()
        lists = [
            {**user, "known": known, "items": self._items(ids[row][:count], scores[row][:count])}
            for row, (user, count, known) in enumerate(
                zip(whose, best.counts.tolist(), best.known.tolist(), strict=True)
            )
        ]
        return _signed({"lists": lists}, answer)

    async def items(self, call: Call) -> Any:
        """Answer /items: the item with this id, then titles that contain the query, the shortest first."""
        query, k = call.fields["query"].casefold().strip(), call.fields["k"]
        titles = self.titles or {}
        found: list[int | str] = []
        ids = self.model.recommender.item_ids
        if ids.kind == "str" or _INTEGER.fullmatch(query):
            one: Any = [int(query)] if ids.kind != "str" else [call.fields["query"]]
            found = one if ids.find(one)[0] >= 0 else []
        if query:
            matching = [item for item, title in titles.items() if query in title.casefold() and item not in found]
            found += sorted(matching, key=lambda item: len(titles[item]))
        return {"items": [{"item": item, "title": titles.get(item)} for item in found[:k]]}

    async def reload(self, _call: Call) -> Any:
        """Answer /admin/reload."""
        if self.reloader is None:
            raise RefusedError(409, "model_refused", "this service was made without a place to load from")
        changed = await self.reloader.reload("request")
        return {"changed": changed, "model_id": self.model.id, "generation": self.model.generation}

    async def page(self, _call: Call) -> Any:
        """Answer /."""
        recommender = self.model.recommender
        about = {
            "text": f"A {recommender.scorer.kind.upper()} model of {recommender.num_users:,} users and "
            f"{recommender.num_items:,} items.",
            "user_ids": recommender.user_ids.kind,
            "users": [str(user) for user in _listed(recommender.user_ids.take(range(min(5, recommender.num_users))))],
            "exclude_seen": self.features["seen"],
            "histories": self.features["histories"],
        }
        body, headers = page(about)
        return Answered(body, "text/html; charset=utf-8", headers=headers)

    async def score(self, call: Call) -> Any:
        """Answer /score."""
        users, items, logits = call.fields["users"], call.fields["items"], call.fields["logits"]
        one = users[0] if len(users) == 1 else users
        answer = await self._ask(lambda model: model.score_batch(one, items, logits=logits), call)
        return _signed({"scores": answer.value.tolist()}, answer)

    async def livez(self, _call: Call) -> Any:
        """Answer /livez: the event loop turns."""
        return {"live": True}

    async def readyz(self, call: Call) -> Any:
        """Answer /readyz: the golden query, at most once a second, has the answer that it had at load."""
        if self.draining:
            raise RefusedError(503, "draining", "the service is about to stop")
        asked, sound = self._sound
        if monotonic() - asked > 1:
            model = self.model
            answer = await self.engine.ask(lambda _: model.is_sound(), call.deadline, call.receive)
            sound = bool(answer.value)
            self._sound = monotonic(), sound
        if not sound:
            raise RefusedError(503, "unsound", "the golden query has another answer than at load")
        return {"ready": True, "model_id": self.model.id, "generation": self.model.generation}

    async def show_metrics(self, _call: Call) -> Any:
        """Answer /metrics."""
        return Answered(self.metrics.page(), CONTENT_TYPE)

    async def openapi(self, _call: Call) -> Any:
        """Answer /openapi.json."""
        return self.document

    async def _ask(self, query: Any, call: Call) -> Answer:
        return await self.engine.ask(query, call.deadline, call.receive)

    def _items(self, ids: list[Any], scores: list[float]) -> list[dict[str, Any]]:
        titles = self.titles
        if titles is None:
            return [{"item": item, "score": score} for item, score in zip(ids, scores, strict=True)]
        return [
            {"item": item, "score": score, "title": titles.get(item)} for item, score in zip(ids, scores, strict=True)
        ]


def _features(recommender: Recommender) -> dict[str, bool]:
    """Return what the model can do."""
    features = {"seen": recommender.scorer.nbytes["seen"] > 0, "histories": True, "popular": True}
    try:
        recommender.recommend_for_history([recommender.item_ids.take([0])[0]], 1)  # type: ignore[list-item]
    except ArgumentError:
        features["histories"] = False
    try:
        recommender.recommend([], 1, on_unknown="popular")
    except ArgumentError:
        features["popular"] = False
    return features


def _listed(ids: Any) -> list[Any]:
    return list(ids if isinstance(ids, list) else ids.tolist())


def _signed(body: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """Add which model answered."""
    return {**body, "model_id": answer.model.id, "generation": answer.model.generation}


def _answer(properties: Mapping[str, Schema]) -> Schema:
    """Return the schema of a signed answer."""
    signature = {"model_id": {"type": "string"}, "generation": {"type": "integer"}}
    return {
        "type": "object",
        "required": [*properties, *signature],
        "properties": {**properties, **signature},
    }


def _id_schema(kind: str) -> Schema:
    if kind == "str":
        return {"type": "string", "maxLength": 1024}
    return {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}


async def _refuse(_request: Request, error: Exception) -> Response:
    """Answer for an unknown path or method in the one shape of refusals."""
    assert isinstance(error, HTTPException)
    code = {404: "no_such_path", 405: "method_not_allowed"}.get(error.status_code, "refused")
    body = json.dumps({"error": error.detail, "code": code})
    return Response(body, error.status_code, dict(error.headers or {}), "application/json")

"""The routes that answer with lists: /recommend, /recommend_for_history, /similar, /similar_users."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Any, Final

from neuralcf.serving.http.batching import Answer, Ask
from neuralcf.serving.http.endpoint import Call, Route
from neuralcf.serving.http.fields import Schema
from neuralcf.serving.http.model import ServedModel, Side, Titles, model_id
from neuralcf.serving.http.refusals import RefusedError
from neuralcf.serving.http.schemas import Schemas, answer_schema
from neuralcf.serving.recommendations import Recommendations
from neuralcf.serving.recommender import Recommender
from neuralcf.serving.requests import RecommendRequest

__all__ = ["ListRoutes", "check_names", "signed", "titled"]

_NAME: Final = re.compile(r"[\w.:]+")
_WEIGHT: Final[Schema] = {"type": "number", "minimum": 1e-6, "maximum": 1e6}


class ListRoutes:
    """The routes, over the queries of a `Recommender`."""

    def __init__(self, model: ServedModel, ask: Ask, ask_aside: Ask, schemas: Schemas) -> None:
        """Make them.

        Args:
            model: what is served.
            ask: answers a query.
            ask_aside: answers one that may take long, so that others do not wait for it.
            schemas: what a request may say.
        """
        self._model = model
        self._ask = ask
        self._ask_aside = ask_aside
        self._schemas = schemas
        self._computed: dict[Side, asyncio.Future[None]] = {}

    def routes(self) -> list[Route]:
        """Return the routes."""
        schemas = self._schemas
        histories: Schema = {
            "type": "array",
            "items": schemas.items,
            "minItems": 1,
            "maxItems": schemas.max_users,
            "description": "the items of each user",
        }
        weights: Schema = {
            **histories,
            "items": {**schemas.items, "items": _WEIGHT},
            "description": "how much each item counts, in the form of the histories",
        }
        items = {**schemas.items, "maxItems": schemas.max_users, "description": "ids of items"}
        alike = {"user": schemas.user, "score": {"type": "number"}}
        similar_users: Schema = {
            "type": "object",
            "required": ["user", "users"],
            "properties": {
                "user": schemas.user,
                "users": {"type": "array", "items": {"type": "object", "required": [*alike], "properties": alike}},
            },
        }
        return [
            Route(
                "/recommend",
                ("POST", "GET"),
                "The best items of each user",
                self.recommend,
                fields={"users": schemas.users, **schemas.of_users},
                required=("users",),
                response=schemas.lists({"user": schemas.user}),
                refusals=(404,),
            ),
            Route(
                "/recommend_for_history",
                ("POST",),
                "The best items of users who are not in the model, by the items that they have",
                self.recommend_for_history,
                fields={"histories": histories, "weights": weights, **schemas.of_users},
                required=("histories",),
                response=schemas.lists({}),
                refusals=(404,),
            ),
            Route(
                "/similar",
                ("POST", "GET"),
                "The items that are most like each item: that score high for the same users",
                self.similar,
                fields={"items": items, **schemas.of_similar},
                required=("items",),
                response=schemas.lists({"item": schemas.item}),
                refusals=(404,),
            ),
            Route(
                "/similar_users",
                ("POST", "GET"),
                "The users who are most like each user: for whom the same items score high",
                self.similar_users,
                fields={"users": schemas.users, "k": schemas.k},
                required=("users",),
                response=answer_schema({"lists": {"type": "array", "items": similar_users}}),
                refusals=(404,),
            ),
        ]

    async def recommend(self, call: Call) -> Any:
        """Answer /recommend."""
        fields, users = call.fields, call.fields["users"]
        answer = await self._ask(RecommendRequest(users, **self._asked(fields, len(users)), **_of_users(fields)), call)
        return self._lists(answer, [{"user": user} for user in users])

    async def recommend_for_history(self, call: Call) -> Any:
        """Answer /recommend_for_history."""
        fields, histories = call.fields, call.fields["histories"]
        request = RecommendRequest(
            histories=histories,
            weights=fields["weights"],
            **self._asked(fields, len(histories)),
            **_of_users(fields),
        )
        return self._lists(await self._ask(request, call), [{} for _ in histories])

    async def similar(self, call: Call) -> Any:
        """Answer /similar."""
        items, asked = call.fields["items"], self._asked(call.fields, len(call.fields["items"]))
        await self._compute_similar("items", call)

        def similar(recommender: Recommender) -> Recommendations:
            return recommender.similar_items(items, **asked)

        return self._lists(await self._ask_aside(similar, call), [{"item": item} for item in items])

    async def similar_users(self, call: Call) -> Any:
        """Answer /similar_users."""
        users, k = call.fields["users"], call.fields["k"]
        await self._compute_similar("users", call)
        answer = await self._ask_aside(lambda recommender: recommender.similar_users(users, k), call)
        lists = [
            {"user": user, "users": [{"user": one, "score": score} for one, score in row]}
            for user, row in zip(users, answer.value.to_list(), strict=True)
        ]
        return signed({"lists": lists}, answer)

    async def _compute_similar(self, side: Side, call: Call) -> None:
        """Compute the vectors of all items or users, when they are first needed, however long it takes.

        Raises:
            RefusedError: 503; the deadline passed first. The computation goes on.
        """
        if side not in self._computed:
            work = asyncio.get_running_loop().run_in_executor(None, self._model.compute_similar, side)
            self._computed[side] = work
        work = self._computed[side]
        if not work.done():
            await asyncio.wait([work], timeout=max(0.0, call.deadline - monotonic()))
        if not work.done():
            message = f"similar {side} are being computed for the first time; try again in a second"
            raise RefusedError(503, "preparing", message, {"Retry-After": "1"})
        if work.cancelled() or work.exception() is not None:
            del self._computed[side]
        work.result()

    def _asked(self, fields: Mapping[str, Any], rows: int) -> dict[str, Any]:
        """Return the options that all lists of items have.

        Raises:
            RefusedError: 404; a set or group that does not exist. 422; what is said of another number of lists.
        """
        recommender = self._model.recommender
        for what in ("allow", "deny"):
            if isinstance(fields[what], str):
                check_names(what, "set", _NAME.findall(fields[what]), recommender.item_sets)
        if fields["max_per_group"] is not None:
            check_names("max_per_group", "group", fields["max_per_group"], recommender.item_groups)
        for what in ("after", "exclude"):
            if (given := fields.get(what)) is not None and len(given) != rows:
                raise RefusedError(422, "bad_argument", f"{what}: expected {rows}, one for each list, got {len(given)}")
        after = fields["after"]
        return {
            "k": fields["k"],
            "allow": _items_or_expression(fields["allow"]),
            "deny": _items_or_expression(fields["deny"]),
            "min_score": fields["min_score"],
            "max_per_group": fields["max_per_group"],
            "after": None if after is None else [end and (end["score"], end["item"]) for end in after],
            "on_unknown": fields["on_unknown"],
        }

    def _lists(self, answer: Answer, whose: list[dict[str, Any]]) -> dict[str, Any]:
        """Return an answer of a list for each user or item, which begins with what `whose` says."""
        best: Recommendations = answer.value
        ids, scores, titles = best.ids.tolist(), best.scores.tolist(), self._model.titles
        lists = [
            {**one, "known": known, "items": titled(ids[row][:count], "score", scores[row][:count], titles)}
            for row, (one, count, known) in enumerate(
                zip(whose, best.counts.tolist(), best.known.tolist(), strict=True)
            )
        ]
        return signed({"lists": lists}, answer)


def check_names(what: str, kind: str, names: Iterable[str], known: Mapping[str, int]) -> None:
    """Check names of sets or groups.

    Raises:
        RefusedError: 404; one does not exist.
    """
    for name in names:
        if name not in known:
            shown = ", ".join(known) or "none"
            raise RefusedError(404, f"unknown_{kind}", f"{what}: no {kind} is named {name!r}; known: {shown}")


def titled(items: list[Any], name: str, numbers: list[float], titles: Titles) -> list[dict[str, Any]]:
    """Return items, each with its number under a name, and with its title, if there are any titles."""
    pairs = zip(items, numbers, strict=True)
    if titles is None:
        return [{"item": item, name: number} for item, number in pairs]
    return [{"item": item, name: number, "title": titles.get(item)} for item, number in pairs]


def signed(body: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """Add which model answered."""
    return {**body, "model_id": model_id(answer.recommender), "generation": answer.recommender.generation}


def _of_users(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in ("exclude_seen", "exclude", "logits", "search", "recall", "probes")}


def _items_or_expression(given: Any) -> Any:
    return tuple(given) if isinstance(given, list) else given

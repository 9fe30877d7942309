"""The routes of the catalogue: items by their titles; and for administrators named sets and groups of items."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from neuralcf.serving.http.batching import Ask
from neuralcf.serving.http.endpoint import Call, Route
from neuralcf.serving.http.fields import Schema
from neuralcf.serving.http.lists import check_names
from neuralcf.serving.http.model import ServedModel
from neuralcf.serving.http.schemas import Schemas

__all__ = ["CatalogueRoutes"]

_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")


class CatalogueRoutes:
    """The routes."""

    def __init__(self, model: ServedModel, ask_aside: Ask, schemas: Schemas, *, admin: bool) -> None:
        """Make them.

        Args:
            model: what is served.
            ask_aside: makes changes beside the answers.
            schemas: what a request may say.
            admin: whether sets and groups may be changed.
        """
        self._model = model
        self._ask_aside = ask_aside
        self._schemas = schemas
        self._admin = admin

    def routes(self) -> list[Route]:
        """Return the routes."""
        schemas = self._schemas
        found: Schema = {
            "type": "object",
            "required": ["item", "title"],
            "properties": {"item": schemas.item, "title": schemas.title},
        }
        items = Route(
            "/items",
            ("POST", "GET"),
            "Items by a part of their title, or by their id",
            self.items,
            fields={
                "query": {"type": "string", "maxLength": 200, "description": "a part of a title, or an id"},
                "k": {**schemas.k, "description": "how many items at most"},
            },
            required=("query",),
            response={"type": "object", "required": ["items"], "properties": {"items": _array(found)}},
        )
        return [items, *(self._admin_routes() if self._admin else [])]

    def _admin_routes(self) -> list[Route]:
        ids = _array(self._schemas.item)
        unknown: Schema = {
            "type": "string",
            "enum": ["raise", "skip"],
            "default": "raise",
            "description": "refuse unknown items, or ignore them",
        }
        groups = _array({"type": ["string", "integer", "null"], "maxLength": 1024})
        changed: Schema = {
            "type": "object",
            "required": ["name", "items", "generation"],
            "properties": {
                "name": {"type": "string"},
                "items": {"type": "integer"},
                "generation": {"type": "integer"},
            },
        }
        counts: Schema = {"type": "object", "additionalProperties": {"type": "integer"}}

        def route(method: str, path: str, summary: str, answer: Any, response: Schema, **more: Any) -> Route:
            refusals = (404,) if "{" in path else ()
            return Route(path, (method,), summary, answer, response=response, refusals=refusals, admitted=False, **more)

        one_set, one_group = "/admin/sets/{name}", "/admin/groups/{name}"
        return [
            route("GET", "/admin/sets", "Named sets, with the number of items in each", self.sets, counts),
            route(
                "PUT",
                one_set,
                "Make or replace a named set",
                self.set_items,
                changed,
                fields={"items": {**ids, "description": "ids of all its items"}, "on_unknown": unknown},
                required=("items",),
                path_schemas={"name": _NAME},
            ),
            route(
                "PATCH",
                one_set,
                "Add items to a named set, and take others out",
                self.change_items,
                changed,
                fields={
                    "add": {**ids, "default": [], "description": "ids of items to add"},
                    "remove": {**ids, "default": [], "description": "ids of items to take out, also of those added"},
                    "on_unknown": unknown,
                },
            ),
            route("DELETE", one_set, "Forget a named set", self.drop_items, changed),
            route("GET", "/admin/groups", "Groups, with the number of items that have one", self.groups, counts),
            route(
                "PUT",
                one_group,
                "Give each item a group",
                self.set_groups,
                changed,
                fields={
                    "items": {**ids, "description": "ids of items; others have no group"},
                    "groups": {**groups, "description": "the group of each, null for none"},
                    "on_unknown": unknown,
                },
                required=("items", "groups"),
            ),
            route("DELETE", one_group, "Forget groups", self.drop_groups, changed),
        ]

    async def items(self, call: Call) -> Any:
        """Answer /items: the item with this id, then titles that contain the query, the shortest first."""
        query, k = call.fields["query"].casefold().strip(), call.fields["k"]
        titles = self._model.titles or {}
        found: list[int | str] = []
        ids = self._model.recommender.item_ids
        if ids.kind == "str" or _INTEGER.fullmatch(query):
            one: Any = [int(query)] if ids.kind != "str" else [call.fields["query"]]
            found = one if ids.find(one)[0] >= 0 else []
        if query:
            matching: Any = [item for item, title in titles.items() if query in title.casefold() and item not in found]
            there = ids.find(matching) >= 0  # others were removed since
            matching = [item for item, is_there in zip(matching, there, strict=True) if is_there]
            found += sorted(matching, key=lambda item: len(titles[item]))
        return {"items": [{"item": item, "title": titles.get(item)} for item in found[:k]]}

    async def sets(self, _call: Call) -> Any:
        """Answer GET /admin/sets."""
        return self._model.recommender.item_sets

    async def groups(self, _call: Call) -> Any:
        """Answer GET /admin/groups."""
        return self._model.recommender.item_groups

    async def set_items(self, call: Call) -> Any:
        """Answer PUT /admin/sets/NAME."""
        name, fields = call.path["name"], call.fields
        return await self._change(
            call, lambda: self._model.recommender.set_items(name, fields["items"], on_unknown=fields["on_unknown"])
        )

    async def change_items(self, call: Call) -> Any:
        """Answer PATCH /admin/sets/NAME."""
        check_names("name", "set", [call.path["name"]], self._model.recommender.item_sets)
        return await self._change(call, lambda: self._model.recommender.change_items(call.path["name"], **call.fields))

    async def drop_items(self, call: Call) -> Any:
        """Answer DELETE /admin/sets/NAME."""
        check_names("name", "set", [call.path["name"]], self._model.recommender.item_sets)
        return await self._change(call, lambda: self._model.recommender.drop_items(call.path["name"]))

    async def set_groups(self, call: Call) -> Any:
        """Answer PUT /admin/groups/NAME."""
        return await self._change(call, lambda: self._model.recommender.set_groups(call.path["name"], **call.fields))

    async def drop_groups(self, call: Call) -> Any:
        """Answer DELETE /admin/groups/NAME."""
        check_names("name", "group", [call.path["name"]], self._model.recommender.item_groups)
        return await self._change(call, lambda: self._model.recommender.drop_groups(call.path["name"]))

    async def _change(self, call: Call, change: Callable[[], None]) -> Any:
        """Change sets or groups, and return what there is now under the name of the path."""
        name, recommender = call.path["name"], self._model.recommender

        def changed(_: object) -> dict[str, Any]:
            change()
            now = recommender.snapshot()
            counts = now.item_groups if "/groups/" in call.route else now.item_sets
            return {"name": name, "items": counts.get(name, 0), "generation": now.generation}

        return (await self._ask_aside(changed, call)).value


_NAME: Final[Schema] = {"type": "string", "minLength": 1, "pattern": r"^[\w.:]+$"}


def _array(items: Schema) -> dict[str, Any]:
    return {"type": "array", "items": items}

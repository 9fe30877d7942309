"""The routes under /admin/items: items are added, changed and removed while the model is served."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from neuralcf.errors import ArgumentError, UnknownItemError
from neuralcf.results import ItemVectors
from neuralcf.serving.http.batching import Ask
from neuralcf.serving.http.endpoint import Call, Route
from neuralcf.serving.http.fields import Schema
from neuralcf.serving.http.model import ServedModel
from neuralcf.serving.http.refusals import RefusedError
from neuralcf.serving.http.schemas import Schemas

__all__ = ["ItemChangeRoutes"]


class ItemChangeRoutes:
    """The routes, over the methods of a `Recommender`."""

    def __init__(self, model: ServedModel, ask_aside: Ask, schemas: Schemas) -> None:
        """Make them; the arguments are those of `ListRoutes`."""
        self._model = model
        self._ask_aside = ask_aside
        self._schemas = schemas

    def routes(self) -> list[Route]:
        """Return the routes."""
        ids: Schema = {"type": "array", "items": self._schemas.item, "description": "ids of items"}
        table: Schema = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
        vectors: Schema = {
            "type": "object",
            "properties": {"gmf": table, "mlp": table},
            "description": "their embeddings, a row for each; without the part that the model lacks",
        }
        unknown: Schema = {"type": "string", "enum": ["raise", "skip"], "default": "raise"}
        changed: Schema = {
            "type": "object",
            "required": ["items", "generation"],
            "properties": {"items": {"type": "integer"}, "generation": {"type": "integer"}},
        }

        def route(
            method: str, summary: str, answer: Any, fields: dict[str, Schema], required: tuple[str, ...]
        ) -> Route:
            return Route(
                "/admin/items",
                (method,),
                summary,
                answer,
                fields=fields,
                required=required,
                response=changed,
                refusals=(404,),
                admitted=False,
            )

        given, both = {"items": ids, "vectors": vectors}, ("items", "vectors")
        return [
            route("POST", "Add items", self.add, given, both),
            route("PATCH", "Give items other vectors", self.update, given, both),
            route("DELETE", "Remove items", self.remove, {"items": ids, "on_unknown": unknown}, ("items",)),
        ]

    async def add(self, call: Call) -> Any:
        """Answer POST /admin/items."""
        vectors = _vectors(call.fields["vectors"])
        return await self._change(call, lambda ids: self._model.recommender.add_items(ids, vectors=vectors))

    async def update(self, call: Call) -> Any:
        """Answer PATCH /admin/items."""
        vectors = _vectors(call.fields["vectors"])
        return await self._change(call, lambda ids: self._model.recommender.update_items(ids, vectors=vectors))

    async def remove(self, call: Call) -> Any:
        """Answer DELETE /admin/items."""
        unknown = call.fields["on_unknown"]
        return await self._change(call, lambda ids: self._model.recommender.remove_items(ids, on_unknown=unknown))

    async def _change(self, call: Call, change: Callable[[Any], int]) -> Any:
        """Make a change, and return how many items there are in which generation."""

        def changed(_: object) -> dict[str, int]:
            try:
                generation = change(call.fields["items"])
            except UnknownItemError as error:
                raise UnknownItemError(_items(error), error.ids) from None  # type: ignore[arg-type]
            except ArgumentError as error:
                raise ArgumentError(_items(error)) from None
            return {"items": self._model.recommender.num_items, "generation": generation}

        return (await self._ask_aside(changed, call)).value


def _items(error: Exception) -> str:
    """Return a message in the words of the request, which has `items` where the method has `ids`."""
    return re.sub("^ids:", "items:", str(error)).replace("update_items changes it", "PATCH changes it")


def _vectors(given: dict[str, Any]) -> ItemVectors:
    """Return vectors as arrays.

    Raises:
        RefusedError: 422; rows of different lengths.
    """
    parts = {}
    for name, rows in given.items():
        if rows is not None:
            if len({len(row) for row in rows}) > 1:
                raise RefusedError(422, "bad_argument", f"vectors.{name}: expected rows of one length")
            with np.errstate(over="ignore"):  # what overflows is refused as infinite
                parts[name] = np.array(rows, np.float32).reshape(len(rows), len(rows[0]) if rows else 0)
    return ItemVectors(**parts)

"""What requests and answers of several routes have in common, as JSON Schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuralcf.serving.http.fields import Schema
from neuralcf.serving.http.settings import Settings

__all__ = ["Schemas", "answer_schema", "id_schema"]


class Schemas:
    """The schemas for the ids of a model and the limits of a service."""

    def __init__(self, user_kind: str, item_kind: str, features: Mapping[str, bool], limits: Settings) -> None:
        """Make them.

        Args:
            user_kind: the type of the users' ids, "int64" or "str".
            item_kind: the same of items.
            features: whether the model can tell what is "popular".
            limits: the limits.
        """
        self.user, self.item = id_schema(user_kind), id_schema(item_kind)
        self.title: Schema = {"type": ["string", "null"]}
        self.users: Schema = {
            "type": "array",
            "items": self.user,
            "maxItems": limits.max_users,
            "description": "ids of users",
        }
        self.items: Schema = {"type": "array", "items": self.item, "maxItems": limits.max_items}
        self.max_users = limits.max_users
        scored = {"item": self.item, "score": {"type": "number"}, "title": self.title}
        self.scored: Schema = {"type": "object", "required": ["item", "score"], "properties": scored}
        self.logits: Schema = {
            "type": "boolean",
            "default": False,
            "description": "logits instead of probabilities",
        }
        self.k: Schema = {
            "type": "integer",
            "minimum": 1,
            "maximum": limits.max_k,
            "default": 10,
            "description": "how many items of each list",
        }
        self.known: Schema = {"type": "boolean"}
        allowed: Schema = {**self.items, "type": ["array", "string"], "maxLength": 4096, "format": "set-expression"}
        choices = ["raise", "skip", "popular"]
        self.of_similar: Mapping[str, Schema] = {
            "k": self.k,
            "allow": {**allowed, "description": "the only items to return: ids, or an expression of named sets"},
            "deny": {**allowed, "description": "items never to return: ids, or an expression of named sets"},
            "min_score": {"type": "number", "description": "leave out items that score less"},
            "max_per_group": {
                "type": "object",
                "additionalProperties": {"type": "integer", "minimum": 1, "maximum": 2**31},
                "description": "at most so many items of a group in a list, by the name of the groups",
            },
            "after": {
                "type": "array",
                "maxItems": limits.max_users,
                "items": {"type": ["object", "null"], "required": ["item", "score"], "properties": scored},
                "description": "for each list the last item of the page before, as it was answered, or null",
            },
            "on_unknown": {
                "type": "string",
                "enum": choices[:2],
                "default": "raise",
                "description": "refuse unknown ids, or return empty lists for them",
            },
        }
        self.of_users: Mapping[str, Schema] = {
            **self.of_similar,
            "exclude_seen": {
                "type": "boolean",
                "default": True,
                "description": "leave out what the users have already seen",
            },
            "exclude": {
                "type": "array",
                "items": self.items,
                "maxItems": limits.max_users,
                "description": "items not to return: a list for each list of the answer",
            },
            "on_unknown": {
                "type": "string",
                "enum": choices if features["popular"] else choices[:2],
                "default": "raise",
                "description": "refuse unknown ids, give unknown users an empty list, or popular items",
            },
            "logits": self.logits,
            "search": {
                "type": "string",
                "enum": ["exact", "approximate"],
                "default": "exact",
                "description": "how items are found: approximate goes by the model's index, if it has one, and may "
                "miss some; not with max_per_group or after",
            },
            "recall": {
                "type": "number",
                "minimum": 0.001,
                "maximum": 0.999,
                "description": "of an approximate search: the share of the exact list that it finds, 0.99 by default",
            },
            "probes": {
                "type": "integer",
                "minimum": 1,
                "maximum": 2**31,
                "description": "in place of recall: how many lists of the index to visit",
            },
        }

    def lists(self, whose: Mapping[str, Schema]) -> Schema:
        """Return the schema of an answer of lists of items, each of which says `whose` it is."""
        listed = {
            "type": "object",
            "required": [*whose, "known", "items"],
            "properties": {**whose, "known": self.known, "items": {"type": "array", "items": self.scored}},
        }
        return answer_schema({"lists": {"type": "array", "items": listed}})


def answer_schema(properties: Mapping[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    """Return the schema of an answer that tells which model gave it."""
    signature: dict[str, Any] = {"model_id": {"type": "string"}, "generation": {"type": "integer"}}
    return {
        "type": "object",
        "required": [name for name in (*properties, *signature) if name not in optional],
        "properties": {**properties, **signature},
    }


def id_schema(kind: str) -> Schema:
    """Return the schema of an id."""
    if kind == "str":
        return {"type": "string", "maxLength": 1024}
    return {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}

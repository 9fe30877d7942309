"""The OpenAPI 3.1 description of the routes, from the tables that check their requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from neuralcf._core import __version__
from neuralcf.serving.http.endpoint import WITHOUT_BODY, Route
from neuralcf.serving.http.fields import Schema

__all__ = ["describe"]

_REFUSALS: Final = {
    400: "not JSON, or a malformed header or query",
    401: "no API key, or a wrong one",
    404: "an unknown user, item, model, set or group",
    409: "the new model is refused, the old one stays",
    408: "the request did not arrive in time",
    413: "too many users or items, or too large a body",
    415: "a body that is not application/json",
    422: "a wrong or unknown field",
    500: "an internal error",
    503: "too many requests, or not ready",
    504: "the deadline passed",
}
_ALL: Final = (400, 401, 408, 413, 422, 500, 503, 504)


def describe(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the document.

    Args:
        routes: what to describe.
    """
    paths: dict[str, Any] = {}
    for route in routes:
        for method in route.methods:
            paths.setdefault(route.path, {})[method.lower()] = _operation(route, method)
    return {
        "openapi": "3.1.0",
        "info": {"title": "NeuralCF", "version": __version__, "summary": "Recommendations from a trained model."},
        "paths": paths,
        "components": {
            "schemas": {
                "Refusal": {
                    "type": "object",
                    "required": ["error", "code"],
                    "properties": {
                        "error": {"type": "string", "description": "what is wrong, for people"},
                        "code": {"type": "string", "description": "the same, for programs"},
                    },
                }
            },
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _operation(route: Route, method: str) -> dict[str, Any]:
    refusals = {*_ALL, *route.refusals}
    if method not in WITHOUT_BODY:
        refusals.add(415)
    name = f"{method.lower()}_{route.path.strip('/').replace('/', '_').replace('{', '').replace('}', '') or 'page'}"
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": route.summary,
        "responses": {
            "200": {
                "description": "the answer",
                "content": {route.content_type: {"schema": dict(route.response)}},
            },
            **{
                str(status): {
                    "description": _REFUSALS[status],
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}},
                }
                for status in sorted(refusals)
            },
        },
    }
    parameters = [
        {
            "name": part[1:-1],
            "in": "path",
            "required": True,
            "schema": route.path_schemas.get(part[1:-1], {"type": "string", "minLength": 1}),
        }
        for part in route.path.split("/")
        if part.startswith("{")
    ]
    if method in WITHOUT_BODY:
        parameters += [
            {
                "name": field,
                "in": "query",
                "required": field in route.required,
                "schema": _described(schema),
                "description": schema.get("description", ""),
            }
            for field, schema in route.query_fields.items()
        ]
    else:
        operation["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {field: _described(schema) for field, schema in route.fields.items()},
                        "required": list(route.required),
                        "additionalProperties": False,
                    }
                }
            },
        }
    if parameters:
        operation["parameters"] = parameters
    return operation


def _described(schema: Schema) -> dict[str, Any]:
    """Return a schema in full: an object has no other properties than its own."""
    full = dict(schema)
    if "items" in full:
        full["items"] = _described(full["items"])
    if "properties" in full:
        full["properties"] = {name: _described(one) for name, one in full["properties"].items()}
        full["additionalProperties"] = False
    return full

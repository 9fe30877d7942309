"""A file of named sets and groups of items, for a service that has them from the start."""

from __future__ import annotations

import logging
from os import PathLike
from pathlib import Path
from typing import Any, Final

from neuralcf.errors import ArgumentError, NeuralCFError
from neuralcf.serving.http.fields import Schema, check, parse_json
from neuralcf.serving.http.refusals import RefusedError
from neuralcf.serving.http.schemas import id_schema
from neuralcf.serving.recommender import Recommender

__all__ = ["set_named"]

_LOG: Final = logging.getLogger("neuralcf.serving")


def set_named(recommender: Recommender, path: str | PathLike[str]) -> None:
    """Set the named sets and groups of a file in JSON; items that the model does not know are counted in the log.

    `{"sets": {"in_stock": [1, 2]}, "groups": {"brand": {"items": [1, 2], "groups": ["x", "y"]}}}`

    Args:
        recommender: the model.
        path: the file.

    Raises:
        ArgumentError: the file is not as above, or has ids of another type.
        OSError: it cannot be read.
    """
    ids: Schema = {"type": "array", "items": id_schema(recommender.item_ids.kind)}
    labels: Schema = {"type": "array", "items": {"type": ["string", "integer", "null"]}}
    grouped: Schema = {
        "type": "object",
        "properties": {"items": ids, "groups": labels},
        "required": ["items", "groups"],
    }
    fields: dict[str, Schema] = {
        "sets": {"type": "object", "additionalProperties": ids, "default": {}},
        "groups": {"type": "object", "additionalProperties": grouped, "default": {}},
    }
    try:
        given: dict[str, Any] = check(parse_json(Path(path).read_bytes()), fields)
        unknown: set[Any] = set()
        for name, items in given["sets"].items():
            unknown.update(_unknown(recommender, items))
            recommender.set_items(name, items, on_unknown="skip")
        for name, group in given["groups"].items():
            unknown.update(_unknown(recommender, group["items"]))
            recommender.set_groups(name, group["items"], group["groups"], on_unknown="skip")
    except (RefusedError, NeuralCFError) as error:
        raise ArgumentError(f"{path}: {str(error).removeprefix('body: ')}") from None
    if unknown:
        _LOG.warning("sets with unknown items", extra={"file": str(path), "unknown_items": len(unknown)})


def _unknown(recommender: Recommender, items: list[Any]) -> list[Any]:
    found = recommender.item_ids.find(items).tolist()
    return [item for item, index in zip(items, found, strict=True) if index < 0]

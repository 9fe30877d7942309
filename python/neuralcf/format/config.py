"""Descriptive entries of a model directory's config.json: training configuration, data, history, metrics.

All are optional and may come from any program. Entries that the commands read have a fixed JSON type, which both writer
and reader check. The core checks the entries that a model needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Final

from neuralcf.errors import ModelFormatError

__all__ = ["find_problem", "read_config"]

_OBJECTS: Final = ("training", "data")
_LISTS: Final = ("metrics", "history")


def read_config(path: str | PathLike[str]) -> dict[str, Any]:
    """Read config.json of a model directory; return an empty dictionary for a single .safetensors file.

    Raises:
        ModelFormatError: the file is not a JSON object, or an entry has the wrong type.
        OSError: the file cannot be read.
    """
    file = Path(path) / "config.json"
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_bytes())
    except ValueError as error:
        raise ModelFormatError(f"{file}: expected JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelFormatError(f"{file}: expected a JSON object, got {_shown(config)}")
    if problem := find_problem(config):
        raise ModelFormatError(f"{file}: {problem}")
    return config


def find_problem(config: Mapping[str, Any]) -> str | None:
    """Describe the first entry of a configuration, of plain JSON values, that has the wrong type; None if all fit."""
    for names, expected, types in ((_OBJECTS, "an object", Mapping), (_LISTS, "a list", (list, tuple))):
        for name in names:
            if name in config and not isinstance(config[name], types):
                return f"{name}: expected {expected}, got {_shown(config[name])}"
    return None


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

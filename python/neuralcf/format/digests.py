"""Sizes and SHA-256 digests of a model's files, by which damage is found; config.json lists them.

The core compares them at every load. `verify` does so by itself, for every file of a directory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Final, TypedDict

from neuralcf.format.config import read_config

__all__ = ["BLANK_DIGEST", "Listed", "config_text", "has_digests", "list_file", "verify"]

BLANK_DIGEST: Final = "0" * 64
"""What stands in place of a file's own digest while that is computed."""


class Listed(TypedDict):
    """What config.json lists of a file."""

    size: int
    """In bytes."""
    sha256: str
    """In lower-case hexadecimal."""


def list_file(path: Path) -> Listed:
    """Read a file, and return its size and digest.

    Raises:
        OSError: the file cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
    return Listed(size=size, sha256=digest.hexdigest())


def config_text(config: Mapping[str, Any], files: Mapping[str, Listed]) -> bytes:
    """Format config.json with the digests of all other files and its own."""
    text = json.dumps({**config, "files": files, "sha256": BLANK_DIGEST}, indent=2).encode() + b"\n"
    own = hashlib.sha256(text).hexdigest().encode()
    before, after = text.rsplit(BLANK_DIGEST.encode(), 1)
    return before + own + after


def has_digests(config: Mapping[str, Any], metadata: Mapping[str, str]) -> bool:
    """Whether the core could compare digests when it loaded a model.

    Args:
        config: config.json; empty for a single file.
        metadata: the metadata of model.safetensors.
    """
    return "files" in config if config else "sha256" in metadata


def verify(path: str | PathLike[str]) -> dict[str, str]:
    """Compare every file of a model directory with config.json; the core has loaded it, so config.json is sound.

    Returns:
        For each file but config.json "same", "changed", "missing" or "not listed"; nothing if config.json has no
        digests. An index that config.json does not list is left out: the core compares it with its own digest.

    Raises:
        ModelFormatError: config.json is not a JSON object.
        OSError: a file cannot be read.
    """
    directory = Path(path)
    listed = read_config(directory).get("files")
    if listed is None:
        return {}
    there = {file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file()}
    found = {}
    for name in sorted({*listed, *there} - {"config.json"}):
        if name == "index.safetensors" and name not in listed:
            continue
        if name not in there:
            found[name] = "missing"
        elif name not in listed:
            found[name] = "not listed"
        else:
            found[name] = "same" if list_file(directory / name) == listed[name] else "changed"
    return found

"""`neuralcf inspect`: show what is in a model and its config.json."""

import argparse
import json
from pathlib import Path
from typing import Any

from neuralcf.cli.options import MODEL, Commands, add_command, add_json

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "inspect", _run, summary="show what is in a model", example="neuralcf inspect model")
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    facts = _inspect(options.model)
    print(json.dumps(facts) if options.json else _text(facts))


def _inspect(path: str) -> dict[str, Any]:
    """Open and validate a model and collect facts about it.

    Raises:
        ModelFormatError: not a valid model.
        OSError: the file cannot be read.
    """
    from neuralcf._core import open_model
    from neuralcf.format.config import read_config

    scorer, user_ids, item_ids = open_model(path)
    return {
        "path": str(Path(path)),
        "kind": scorer.kind,
        "num_users": scorer.num_users,
        "num_items": scorer.num_items,
        "user_ids": user_ids.kind if user_ids is not None else None,
        "item_ids": item_ids.kind if item_ids is not None else None,
        "seen": scorer.nbytes["seen"] > 0,
        "history": scorer.nbytes["history"] > 0,
        "metadata": scorer.metadata,
        "nbytes": scorer.nbytes,
        "config": read_config(path),
    }


def _text(facts: dict[str, Any]) -> str:
    """Format the facts for the terminal."""
    config = facts["config"]
    rows = {
        "model id": facts["metadata"].get("model_id", "none"),
        "sizes": ", ".join(f"{key} {value}" for key, value in config.get("sizes", {}).items()),
        "user ids": facts["user_ids"] or "none stored",
        "item ids": facts["item_ids"] or "none stored",
        "interactions": "stored" if facts["seen"] else "none stored",
        "new users": "by fold-in" if facts["history"] else "not without training",
        "memory": ", ".join(f"{part} {size:,} B" for part, size in facts["nbytes"].items() if size),
    }
    lines = [f"{facts['path']}: {facts['kind']}, {facts['num_users']:,} users, {facts['num_items']:,} items"]
    lines += [f"  {name:<14}{value}" for name, value in rows.items() if value]
    for metric in config.get("metrics", []):
        if isinstance(metric, dict) and {"name", "value", "protocol"} <= metric.keys():
            value = metric["value"]
            shown = f"{value:.4f}" if isinstance(value, float) else str(value)
            lines.append(f"  {metric['name']!s:<14}{shown}  {metric.get('model', '')}  {metric['protocol']}")
    return "\n".join(lines)

"""`neuralcf inspect`: show what is in a model and its config.json."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuralcf.cli.options import MODEL, Commands, add_command, add_json

if TYPE_CHECKING:
    from neuralcf._core import Scorer

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "inspect", _run, summary="show what is in a model", example="neuralcf inspect model")
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare every file of a directory with the size and SHA-256 in config.json; status 2 if one differs",
    )
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    facts = _inspect(options.model, options.verify)
    print(json.dumps(facts) if options.json else _text(facts))
    if options.verify:
        _check_verified(facts)


def _check_verified(facts: Mapping[str, Any]) -> None:
    """Raise ModelFormatError for a model without digests, or with files that differ from them."""
    from neuralcf.errors import ModelFormatError

    if not facts["digests"]:
        raise ModelFormatError(f"{facts['path']}: no digests to verify; save the model again to store them")
    wrong = [f"{name} is {state}" for name, state in facts["files"].items() if state != "same"]
    if wrong:
        raise ModelFormatError(f"{facts['path']}: differs from its config.json: {', '.join(wrong)}")


def _inspect(path: str, verify_files: bool) -> dict[str, Any]:
    """Open and validate a model and collect facts about it.

    Args:
        path: the model.
        verify_files: whether to compare also those files of a directory that the core does not read.

    Raises:
        ModelFormatError: not a valid model.
        OSError: the file cannot be read.
    """
    from neuralcf._core import open_model
    from neuralcf.format.config import read_config
    from neuralcf.format.digests import has_digests, verify

    scorer, user_ids, item_ids = open_model(path)
    config = read_config(path)
    files = verify(path) if verify_files and config else {}
    index, problem = _index(scorer)
    if files and (index or problem):
        files["index.safetensors"] = problem or "same"
    return {
        "path": str(Path(path)),
        "kind": scorer.kind,
        "num_users": scorer.num_users,
        "num_items": scorer.num_items,
        "user_ids": user_ids.kind if user_ids is not None else None,
        "item_ids": item_ids.kind if item_ids is not None else None,
        "seen": scorer.nbytes["seen"] > 0,
        "history": scorer.nbytes["history"] > 0,
        "isa": scorer.isa,
        "scan_precision": scorer.scan_precision,
        "scan_reason": scorer.scan_reason,
        "metadata": scorer.metadata,
        "nbytes": scorer.nbytes,
        "digests": has_digests(config, scorer.metadata),
        "index": index,
        "index_problem": problem,
        "files": files,
        "config": config,
    }


def _index(scorer: Scorer) -> tuple[dict[str, Any] | None, str | None]:
    """Return what the index of a model consists of, and why it cannot be used."""
    from neuralcf.errors import ModelFormatError

    try:
        summary = scorer.index
    except ModelFormatError as error:
        return None, f"refused: {error}"
    if summary is None:
        return None, None
    return {**summary._asdict(), "levels": [level._asdict() for level in summary.levels]}, None


def _index_text(facts: Mapping[str, Any]) -> str:
    index = facts["index"]
    if index is None:
        return str(facts["index_problem"] or "none, so every search is exact")
    recalls = ", ".join(
        f"{level['measured']:.4f} for {level['recall']}" for level in index["levels"] if level["k"] == 1
    )
    return f"{index['lists']:,} lists; recall of the best item {recalls}"


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
        "index": _index_text(facts),
        "digests": "compared" if facts["digests"] else "none stored, so damage to the files may go unnoticed",
        "scan": f"{facts['scan_precision']} with {facts['isa']} ({facts['scan_reason']})",
        "memory": ", ".join(f"{part} {size:,} B" for part, size in facts["nbytes"].items() if size),
    }
    lines = [f"{facts['path']}: {facts['kind']}, {facts['num_users']:,} users, {facts['num_items']:,} items"]
    lines += [f"  {name:<14}{value}" for name, value in rows.items() if value]
    lines += [f"  {name:<22}{state}" for name, state in facts["files"].items()]
    for metric in config.get("metrics", []):
        if isinstance(metric, dict) and {"name", "value", "protocol"} <= metric.keys():
            value = metric["value"]
            shown = f"{value:.4f}" if isinstance(value, float) else str(value)
            lines.append(f"  {metric['name']!s:<14}{shown}  {metric.get('model', '')}  {metric['protocol']}")
    return "\n".join(lines)

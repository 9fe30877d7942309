"""The model card: README.md of a model directory."""

from collections.abc import Mapping
from typing import Any

__all__ = ["model_card"]


def model_card(config: Mapping[str, Any]) -> str:
    """Format the model card from the entries of config.json."""
    sizes = config["sizes"]
    shape = ", ".join(f"{key} {value}" for key, value in sizes.items() if key not in ("num_users", "num_items"))
    lines = [
        "---",
        "library_name: neuralcf",
        "tags: [recommender-systems, collaborative-filtering]",
        "---",
        "",
        f"# {config['kind']} model",
        "",
        f"{sizes['num_users']:,} users, {sizes['num_items']:,} items; {shape}. Model id `{config['model_id']}`.",
        "",
        "```python",
        "import neuralcf",
        "",
        'scorer = neuralcf.Scorer.load("path/to/this/directory")',
        "ids, scores = scorer.top_k(0, k=10)",
        "```",
        "",
        "`config.json` holds the training configuration. `seen.safetensors`, if present, holds each user's",
        "interactions; remove it before you publish the model unless they are public.",
        "",
    ]
    metrics = config.get("metrics", [])
    shown = [row for row in metrics if isinstance(row, Mapping) and {"name", "value", "protocol"} <= row.keys()]
    if shown:
        lines += ["| metric | value | protocol |", "|---|---|---|"]
        lines += [f"| {row['name']} | {_number(row['value'])} | {row['protocol']} |" for row in shown]
        lines.append("")
    return "\n".join(lines)


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)

"""The model card: README.md of a model directory."""

from collections.abc import Mapping
from typing import Any

__all__ = ["model_card"]


def model_card(config: Mapping[str, Any]) -> str:
    """Write the card of a model from what its config.json holds."""
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
        "`config.json` tells how it was trained. `seen.safetensors`, where present, holds the users' histories:",
        "leave it out when you publish the model and they are not public.",
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

"""`neuralcf describe`: what is in a source of interactions, before anything is trained on it."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.dataset import Dataset
from neuralcf.data.readers.interactions import ReadReport
from neuralcf.data.readers.source import read_source
from neuralcf.data.split import GivenSplit

__all__ = ["describe", "render"]

_MOST_LINES = 10
"""Bad rows and duplicates that are listed one by one."""


def describe(data: str | PathLike[str] | Any, **reading: Any) -> dict[str, Any]:
    """Give the facts about a source of interactions, ready for JSON.

    Args:
        data: what `read_interactions` takes, or the common beginning of the NCF paper's three files.
        reading: its keyword arguments; bad rows are reported when `on_bad_rows` is not among them.

    Raises:
        ArgumentError: a source that cannot be read; options for reading beside the NCF paper's files.
        OSError: a file cannot be read.
    """
    source, reports = read_source(data, **{"on_bad_rows": "report", **reading})
    files = [_reading(report) for report in reports]
    if isinstance(source, GivenSplit):
        return {
            "source": str(data),
            "files": files,
            "interactions": _interactions(source.train),
            "split": _split(source),
        }
    return {"source": reports[0].source, "files": files, "interactions": _interactions(source), "split": None}


def _reading(report: ReadReport) -> dict[str, Any]:
    return {
        "source": report.source,
        "rows": report.rows,
        "columns": list(report.columns),
        "delimiter": report.delimiter,
        "ratings": report.ratings,
        "bad": report.bad,
        "missing": report.missing,
        "problems": list(report.problems[:_MOST_LINES]),
        "below_threshold": report.below_threshold,
        "duplicates": report.duplicates,
        "duplicate_lines": report.duplicate_lines[:_MOST_LINES].tolist(),
    }


def _interactions(dataset: Dataset) -> dict[str, Any]:
    per_user = np.bincount(dataset.users, minlength=dataset.num_users)
    per_item = np.bincount(dataset.items, minlength=dataset.num_items)
    tenth = -(-dataset.num_items // 10)
    times = dataset.timestamps
    return {
        "interactions": len(dataset),
        "users": dataset.num_users,
        "items": dataset.num_items,
        "user_ids": "str" if isinstance(dataset.user_ids, list) else "int64",
        "item_ids": "str" if isinstance(dataset.item_ids, list) else "int64",
        "density": len(dataset) / (dataset.num_users * dataset.num_items),
        "per_user": _spread(per_user),
        "per_item": _spread(per_item),
        "users_with_one": int((per_user == 1).sum()),
        "share_of_top_tenth_of_items": float(np.sort(per_item)[-tenth:].sum() / len(dataset)),
        "timestamps": None if times is None else [times.min().item(), times.max().item()],
        "fingerprint": dataset.fingerprint(),
    }


def _spread(counts: NDArray[np.int64]) -> dict[str, float]:
    return {
        "least": int(counts.min()),
        "median": float(np.median(counts)),
        "mean": float(counts.mean()),
        "most": int(counts.max()),
    }


def _split(split: GivenSplit) -> dict[str, Any]:
    facts: dict[str, Any] = {"held_out": int(split.users.size), "guarantee": split.guarantee, "candidates": None}
    if split.candidates is not None:
        lengths, times = np.unique(np.diff(split.candidates[0]), return_counts=True)
        facts["candidates"] = dict(zip(map(str, lengths.tolist()), times.tolist(), strict=True))
    facts["items_never_trained"] = int(split.train.num_items - np.unique(split.train.items).size)
    return facts


def render(facts: dict[str, Any]) -> str:
    """Lay the facts out for reading."""
    lines: list[str] = []
    for file in facts["files"]:
        separated = f", separated by {file['delimiter']!r}" if file["delimiter"] else ""
        lines.append(f"{file['source']}: {file['rows']:,} rows, columns {', '.join(file['columns'])}{separated}")
        if file["ratings"]:
            lines.append(_row("ratings", "from {:g} to {:g}".format(*file["ratings"])))
        if file["below_threshold"]:
            lines.append(_row("left out", f"{file['below_threshold']:,} below the least rating"))
        if file["duplicates"]:
            what = f"{file['duplicates']:,} of the same user and item as another row"
            listed = ", ".join(map(str, file["duplicate_lines"]))
            more = ", ..." if file["duplicates"] > len(file["duplicate_lines"]) else ""
            lines.append(_row("duplicates", f"{what}: {'line' if file['delimiter'] else 'row'} {listed}{more}"))
        if file["bad"]:
            lines.append(_row("bad rows", f"{file['bad']:,}, {file['missing']:,} of them for a missing value"))
            lines.extend(f"    {problem}" for problem in file["problems"])
            if file["bad"] > len(file["problems"]):
                lines.append(f"    ... and {file['bad'] - len(file['problems']):,} more")
    data = facts["interactions"]
    lines += [
        f"{data['interactions']:,} interactions of {data['users']:,} users with {data['items']:,} items, "
        f"{100 * data['density']:.3g}% of all pairs",
        _row("ids", f"users {data['user_ids']}, items {data['item_ids']}"),
        _row("per user", _spread_text(data["per_user"])),
        _row("per item", _spread_text(data["per_item"])),
        _row("popularity", f"a tenth of the items has {data['share_of_top_tenth_of_items']:.0%} of the interactions"),
        _row("one only", f"{data['users_with_one']:,} users, of whom nothing can be held out"),
        _row("timestamps", "none" if data["timestamps"] is None else "from {} to {}".format(*data["timestamps"])),
        _row("fingerprint", data["fingerprint"]),
    ]
    if facts["split"] is not None:
        split = facts["split"]
        lines += [f"{split['held_out']:,} pairs held out: {split['guarantee']}"]
        if split["candidates"] is not None:
            counts = ", ".join(f"{length} for {pairs:,}" for length, pairs in split["candidates"].items())
            lines.append(_row("candidates", f"{counts} pairs"))
        lines.append(_row("untrained", f"{split['items_never_trained']:,} items have no training interaction"))
    return "\n".join(lines)


def _row(name: str, text: str) -> str:
    return f"  {name:<13}{text}"


def _spread_text(spread: dict[str, float]) -> str:
    return f"least {spread['least']:,}, median {spread['median']:g}, mean {spread['mean']:.1f}, most {spread['most']:,}"

"""Summary statistics of a source of interactions."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.dataset import Dataset
from neuralcf.data.readers.interactions import ReadReport
from neuralcf.data.readers.source import read_source
from neuralcf.data.split import GivenSplit

__all__ = ["summarize"]

_MOST_LINES = 10
"""Bad rows and duplicates listed individually, at most."""


def summarize(data: str | PathLike[str] | Any, **reading: Any) -> dict[str, Any]:
    """Summarize a source of interactions as plain JSON values.

    Args:
        data: a source that `read_interactions` takes, or the prefix of the NCF paper's three files.
        reading: keyword arguments of `read_interactions`; `on_bad_rows` is "report" by default.

    Raises:
        ArgumentError: a source that cannot be read; reading options with the NCF paper's files.
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
        "passed_over": list(report.passed_over),
        "delimiter": report.delimiter,
        "notes": list(report.notes),
        "ratings": report.ratings,
        "unrated": report.unrated,
        "bad": report.bad,
        "missing": report.missing,
        "problems": list(report.problems[:_MOST_LINES]),
        "below_threshold": report.below_threshold,
        "dislikes": report.dislikes,
        "weightless": report.weightless,
        "below_core": report.below_core,
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

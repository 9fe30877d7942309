"""What a command line names as its data: a file or a table of interactions, or the NCF paper's three files."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from neuralcf.data.dataset import Dataset
from neuralcf.data.readers.interactions import ReadReport, read_interactions
from neuralcf.data.readers.ncf_files import find_ncf, read_ncf_parts
from neuralcf.data.split import GivenSplit
from neuralcf.errors import ArgumentError

__all__ = ["read_source"]


def read_source(data: str | PathLike[str] | Any, **reading: Any) -> tuple[Dataset | GivenSplit, list[ReadReport]]:
    """Read interactions, or the split of the NCF paper's files, with a report on each file.

    Args:
        data: what `read_interactions` takes, or the common beginning of the NCF paper's three files.
        reading: its keyword arguments; for the NCF paper's files none but `on_bad_rows`.

    Raises:
        ArgumentError: a source that cannot be read; options for reading beside the NCF paper's files.
        OSError: a file cannot be read.
    """
    if not isinstance(data, str | PathLike) or Path(data).exists():
        dataset, report = read_interactions(data, **reading)
        return dataset, [report]
    try:
        find_ncf(data, "train.rating")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{data}: expected a file, or {data}.train.rating and the two beside it, got neither"
        ) from None
    given = {name for name, value in reading.items() if value is not None and name != "on_bad_rows"}
    if given:
        raise ArgumentError(f"{data}: expected no options for the NCF paper's files, got {sorted(given)}")
    split, *reports = read_ncf_parts(data)
    return split, reports

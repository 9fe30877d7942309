"""The DATA argument of the command line: a file of interactions, or the prefix of the NCF paper's three files."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from neuralcf.data.dataset import Dataset
from neuralcf.data.readers.interactions import ReadReport, of_one_type, read_interactions
from neuralcf.data.readers.ncf_files import find_ncf, read_ncf_parts
from neuralcf.data.readers.opening import STANDARD_INPUT
from neuralcf.data.split import GivenSplit, Split, given, hold_out, is_by_time, without_untrained
from neuralcf.errors import ArgumentError, argument

__all__ = ["given_files", "read_source", "read_split"]


def read_source(data: str | PathLike[str] | Any, **reading: Any) -> tuple[Dataset | GivenSplit, list[ReadReport]]:
    """Read interactions, or the split of the NCF paper's files, with a report on each file.

    Args:
        data: a source that `read_interactions` takes, or the prefix of the NCF paper's three files.
        reading: keyword arguments of `read_interactions`; with the NCF paper's files only `on_bad_rows`,
            `text_ids` and `encoding`.

    Raises:
        ArgumentError: a source that cannot be read; reading options with the NCF paper's files.
        OSError: a file cannot be read.
    """
    if isinstance(data, list | tuple) and len(data) == 1:
        data = data[0]
    if not isinstance(data, str | PathLike) or data == STANDARD_INPUT or not data or _exists(data):
        dataset, report = read_interactions(data, **reading)
        return dataset, [report]
    try:
        find_ncf(data, "train.rating")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{data}: expected a file, or the prefix of the three files {data}.train.rating etc., found neither"
        ) from None
    usual = {
        "on_bad_rows": reading.get("on_bad_rows"),
        "text_ids": reading.get("text_ids"),
        "encoding": reading.get("encoding"),
        "min_user": 1,
        "min_item": 1,
    }
    set_options = [name for name, value in reading.items() if value is not None and usual.get(name) != value]
    if set_options:
        listed, taken = ", ".join(map(argument, sorted(set_options))), f"{argument('text_ids')}, {argument('encoding')}"
        raise ArgumentError(f"{data}: the NCF paper's files take no reading options but {taken}, got {listed}")
    split, *reports = read_ncf_parts(data, text_ids=bool(reading.get("text_ids")), encoding=reading.get("encoding"))
    return split, reports


def _exists(data: str | PathLike[str]) -> bool:
    return "\0" in str(data) or Path(data).exists()


def given_files(
    train: Dataset, train_report: ReadReport, held_out: str | PathLike[str], reading: dict[str, Any]
) -> tuple[GivenSplit, ReadReport]:
    """Read a file of held-out interactions, and make a split of it and the training set; its report beside it.

    Thresholds of the k-core apply to the training set alone.

    Raises:
        As `read_interactions` and `given`; ArgumentError also if no pair is of the users and items in the training set.
    """
    test, report = read_interactions(held_out, **{**reading, "min_user": 1, "min_item": 1})
    train, test = of_one_type((train, train_report), (test, report))
    split = given(train, test)
    if not split.users.size:
        (user, item), (other_user, other_item) = (
            (dataset.user_ids[dataset.users[0]], dataset.item_ids[dataset.items[0]]) for dataset in (train, test)
        )
        raise ArgumentError(
            f"{report.source}: expected pairs of users and items in {train_report.source}, such as user {user} with "
            f"item {item}, got {len(test)} pairs of others, such as user {other_user} with item {other_item}"
        )
    return split, report


def read_split(
    data: str | PathLike[str] | Any,
    reading: dict[str, Any],
    *,
    held_out: str | PathLike[str] | None,
    how: str | None,
    seed: int,
) -> tuple[Split, dict[str, str], list[ReadReport]]:
    """Read interactions and split them.

    Args:
        data: a source that `read_source` takes.
        reading: keyword arguments of `read_interactions`.
        held_out: a file of held-out interactions.
        how: a named rule of `hold_out`.
        seed: random seed of a random split.

    Returns:
        The split; the entry `data` of config.json, from which the split can be repeated; a report on each file.

    Raises:
        ArgumentError: data that cannot be read or split; more than one way to split it.
        OSError: a file cannot be read.
    """
    source, reports = read_source(data, **reading)
    if isinstance(source, GivenSplit):
        if held_out is not None or how is not None:
            raise ArgumentError(
                f"{data}: expected neither {argument('split')} nor {argument('held_out')}, because these files are a "
                "split"
            )
        return source, {"fingerprint": source.train.fingerprint(), "split": "given"}, reports
    if held_out is not None:
        split, report = given_files(source, reports[0], held_out, reading)
        return split, {"fingerprint": split.train.fingerprint(), "split": "given"}, [*reports, report]
    rule = how or "auto"
    made = hold_out(source, seed, rule)
    if is_by_time(rule):
        made = without_untrained(made)
    return made, {"fingerprint": source.fingerprint(), "split": rule}, reports

"""The files of He et al., WWW 2017: `X.train.rating`, `X.test.rating`, `X.test.negative`, plain or compressed.

    X.train.rating     user <tab> item <tab> rating [<tab> timestamp]       one training interaction per line
    X.test.rating      the same                                             one held-out pair per line
    X.test.negative    (user,item) <tab> item <tab> item ...                a held-out pair and its candidates

Together they are a split with candidates. A held-out item listed among its own candidates is ignored there.
"""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from neuralcf.data.dataset import Dataset, ExternalIds
from neuralcf.data.readers.interactions import ReadReport, of_one_type, read_interactions
from neuralcf.data.readers.text import read_text
from neuralcf.data.split import GivenSplit, given
from neuralcf.data.values import is_integer
from neuralcf.errors import ArgumentError

__all__ = ["find_ncf", "read_ncf", "read_ncf_parts"]

_PAIR = re.compile(r"\(([^,()]+),([^,()]+)\)")


def read_ncf(prefix: str | PathLike[str]) -> GivenSplit:
    """Read the three files with a common `prefix`, such as `Data/ml-1m`.

    Raises:
        ArgumentError: a bad line (the message names file and line), or files that contradict each other.
        FileNotFoundError: one of the files is missing.
    """
    return read_ncf_parts(prefix)[0]


def read_ncf_parts(prefix: str | PathLike[str], **reading: Any) -> tuple[GivenSplit, ReadReport, ReadReport]:
    """Read the split, with a report on the training file and one on the test file.

    `reading` may name `text_ids` and `encoding`.
    """
    reading = {"delimiter": "\t", "header": False, **reading}
    train, train_report = read_interactions(find_ncf(prefix, "train.rating"), **reading)
    test, test_report = read_interactions(find_ncf(prefix, "test.rating"), **reading)
    train, test = of_one_type((train, train_report), (test, test_report))
    negatives = _read_negatives(find_ncf(prefix, "test.negative"), test, reading.get("encoding"))
    return given(train, test, negatives), train_report, test_report


def find_ncf(prefix: str | PathLike[str], part: str) -> Path:
    """Return the path of one of the files, plain or compressed.

    Raises:
        FileNotFoundError: none exists.
    """
    plain = Path(f"{prefix}.{part}")
    paths = (plain, *(Path(f"{plain}.{ending}") for ending in ("gz", "bz2", "xz", "zst", "zip")))
    for path in paths:
        if path.is_file():
            return path
    raise FileNotFoundError(f"{paths[0]}: expected this file, or the same with .gz or another compression, got none")


def _read_negatives(path: Path, test: Dataset, encoding: str | None) -> tuple[ExternalIds, ExternalIds, ExternalIds]:
    """Read the candidates: for each, the user id and item id of its held-out pair and its own id."""
    integers = {"user": not isinstance(test.user_ids, list), "item": not isinstance(test.item_ids, list)}
    users: list[int | str] = []
    items: list[int | str] = []
    candidates: list[int | str] = []
    held_out = {(test.user_ids[user], test.item_ids[item]) for user, item in zip(test.users, test.items, strict=True)}
    seen: dict[tuple[int | str, int | str], int] = {}

    def parse(line: int, field: str, text: str) -> int | str:
        if not text:
            raise ArgumentError(f"{path}:{line}: {field}: expected an id, got nothing")
        if not integers[field]:
            return text
        if not is_integer(text):
            raise ArgumentError(f"{path}:{line}: {field}: expected an integer, as in the test file, got {text!r}")
        return int(text)

    for line, row in enumerate(read_text(path, encoding=encoding).split("\n"), start=1):
        if not row.strip():
            continue
        first, *others = row.removesuffix("\r").split("\t")
        match = _PAIR.fullmatch(first.strip())
        if match is None:
            raise ArgumentError(f"{path}:{line}: expected (user,item) and candidates, got {first[:80]!r}")
        pair = parse(line, "user", match[1].strip()), parse(line, "item", match[2].strip())
        if pair not in held_out:
            raise ArgumentError(f"{path}:{line}: expected a pair of the test file, got {first.strip()}")
        if pair in seen:
            raise ArgumentError(f"{path}:{line}: duplicate pair {first.strip()}, first in line {seen[pair]}")
        seen[pair] = line
        candidates.extend(parse(line, "item", text.strip()) for text in others)
        users.extend([pair[0]] * len(others))
        items.extend([pair[1]] * len(others))
    without = held_out - seen.keys()
    if without:
        user, item = min(without)
        raise ArgumentError(
            f"{path}: expected a line for each pair of the test file, got none for {len(without)} of "
            f"{len(held_out)}, such as ({user},{item})"
        )
    return _as_ids(users, integers["user"]), _as_ids(items, integers["item"]), _as_ids(candidates, integers["item"])


def _as_ids(values: list[int | str], integers: bool) -> ExternalIds:
    return np.array(values, dtype=np.int64) if integers else [str(value) for value in values]

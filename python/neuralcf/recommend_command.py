"""What `neuralcf recommend` does: find the best items of a user, print a table or JSON, with titles where given."""

from __future__ import annotations

import re
import sys
from typing import Any, NamedTuple

import numpy as np

from neuralcf.data.readers.titles import read_titles
from neuralcf.errors import ArgumentError
from neuralcf.serving.recommender import Recommender

__all__ = ["Recommended", "parse_id", "recommend", "recommendation_json", "recommendation_text"]


class Recommended(NamedTuple):
    """An item of a user's list."""

    item: int | str
    score: float
    title: str | None
    """None where no file of items was given, or where it has no title for this one."""


def recommend(
    path: str, user: str, k: int, *, include_seen: bool = False, items: dict[str, Any] | None = None
) -> tuple[int | str, list[Recommended]]:
    """Find the best `k` items of a user, and tell on stderr where fewer are left.

    Args:
        path: a model directory that holds ids.
        user: the user's id as it was typed.
        k: how many.
        include_seen: whether items that the user knows may come back.
        items: the arguments of `read_titles` but for the ids, or None.

    Returns:
        The id in the model's type, and the items, the best first.

    Raises:
        ArgumentError: an id of another type, no stored interactions to leave out, or no titles in that file.
        UnknownUserError: the model does not know the user.
        ModelFormatError, OSError: files that cannot be read.
    """
    recommender = Recommender.load(path)
    user_id = parse_id(user, recommender.user_ids.kind)
    if not include_seen and not recommender.scorer.nbytes["seen"]:
        raise ArgumentError(f"{path}: the model holds no known interactions to leave out; pass --include-seen")
    best = recommender.recommend(user_id, k, exclude_seen=not include_seen)
    titles = {}
    if items is not None:
        titles = read_titles(item_ids=recommender.item_ids.take(np.arange(recommender.num_items)), **items)
    ids, scores = best.ids[: best.counts].tolist(), best.scores[: best.counts].tolist()
    if len(ids) < k:
        print(f"neuralcf: {len(ids)} items are left for this user", file=sys.stderr)
    return user_id, [Recommended(item, score, titles.get(item)) for item, score in zip(ids, scores, strict=True)]


def parse_id(text: str, kind: str) -> int | str:
    """Read a user's id as the model's type, `str` or `int64`, has it.

    Raises:
        ArgumentError: no integer, where the model's ids are.
    """
    if kind == "str":
        return text
    if not re.fullmatch("-?[0-9]+", text):
        raise ArgumentError(f"--user: this model's ids are integers, got {text!r}")
    return int(text)


def recommendation_json(user: int | str, items: list[Recommended], *, titles: bool) -> dict[str, Any]:
    """Give the list; with `titles`, the title of each item too, null where it has none."""
    rows = [each._asdict() for each in items]
    return {"user": user, "items": rows if titles else [{"item": row["item"], "score": row["score"]} for row in rows]}


def recommendation_text(items: list[Recommended]) -> str:
    """Make a table: an item a line, with its place, its id, its score and its title."""
    width = max((len(str(each.item)) for each in items), default=0)
    return "\n".join(
        f"{place:>4}  {each.item!s:<{width}}  {each.score:.4f}  {each.title or ''}".rstrip()
        for place, each in enumerate(items, start=1)
    )

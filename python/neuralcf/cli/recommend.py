"""`neuralcf recommend`: the best items of a user, with titles where given."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, NamedTuple

from neuralcf.cli.options import Commands, add_command, add_items, add_json, items, positive
from neuralcf.errors import ArgumentError

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "recommend",
        _run,
        summary="print the best items of a user",
        example="neuralcf recommend model --user 42 --items movies.csv",
    )
    parser.add_argument("model", metavar="DIR", help="a model directory that holds ids")
    parser.add_argument("--user", required=True, metavar="ID", help="the user's id, of the model's type")
    parser.add_argument("-k", type=positive, default=10, help="how many items (default 10)")
    parser.add_argument("--include-seen", action="store_true", help="let items come back that the user knows")
    add_items(parser)
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    titles = items(options)
    user, best = _recommend(options.model, options.user, options.k, include_seen=options.include_seen, items=titles)
    if options.json:
        print(json.dumps(_json(user, best, titles=titles is not None)))
    elif best:
        print(_text(best))


class Recommended(NamedTuple):
    """An item of a user's list."""

    item: int | str
    score: float
    title: str | None
    """None where no file of items was given, or where it has no title for this one."""


def _recommend(
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
    import numpy as np

    from neuralcf.data.dataset import parse_id
    from neuralcf.data.readers.titles import read_titles
    from neuralcf.serving.recommender import Recommender

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


def _json(user: int | str, items: list[Recommended], *, titles: bool) -> dict[str, Any]:
    """Give the list; with `titles`, the title of each item too, null where it has none."""
    rows = [each._asdict() for each in items]
    return {"user": user, "items": rows if titles else [{"item": row["item"], "score": row["score"]} for row in rows]}


def _text(items: list[Recommended]) -> str:
    """Make a table: an item a line, with its place, its id, its score and its title."""
    width = max((len(str(each.item)) for each in items), default=0)
    return "\n".join(
        f"{place:>4}  {each.item!s:<{width}}  {each.score:.4f}  {each.title or ''}".rstrip()
        for place, each in enumerate(items, start=1)
    )

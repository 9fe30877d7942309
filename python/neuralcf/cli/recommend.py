"""`neuralcf recommend`: print the best items for a user, with titles if there are any."""

from __future__ import annotations

import argparse
import json
from typing import Any, NamedTuple

from neuralcf.cli.options import Commands, add_command, add_items, add_json, items, positive, print_notes
from neuralcf.errors import ArgumentError

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "recommend",
        _run,
        summary="print the best items for a user",
        example="neuralcf recommend model --user 42 --items movies.csv",
    )
    parser.add_argument("model", metavar="DIR", help="a model directory with stored ids")
    parser.add_argument("--user", required=True, metavar="ID", help="the user's id, as in the training data")
    parser.add_argument("-k", type=positive, default=10, help="how many items (default 10)")
    parser.add_argument(
        "--include-seen", action="store_true", help="also recommend items that the user has already seen"
    )
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
    """One recommended item."""

    item: int | str
    score: float
    title: str | None
    """None without a file of titles, or if that file has no title for this item."""


def _recommend(
    path: str, user: str, k: int, *, include_seen: bool = False, items: dict[str, Any] | None = None
) -> tuple[int | str, list[Recommended]]:
    """Find the best `k` items for a user; print a note to stderr if fewer are left.

    Args:
        path: a model directory with stored ids.
        user: the user's id as typed.
        k: how many items.
        include_seen: whether to include items that the user has already seen.
        items: the arguments of `read_titles` except the ids, or None.

    Returns:
        The user's id in the model's type, and the items, best first.

    Raises:
        ArgumentError: an id that does not parse as the model's type, no stored interactions to exclude, or a file
            without a title for any item.
        UnknownUserError: the user is not in the model.
        ModelFormatError, OSError: a file cannot be read.
    """
    import numpy as np

    from neuralcf.data.dataset import parse_id
    from neuralcf.data.readers.titles import read_titles
    from neuralcf.serving.recommender import Recommender

    recommender = Recommender.load(path)
    user_id = parse_id(user, recommender.user_ids.kind)
    if not include_seen and not recommender.scorer.nbytes["seen"]:
        raise ArgumentError(f"{path}: the model stores no interactions to exclude; pass --include-seen")
    best = recommender.recommend(user_id, k, exclude_seen=not include_seen)
    titles = {}
    if items is not None:
        titles = read_titles(item_ids=recommender.item_ids.take(np.arange(recommender.num_items)), **items)
    ids, scores = best.ids[: best.counts].tolist(), best.scores[: best.counts].tolist()
    if len(ids) < k:
        print_notes([f"only {len(ids)} items are left for this user"])
    return user_id, [Recommended(item, score, titles.get(item)) for item, score in zip(ids, scores, strict=True)]


def _json(user: int | str, items: list[Recommended], *, titles: bool) -> dict[str, Any]:
    """Return the list as JSON values; with `titles`, include each item's title, null if it has none."""
    rows = [each._asdict() for each in items]
    return {"user": user, "items": rows if titles else [{"item": row["item"], "score": row["score"]} for row in rows]}


def _text(items: list[Recommended]) -> str:
    """Format a table: one line per item, with its rank, id, score and title."""
    width = max((len(str(each.item)) for each in items), default=0)
    return "\n".join(
        f"{place:>4}  {each.item!s:<{width}}  {each.score:.4f}  {each.title or ''}".rstrip()
        for place, each in enumerate(items, start=1)
    )

"""`neuralcf recommend`: print the best items for a user, or write those of many users to a file."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neuralcf.cli.options import (
    Commands,
    add_command,
    add_encoding,
    add_items,
    add_json,
    items,
    positive,
    print_notes,
    recall,
)
from neuralcf.errors import ArgumentError

if TYPE_CHECKING:
    from neuralcf.serving.recommender import Recommender

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "recommend",
        _run,
        summary="print the best items for a user, or write those of many users to a file",
        example="neuralcf recommend model --user 42 --items movies.csv",
    )
    parser.add_argument("model", metavar="DIR", help="a model directory with stored ids")
    whom = parser.add_mutually_exclusive_group(required=True)
    whom.add_argument(
        "--user", metavar="ID", help="the user's id, as in the training data; --user=ID if it begins with -"
    )
    whom.add_argument("--all-users", action="store_true", help="all users of the model, to --out")
    whom.add_argument("--users-file", metavar="FILE", help="the users in this file, an id on each line, to --out")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the file to write: .csv, .jsonl or .parquet; after an interruption the same command goes on",
    )
    parser.add_argument("-k", type=positive, default=10, help="how many items (default 10)")
    parser.add_argument(
        "--include-seen", action="store_true", help="also recommend items that the user has already seen"
    )
    parser.add_argument(
        "--search",
        choices=("exact", "approximate"),
        default="exact",
        help="how items are found: approximate goes by the model's index, and may miss some (default exact)",
    )
    parser.add_argument(
        "--recall", type=recall, metavar="R", help="of an approximate search: the share found (default 0.99)"
    )
    parser.add_argument(
        "--probes", type=positive, metavar="N", help="in place of --recall: lists of the index to visit"
    )
    add_items(parser)
    add_encoding(parser)
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    titles = items(options)
    if options.user is None:
        _write_lists(options, titles)
        return
    if options.out is not None:
        raise ArgumentError("--out: expected --all-users or --users-file with it, got --user")
    user, best = _recommend(
        options.model,
        options.user,
        options.k,
        include_seen=options.include_seen,
        items=titles,
        search=_search(options),
    )
    if options.json:
        print(json.dumps(_json(user, best, titles=titles is not None)))
    elif best:
        print(_text(best))


def _search(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments `search`, `recall` and `probes` of `Recommender.recommend`."""
    given = [name for name in ("recall", "probes") if getattr(options, name) is not None]
    if given and options.search == "exact":
        raise ArgumentError(f"--{given[0]}: only with --search approximate; the exact search finds every item")
    if len(given) == 2:
        raise ArgumentError("--probes: expected --recall or --probes, got both")
    return {"search": options.search, "recall": options.recall, "probes": options.probes}


def _write_lists(options: argparse.Namespace, items: dict[str, Any] | None) -> None:
    """Write the lists of many users.

    Raises:
        As `_recommend`; ArgumentError also without a file to write.
    """
    import numpy as np

    from neuralcf.batch.lists import ENDINGS, write_lists
    from neuralcf.data.readers.titles import read_titles
    from neuralcf.serving.recommender import Recommender

    out = options.out
    if out is None:
        raise ArgumentError("--all-users, --users-file: expected --out with them")
    if out.suffix.lower() not in ENDINGS:
        raise ArgumentError(f"--out: expected a name that ends in {', '.join(ENDINGS)}, got {out}")
    if not out.parent.is_dir():
        raise ArgumentError(f"--out: expected a file in an existing directory, got {out}")
    recommender = Recommender.load(options.model)
    _check_seen(recommender, options.model, include_seen=options.include_seen)
    _check_index(recommender, options.model, options.search)
    users = None if options.users_file is None else _users_of(options.users_file, recommender, options.encoding)
    titles = None
    if items is not None:
        titles = read_titles(item_ids=recommender.item_ids.take(np.arange(recommender.num_items)), **items)
    with _progress_bar() as progress:
        report = write_lists(
            recommender,
            out,
            users,
            min(options.k, recommender.num_items),
            exclude_seen=not options.include_seen,
            search=_search(options),
            titles=titles,
            model_id=str(recommender.scorer.metadata.get("model_id", options.model)),
            progress=progress,
        )
    if report.short:
        print_notes([f"{report.short:,} users have fewer than {options.k} items left"])
    print(f"{report.rows:,} items for {report.users:,} users written to {out}")


def _users_of(path: str, recommender: Recommender, encoding: str | None) -> list[int] | list[str]:
    """Read the users in a file, each once; those who are not in the model are left out, with a note.

    Raises:
        ArgumentError: no user of the model, or a file that is not text.
        OSError: the file cannot be read.
    """
    from neuralcf.data.dataset import is_integer
    from neuralcf.data.readers.text import read_lines

    lines = read_lines(path, encoding=encoding)
    texts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    integers = recommender.user_ids.kind != "str"
    ids: list[Any] = [int(text) for text in texts if is_integer(text)] if integers else texts
    found: Any = recommender.user_ids.find(ids) >= 0 if ids else []
    known = [id_ for id_, there in zip(ids, found, strict=True) if there]
    if len(known) < len(texts):
        there = set(map(str, known))
        other = next(text for text in texts if text not in there)
        if not known:
            raise ArgumentError(
                f"{path}: expected users of the model, an id on each line, such as "
                f"{recommender.user_ids.take([0])[0]}, got others, such as {other!r}"
            )
        print_notes([f"{len(texts) - len(known):,} users are not in the model, such as {other!r}; left out"])
    if not known:
        raise ArgumentError(f"{path}: expected users, an id on each line, got none")
    return known


def _check_index(recommender: Recommender, path: str, search: str) -> None:
    if search == "approximate" and recommender.scorer.index is None:
        raise ArgumentError(f"--search approximate: {path} has no index; neuralcf index builds one")


def _check_seen(recommender: Recommender, path: str, *, include_seen: bool) -> None:
    if not include_seen and not recommender.scorer.nbytes["seen"]:
        raise ArgumentError(f"{path}: the model stores no interactions to exclude; pass --include-seen")


@contextlib.contextmanager
def _progress_bar() -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar on a terminal, as training does, where tqdm is installed; yield what moves it."""
    try:
        from tqdm import tqdm  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        yield None
        return
    with tqdm(desc="recommend", unit="user", disable=None) as bar:

        def move(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        yield move


class Recommended(NamedTuple):
    """One recommended item."""

    item: int | str
    score: float
    title: str | None
    """None without a file of titles, or if that file has no title for this item."""


def _recommend(
    path: str,
    user: str,
    k: int,
    *,
    include_seen: bool = False,
    items: dict[str, Any] | None = None,
    search: dict[str, Any],
) -> tuple[int | str, list[Recommended]]:
    """Find the best `k` items for a user; print a note to stderr if fewer are left.

    Args:
        path: a model directory with stored ids.
        user: the user's id as typed.
        k: how many items.
        include_seen: whether to include items that the user has already seen.
        items: the arguments of `read_titles` except the ids, or None.
        search: the arguments `search`, `recall` and `probes` of `Recommender.recommend`.

    Returns:
        The user's id in the model's type, and the items, best first.

    Raises:
        ArgumentError: an id that does not parse as the model's type, no stored interactions to exclude, no index to
            search, or a file without a title for any item.
        UnknownUserError: the user is not in the model.
        ModelFormatError, OSError: a file cannot be read.
    """
    import numpy as np

    from neuralcf.data.dataset import parse_id
    from neuralcf.data.readers.titles import read_titles
    from neuralcf.serving.recommender import Recommender

    recommender = Recommender.load(path)
    user_id = parse_id(user, recommender.user_ids.kind)
    _check_seen(recommender, path, include_seen=include_seen)
    _check_index(recommender, path, search["search"])
    best = recommender.recommend(user_id, min(k, recommender.num_items), exclude_seen=not include_seen, **search)
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

"""`neuralcf index`: build the approximate index of a model, and measure it beside the exact search."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from neuralcf.cli.options import Commands, add_command, add_json, positive, recall

if TYPE_CHECKING:
    from neuralcf._core import Scorer
    from neuralcf.results import IndexRecall, UserVectors

__all__ = ["add_parser"]

_CHECKED_USERS: Final = 1000
"""Fresh users whose recall is measured."""
_TIMED_SECONDS: Final = 2.0
"""Seconds for which searches are timed, of each kind and for each k."""
_NEWCOMERS: Final = 200
"""Fresh users made of pairs of users, where all users had a part in the index."""
_WORTHWHILE: Final = 0.9
"""An approximate search that takes a larger share of the exact one's time is not worth a lost item."""


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "index",
        _run,
        summary="build the index of a model for approximate search, and measure it",
        example="neuralcf index model --check",
    )
    parser.add_argument("model", metavar="DIR", help="a model directory")
    parser.add_argument(
        "--recall", type=recall, default=0.99, metavar="R", help="the recall to show and to check (default 0.99)"
    )
    parser.add_argument("--lists", type=positive, metavar="N", help="the number of lists; chosen by default")
    parser.add_argument("--seed", type=_seed, metavar="N", help="chooses the samples of items and users (default 0)")
    parser.add_argument(
        "--check",
        action="store_true",
        help="measure recall and time beside the exact search on users who had no part in the index; an index that is "
        "there is measured as it is, unless --lists or --seed ask for another",
    )
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    from neuralcf._core import Scorer
    from neuralcf.errors import ArgumentError

    if Path(options.model).is_file():
        raise ArgumentError(f"{options.model}: expected a model directory, in which an index is saved, got a file")
    scorer = Scorer.load(options.model)
    if options.lists is not None and options.lists > scorer.num_items:
        most = f"{scorer.num_items}, the number of items"
        raise ArgumentError(f"--lists: expected 1 to {most}; got {options.lists}")
    kept = options.check and options.lists is None and options.seed is None and _usable(scorer)
    if not kept:
        with _progress_bar() as progress:
            scorer = scorer.build_index(lists=options.lists, seed=options.seed or 0, progress=progress)
        scorer.save_index()
    summary = scorer.index
    assert summary is not None
    levels = [level._asdict() for level in summary.levels]
    facts: dict[str, Any] = {
        "path": options.model,
        "built": not kept,
        "lists": summary.lists,
        "nbytes": summary.nbytes,
        "levels": levels,
    }
    if options.check:
        ks = sorted({level.k for level in summary.levels})
        facts["checks"] = [_check(scorer, k, options.recall) for k in ks if k <= 100]
    print(json.dumps(facts) if options.json else _text(facts, options.recall))


def _usable(scorer: Scorer) -> bool:
    from neuralcf.errors import ModelFormatError

    try:
        return scorer.index is not None
    except ModelFormatError:
        return False


# -------------------------------------------------------------------------------------------------------------- checks


def _check(scorer: Scorer, k: int, promised: float) -> dict[str, Any]:
    """Measure the recall of `k` items on fresh users, and the time of a search beside that of the exact one."""
    users, source = _fresh_users(scorer)
    found: IndexRecall = scorer.index_recall(k, promised, users=users)
    exact, approximate = _seconds(scorer, k, promised)
    return {
        "k": k,
        "recall": promised,
        "measured": found.measured,
        "error": found.error,
        "users": found.users,
        "source": source,
        "exact_us": 1e6 * exact,
        "approximate_us": 1e6 * approximate,
        "exact_is_enough": approximate > _WORTHWHILE * exact,
    }


def _fresh_users(scorer: Scorer) -> tuple[Any, str]:
    """Return users who had no part in the index: some of the model, or mixtures of two if there are no others."""
    import numpy as np

    generator = np.random.default_rng(0)
    others = np.setdiff1d(np.arange(scorer.num_users), scorer.index_sample())
    if len(others) >= _NEWCOMERS:
        return generator.permutation(others)[:_CHECKED_USERS], "users of the model"
    return _mixed(scorer, generator), "mixtures of two users each"


def _mixed(scorer: Scorer, generator: Any) -> UserVectors:
    import numpy as np

    from neuralcf.results import UserVectors

    pairs = generator.integers(0, scorer.num_users, (2, _NEWCOMERS))
    share = generator.random((_NEWCOMERS, 1), dtype=np.float32)
    one, other = (scorer.user_vectors(users) for users in pairs)
    return UserVectors(
        *(None if a is None or b is None else share * a + (1 - share) * b for a, b in zip(one, other, strict=True))
    )


def _seconds(scorer: Scorer, k: int, promised: float) -> tuple[float, float]:
    """Time searches for one user on one thread, exact and approximate by turns; return the least seconds of each."""
    import numpy as np

    users = np.random.default_rng(1).integers(0, scorer.num_users, 64).tolist()
    searches: list[dict[str, Any]] = [{}, {"search": "approximate", "recall": promised}]
    total, least = [0.0, 0.0], [np.inf, np.inf]
    while min(total) < _TIMED_SECONDS and max(total) < 4 * _TIMED_SECONDS:
        for at, options in enumerate(searches):
            start = time.perf_counter()
            for user in users:
                scorer.top_k(user, k, threads=1, **options)
            taken = time.perf_counter() - start
            total[at] += taken
            least[at] = min(least[at], taken / len(users))
    return float(least[0]), float(least[1])


# -------------------------------------------------------------------------------------------------------------- output


def _text(facts: dict[str, Any], shown: float) -> str:
    size = facts["nbytes"] / 2**20
    state = "built and saved" if facts["built"] else "as it is"
    lines = [
        f"{facts['path']}: index {state}: {facts['lists']:,} lists, {size:,.1f} MiB of memory",
        "     k   recall  measured     lists       items visited, in the mean over users",
    ]
    highest = min((level["recall"] for level in facts["levels"] if level["recall"] >= shown), default=0.999)
    lines += [
        "{k:>6} {recall:>8} {measured:>9.4f} {lists:>9,.1f} {items:>11,.0f}".format(**level)
        for level in facts["levels"]
        if level["recall"] == highest
    ]
    for check in facts.get("checks", []):
        verdict = "exact search is enough" if check["exact_is_enough"] else "approximate search is faster"
        lines.append(
            f"checked for k {check['k']}, recall {check['recall']}: {check['measured']:.4f} +- {check['error']:.4f} on "
            f"{check['users']:,} {check['source']}; {check['approximate_us']:,.0f} us, exact "
            f"{check['exact_us']:,.0f} us: {verdict}"
        )
    return "\n".join(lines)


@contextlib.contextmanager
def _progress_bar() -> Iterator[Callable[[float], None] | None]:
    """Show a bar on a terminal, as training does, where tqdm is installed; yield what moves it."""
    try:
        from tqdm import tqdm  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        yield None
        return
    with tqdm(desc="index", total=1.0, disable=None, bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}") as bar:

        def move(share: float) -> None:
            bar.update(share - bar.n)

        yield move


# ------------------------------------------------------------------------------------------------------------- options


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**64):
        raise argparse.ArgumentTypeError(f"expected an integer from 0 to 2^64 - 1, got {text}")
    return int(text)

"""Options that several commands share, and what is made of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from neuralcf.errors import ArgumentError

if TYPE_CHECKING:
    from neuralcf.evaluation.held_out import EvaluationSetup

__all__ = [
    "DATA",
    "MODEL",
    "SPLIT_DATA",
    "Commands",
    "add_baselines",
    "add_command",
    "add_data",
    "add_evaluation",
    "add_items",
    "add_json",
    "add_protocol",
    "evaluation_setup",
    "items",
    "positive",
    "reading",
    "sizes",
]

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

DATA = "a text file, one interaction a line (.gz too), or a Parquet file"
MODEL = "a model directory, or a .safetensors file"
SPLIT_DATA = (
    "what the model was trained on, split again as it was; with --held-out the training part; or X, for X.train.rating "
    "and the two beside it"
)


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], None], *, summary: str, example: str
) -> argparse.ArgumentParser:
    """Add a command that calls `run` with what was parsed; give its parser."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


# -------------------------------------------------------------------------------------------------------------- options


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add how interactions are read; `reading` takes it."""
    data = parser.add_argument_group("data")
    data.add_argument("--user-column", type=_column, metavar="COL", help="name, or 0-based number without a header")
    data.add_argument("--item-column", type=_column, metavar="COL", help="likewise")
    data.add_argument("--rating-column", type=_column, metavar="COL", help="likewise")
    data.add_argument("--timestamp-column", type=_column, metavar="COL", help="likewise")
    data.add_argument("--delimiter", metavar="CHAR", help="recognised when not given")
    data.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first line names the columns; recognised when not given",
    )
    data.add_argument("--min-rating", type=float, metavar="X", help="count only ratings of at least X as interactions")
    data.add_argument(
        "--on-bad-rows",
        choices=("raise", "report"),
        help="stop at a row that cannot be understood, or leave such rows out, counted and listed",
    )


def add_evaluation(parser: argparse.ArgumentParser) -> None:
    """Add what is to be evaluated on; `evaluation_setup` takes it, with the protocol that is chosen beside it."""
    add_data(parser)
    group = parser.add_argument_group("evaluation")
    group.add_argument("--held-out", metavar="FILE", help="held-out interactions, in a file like DATA")
    group.add_argument("-k", type=positive, nargs="+", default=[5, 10, 20], help="cut-offs (default 5 10 20)")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="decides what is drawn (default 0)")


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a protocol."""
    parser.add_argument(
        "--protocol",
        choices=("full", "1+99"),
        default="full",
        help="rank among the whole catalogue (default), or among 99 candidates: those of X, or drawn ones",
    )


def add_baselines(parser: argparse.ArgumentParser, default: list[str]) -> None:
    """Add the baselines that are ranked beside a model."""
    parser.add_argument(
        "--baselines",
        nargs="+",
        default=default,
        choices=("popularity", "itemknn", "ease", "ials"),
        help=f"to rank beside the model (default {' '.join(default) or 'none'})",
    )


def add_items(parser: argparse.ArgumentParser) -> None:
    """Add where titles are read from; `items` takes it."""
    titles = parser.add_argument_group("titles")
    titles.add_argument("--items", metavar="FILE", help="item ids and titles, such as movies.csv, movies.dat or u.item")
    titles.add_argument("--items-id-column", type=_column, metavar="COL", help="name or 0-based number; recognised")
    titles.add_argument("--items-title-column", type=_column, metavar="COL", help="likewise")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the choice of JSON."""
    parser.add_argument("--json", action="store_true", help="print JSON")


# ------------------------------------------------------------------------------------------------- values and arguments


def positive(text: str) -> int:
    """Read an integer of at least 1."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text!r}")
    return int(text)


def sizes(text: str) -> tuple[int, ...]:
    """Read integers of at least 1 between commas."""
    return tuple(positive(size.strip()) for size in text.split(","))


def _column(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def reading(options: argparse.Namespace) -> dict[str, Any]:
    """Give the arguments of `read_interactions`, but for the data."""
    return {
        "user": options.user_column,
        "item": options.item_column,
        "rating": options.rating_column,
        "timestamp": options.timestamp_column,
        "min_rating": options.min_rating,
        "delimiter": options.delimiter,
        "header": options.header,
        "on_bad_rows": options.on_bad_rows or "raise",
    }


def evaluation_setup(options: argparse.Namespace) -> EvaluationSetup:
    """Give what is to be evaluated on, and how."""
    from neuralcf.evaluation.held_out import EvaluationSetup

    return EvaluationSetup(
        data=options.data,
        reading=reading(options),
        held_out=options.held_out,
        protocol=options.protocol,
        cutoffs=options.k,
        seed=options.seed,
    )


def items(options: argparse.Namespace) -> dict[str, Any] | None:
    """Give the arguments of `read_titles` but for the ids, where a file of items is given.

    Raises:
        ArgumentError: columns of no file.
    """
    columns = {"id_column": options.items_id_column, "title_column": options.items_title_column}
    if options.items is not None:
        return {"path": options.items, **columns}
    if columns != {"id_column": None, "title_column": None}:
        raise ArgumentError("--items-id-column, --items-title-column: expected with --items")
    return None

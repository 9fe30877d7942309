"""Options shared by several commands, and their conversion to library arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from neuralcf.errors import ArgumentError, in_words_of

if TYPE_CHECKING:
    from neuralcf.data.dataset import Dataset
    from neuralcf.data.readers.features import Choice, FeatureReport, Side
    from neuralcf.evaluation.held_out import EvaluationSetup

__all__ = [
    "DATA",
    "MODEL",
    "NCF_PREFIX",
    "SPLIT_DATA",
    "Commands",
    "add_baselines",
    "add_command",
    "add_data",
    "add_encoding",
    "add_evaluation",
    "add_features",
    "add_items",
    "add_json",
    "add_protocol",
    "evaluation_setup",
    "in_options",
    "items",
    "one_or_all",
    "option_name",
    "positive",
    "print_notes",
    "reading",
    "recall",
    "separated_by",
    "sizes",
    "with_features",
]

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

DATA = (
    "files of interactions: delimited text, JSON lines, adjacency lists or Parquet, plain or compressed; a folder of "
    "them; or - for standard input"
)
MODEL = "a model directory or a .safetensors file"
NCF_PREFIX = "the prefix X of X.train.rating and its two companion files"
SPLIT_DATA = (
    "the file that the model was trained on, which is split again in the same way; with --held-out, the training set; "
    f"or {NCF_PREFIX}"
)


_OPTIONS = {
    "user": "--user-column",
    "item": "--item-column",
    "rating": "--rating-column",
    "timestamp": "--timestamp-column",
    "weight": "--weight-column",
    "event": "--event-column",
    "event_weights": "--event-weight",
    "id_column": "--items-id-column",
    "title_column": "--items-title-column",
    "users": "--user",
    "learning_rate": "--lr",
    "validation=False": "--no-validation",
    "header=True": "--header",
    "header=False": "--no-header",
    "text_ids=True": "--text-ids",
    "trust=True": "--trust",
    "names": "--map",
}
"""Arguments in Python whose options are named otherwise; the option of `min_rating` is `--min-rating`."""


def option_name(name: str, value: str | None) -> str:
    """Name an argument, and its value if there is one, as the command line does."""
    name = name.rstrip("=")
    if value is not None and f"{name}={value}" in _OPTIONS:
        return _OPTIONS[f"{name}={value}"]
    option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
    return option if value is None else f"{option} {value.strip(chr(39))}"


def in_options(text: str) -> str:
    """Return a message with its arguments named as the command line does."""
    return in_words_of(getattr(text, "marked", text), option_name)


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], None], *, summary: str, example: str
) -> argparse.ArgumentParser:
    """Add a command that calls `run` with the parsed options; return its parser."""
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
    """Add the options for reading interactions, which `reading` converts."""
    data = parser.add_argument_group("data")
    for field in ("user", "item", "rating", "timestamp"):
        none = "; - for none" if field in ("rating", "timestamp") else ""
        data.add_argument(
            f"--{field}-column",
            type=_column,
            metavar="COL",
            help=f"the column of {field}s, by name or number from 0; detected by default{none}",
        )
    data.add_argument(
        "--weight-column", "--weight", type=_column, metavar="COL", help="how much each row counts; none by default"
    )
    data.add_argument(
        "--event-column", type=_column, metavar="COL", help="kinds of events, such as view; for --event-weight"
    )
    data.add_argument(
        "--event-weight",
        action="append",
        type=_event_weight,
        metavar="EVENT=X",
        help="how much rows of this event count, such as purchase=3; 0 leaves them out; other events count 1; may be "
        "repeated",
    )
    data.add_argument(
        "--repeats",
        choices=("first", "sum"),
        help="the weight of a user's repeated item: that of the first row, or the sum of all (default sum with weights "
        "or events)",
    )
    data.add_argument(
        "--delimiter",
        type=lambda text: "\t" if text == r"\t" else text,
        metavar="CHAR",
        help=r"column separator, \t for a tab, ' ' for any blanks; detected by default",
    )
    add_encoding(data)
    data.add_argument("--text-ids", action="store_true", help="keep all ids as text, also 007 and 7")
    data.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first line names the columns; detected by default",
    )
    data.add_argument("--min-rating", type=float, metavar="X", help="keep only ratings of at least X as interactions")
    data.add_argument(
        "--dislike-below",
        type=float,
        metavar="X",
        help="ratings below X are dislikes: never recommended, and preferred as negatives in training",
    )
    data.add_argument(
        "--min-user",
        type=positive,
        default=1,
        metavar="N",
        help="leave out users with fewer than N items, in turns with --min-item until all that are left have enough",
    )
    data.add_argument(
        "--min-item",
        type=positive,
        default=1,
        metavar="N",
        help="leave out items with fewer than N users, likewise",
    )
    data.add_argument(
        "--on-bad-rows",
        choices=("raise", "report"),
        help="stop at the first row that cannot be parsed, or skip and count such rows",
    )


def add_encoding(parser: argparse._ActionsContainer) -> None:
    """Add `--encoding`."""
    parser.add_argument(
        "--encoding",
        metavar="NAME",
        help="encoding of all text files that are read, such as cp1252 or utf-16 (default UTF-8; for titles and "
        "features Latin-1 where it is not)",
    )


def add_evaluation(parser: argparse.ArgumentParser) -> None:
    """Add the options of an evaluation but for its protocol; `evaluation_setup` converts both."""
    add_data(parser)
    group = parser.add_argument_group("evaluation")
    group.add_argument("--held-out", metavar="FILE", help="held-out interactions, in a file like DATA")
    group.add_argument("-k", type=positive, nargs="+", default=[5, 10, 20], help="cut-offs (default 5 10 20)")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="random seed of what is sampled (default 0)")


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """Add `--protocol` and `--relevance`."""
    parser.add_argument(
        "--protocol",
        choices=("full", "1+99"),
        default="full",
        help="rank each held-out item among the whole catalogue (default), or among 99 candidates: those of X, or "
        "sampled ones",
    )
    parser.add_argument(
        "--relevance",
        choices=("binary", "weights"),
        default="binary",
        help="what a held-out item is worth in NDCG: all the same (default), or their weights, of --weight-column or "
        "--event-weight",
    )


def add_baselines(parser: argparse.ArgumentParser, default: list[str]) -> None:
    """Add `--baselines`: what to evaluate beside a model."""
    parser.add_argument(
        "--baselines",
        nargs="+",
        default=default,
        choices=("popularity", "itemknn", "ease", "ials", "graph"),
        help=f"fit on the training set and evaluate beside the model (default {' '.join(default) or 'none'})",
    )


def add_items(parser: argparse.ArgumentParser) -> None:
    """Add the options for reading item titles, which `items` converts."""
    titles = parser.add_argument_group("titles")
    titles.add_argument("--items", metavar="FILE", help="item ids and titles, such as movies.csv, movies.dat or u.item")
    titles.add_argument(
        "--items-id-column", type=_column, metavar="COL", help="name or number from 0; detected by default"
    )
    titles.add_argument("--items-title-column", type=_column, metavar="COL", help="likewise")


def add_features(parser: argparse.ArgumentParser) -> None:
    """Add the options for reading attributes of users and items, which `with_features` takes."""
    group = parser.add_argument_group("features")
    for side, file in (("user", "users.dat"), ("item", "movies.csv")):
        group.add_argument(f"--{side}-features", metavar="FILE", help=f"attributes of {side}s, such as {file}")
        group.add_argument(
            f"--{side}-feature-columns",
            type=_feature_columns,
            metavar="COL,COL,...",
            help="columns to use, such as genres:multi,year:number,country (kinds: category, multi, number, id); all "
            "but the ids by default, of detected kinds",
        )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def print_notes(notes: Iterable[str]) -> None:
    """Print notes to stderr."""
    for note in notes:
        print(f"neuralcf: {note}", file=sys.stderr)


# ------------------------------------------------------------------------------------------------- values and arguments


def recall(text: str) -> float:
    """Convert an option that is a recall of an approximate search."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 0.999:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and at most 0.999, got {text}")
    return number


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    if not (text.isascii() and text.isdecimal() and len(text) < 19) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text!r}")
    return int(text)


def sizes(text: str) -> tuple[int, ...]:
    """Parse integers of at least 1, separated by commas."""
    return tuple(positive(size.strip()) for size in text.split(","))


def _feature_columns(text: str) -> Choice:
    from neuralcf.data.readers.features import parse_choice

    try:
        return parse_choice(text)
    except ArgumentError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def with_features(options: argparse.Namespace, train: Dataset) -> tuple[Dataset, dict[str, FeatureReport]]:
    """Add the features that the options name to a training set.

    Returns:
        The training set with features, and a report by side.

    Raises:
        ArgumentError: a file that cannot be read, or columns without a file.
        OSError: a file cannot be read.
    """
    from neuralcf.data.readers.features import read_features

    sides: tuple[Side, Side] = "user", "item"
    reports: dict[str, FeatureReport] = {}
    for side in sides:
        file, choice = getattr(options, f"{side}_features"), getattr(options, f"{side}_feature_columns")
        if file is None and choice is not None:
            raise ArgumentError(f"--{side}-feature-columns: expected --{side}-features with it")
        if file is not None:
            ids = train.user_ids if side == "user" else train.item_ids
            features, reports[side] = read_features(file, ids, side, choice, encoding=options.encoding)
            train = replace(train, user_features=features) if side == "user" else replace(train, item_features=features)
    return train, reports


def _column(text: str) -> str | int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else text


def _event_weight(text: str) -> tuple[str, float]:
    name, separator, weight = text.rpartition("=")
    try:
        return name, float(weight if separator and name else "")
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected EVENT=X, such as purchase=3, got {text!r}") from None


def one_or_all(paths: list[str]) -> str | list[str]:
    """Return the path, if there is one alone."""
    return paths[0] if len(paths) == 1 else paths


def separated_by(delimiter: str | None) -> str:
    """Say what separates columns, as an ending of a sentence; nothing for tables."""
    return "" if delimiter is None else ", in JSON" if delimiter == "JSON" else f", separated by {delimiter!r}"


def reading(options: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of `read_interactions`."""
    return {
        "user": options.user_column,
        "item": options.item_column,
        "rating": options.rating_column,
        "timestamp": options.timestamp_column,
        "weight": options.weight_column,
        "event": options.event_column,
        "event_weights": None if options.event_weight is None else dict(options.event_weight),
        "repeats": options.repeats,
        "min_rating": options.min_rating,
        "dislike_below": options.dislike_below,
        "min_user": options.min_user,
        "min_item": options.min_item,
        "delimiter": options.delimiter,
        "header": options.header,
        "encoding": options.encoding,
        "text_ids": options.text_ids,
        "on_bad_rows": options.on_bad_rows or "raise",
    }


def evaluation_setup(options: argparse.Namespace) -> EvaluationSetup:
    """Return the `EvaluationSetup` that the options describe."""
    from neuralcf.evaluation.held_out import EvaluationSetup

    return EvaluationSetup(
        data=one_or_all(options.data),
        reading=reading(options),
        held_out=options.held_out,
        protocol=options.protocol,
        relevance=options.relevance,
        cutoffs=options.k,
        seed=options.seed,
    )


def items(options: argparse.Namespace) -> dict[str, Any] | None:
    """Return the arguments of `read_titles` except the ids, or None without `--items`.

    Raises:
        ArgumentError: columns are given without `--items`.
    """
    columns = {"id_column": options.items_id_column, "title_column": options.items_title_column}
    if options.items is not None:
        return {"path": options.items, "encoding": options.encoding, **columns}
    if columns != {"id_column": None, "title_column": None}:
        raise ArgumentError("--items-id-column, --items-title-column: expected --items with them")
    return None

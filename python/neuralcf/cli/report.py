"""`neuralcf report`."""

import argparse
from pathlib import Path

from neuralcf.cli.options import (
    MODEL,
    SPLIT_DATA,
    Commands,
    add_baselines,
    add_command,
    add_items,
    add_questions,
    items,
    questions,
)

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "report",
        _run,
        summary="write an HTML report of a model: its training, metrics beside baselines, probabilities, lists to read",
        example="neuralcf report model ratings.csv --items movies.csv --out report.html",
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("data", metavar="DATA", help=SPLIT_DATA)
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the file to write, or to replace")
    add_baselines(parser, ["popularity"])
    parser.add_argument("--users", type=int, default=6, metavar="N", help="lists of N users, drawn (default 6)")
    parser.add_argument("--user", nargs="+", metavar="ID", help="lists of these users instead")
    add_items(parser)
    add_questions(parser)
    parser.set_defaults(protocol="full")  # and 1+99 besides


def _run(options: argparse.Namespace) -> None:
    from neuralcf.report_command import write_report

    written = write_report(
        options.out,
        options.model,
        questions(options),
        baselines=options.baselines,
        users=options.users if options.user is None else options.user,
        items=items(options),
    )
    print(written)

"""`neuralcf report`: an HTML report of a model."""

import argparse
from pathlib import Path

from neuralcf.cli.options import (
    MODEL,
    SPLIT_DATA,
    Commands,
    add_baselines,
    add_command,
    add_evaluation,
    add_items,
    evaluation_setup,
    items,
)
from neuralcf.errors import ArgumentError
from neuralcf.files import write_atomically

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
    add_evaluation(parser)
    parser.set_defaults(protocol="full")  # and 1+99 besides


def _run(options: argparse.Namespace) -> None:
    from neuralcf.report.build import report
    from neuralcf.report.charts import require_matplotlib

    require_matplotlib()
    out = options.out
    if out.is_dir():
        raise ArgumentError(f"--out: expected a file to write, got the directory {out}")
    if not out.parent.is_dir():
        raise ArgumentError(f"--out: expected a file in a directory that is there, got {out}")
    page = report(
        options.model,
        evaluation_setup(options),
        baselines=options.baselines,
        users=options.users if options.user is None else options.user,
        items=items(options),
    )
    html = page.html().encode()
    write_atomically(out, html)
    print(f"report written to {out}, {len(html) / 1e6:.1f} MB")

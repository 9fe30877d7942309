"""`neuralcf report`: write an HTML report on a model."""

import argparse
import sys
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
    print_notes,
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
        summary="write an HTML report on a model: training, metrics, popularity, calibration, sample lists",
        example="neuralcf report model ratings.csv --items movies.csv --out report.html",
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("data", nargs="+", metavar="DATA", help=SPLIT_DATA)
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="HTML file to write or overwrite")
    add_baselines(parser, ["popularity"])
    parser.add_argument(
        "--users", type=int, default=6, metavar="N", help="show the lists of N sampled users (default 6)"
    )
    parser.add_argument("--user", nargs="+", metavar="ID", help="show the lists of these users instead")
    add_items(parser)
    add_evaluation(parser)
    parser.set_defaults(protocol="full", relevance="binary")  # the report adds 1+99 itself


def _run(options: argparse.Namespace) -> None:
    from neuralcf.report.build import report
    from neuralcf.report.charts import require_matplotlib

    require_matplotlib()
    out = options.out
    if out.is_dir():
        raise ArgumentError(f"--out: expected a file to write, got the directory {out}")
    if not out.parent.is_dir():
        raise ArgumentError(f"--out: expected a file in an existing directory, got {out}")
    page = report(
        options.model,
        evaluation_setup(options),
        baselines=options.baselines,
        users=options.users if options.user is None else options.user,
        items=items(options),
        progress=_print_progress,
    )
    print_notes(page.notes)
    html = page.html().encode()
    write_atomically(out, html)
    print(f"report written to {out}, {len(html) / 1e6:.1f} MB")


def _print_progress(step: str) -> None:
    """Print a step that takes a while, on a terminal only."""
    if sys.stderr.isatty():
        print_notes([step])

"""`neuralcf demo`."""

import argparse
from pathlib import Path

from neuralcf.cli.options import Commands, add_command

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "demo",
        _run,
        summary="train on data made on the spot, serve from Rust, compare with torch, write a report",
        example="neuralcf demo --out demo",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("neuralcf-demo"), metavar="DIR", help="where to write (default neuralcf-demo)"
    )


def _run(options: argparse.Namespace) -> None:
    from neuralcf.demo.tour import demo

    demo(options.out)

"""`neuralcf demo`: the whole workflow on synthetic data."""

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
        summary="run the whole workflow on synthetic data: train, serve from Rust, compare with torch, write a report",
        example="neuralcf demo --out demo",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("neuralcf-demo"),
        metavar="DIR",
        help="output directory (default neuralcf-demo)",
    )


def _run(options: argparse.Namespace) -> None:
    from neuralcf.demo.tour import demo

    demo(options.out)

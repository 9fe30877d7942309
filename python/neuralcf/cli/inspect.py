"""`neuralcf inspect`."""

import argparse
import json

from neuralcf.cli.options import MODEL, Commands, add_command, add_json

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "inspect", _run, summary="tell what a model is", example="neuralcf inspect model")
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    from neuralcf.inspect_command import inspect_model, inspection_text

    facts = inspect_model(options.model)
    print(json.dumps(facts) if options.json else inspection_text(facts))

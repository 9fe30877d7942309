"""`neuralcf describe`."""

import argparse
import json

from neuralcf.cli.options import DATA, Commands, add_command, add_data, add_json, reading

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "describe",
        _run,
        summary="tell what is in a file of interactions",
        example="neuralcf describe ratings.csv",
    )
    parser.add_argument("data", metavar="DATA", help=f"{DATA}; or X, for X.train.rating and the two beside it")
    add_data(parser)
    parser.set_defaults(on_bad_rows="report")  # bad rows are part of what there is to tell
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    from neuralcf.describe import describe, render

    facts = describe(options.data, **reading(options))
    print(json.dumps(facts) if options.json else render(facts))

"""`neuralcf doctor`."""

import argparse
import json

from neuralcf.cli.options import Commands, add_command, add_json

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "doctor",
        _run,
        summary="tell what this machine offers and what is made of it",
        example="neuralcf doctor",
    )
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    from neuralcf.doctor import examine, render

    facts = examine()
    print(json.dumps(facts) if options.json else render(facts))

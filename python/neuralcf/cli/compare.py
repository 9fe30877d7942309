"""`neuralcf compare`."""

import argparse
import json

from neuralcf.cli.options import (
    SPLIT_DATA,
    Commands,
    add_command,
    add_json,
    add_protocol,
    add_questions,
    questions,
)

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "compare",
        _run,
        summary="compare two models on the same held-out interactions, user by user",
        example="neuralcf compare model ease ratings.csv",
    )
    for name in "AB":
        parser.add_argument(
            name, help="a model, popularity, itemknn or ease; or an .npz file that evaluate --per-user wrote"
        )
    parser.add_argument("data", nargs="?", metavar="DATA", help=f"{SPLIT_DATA}; not for .npz files")
    add_questions(parser)
    add_protocol(parser)
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    from neuralcf.evaluation.held_out import comparison_json, comparison_text, evaluate_or_load
    from neuralcf.evaluation.significance import compare

    a, b = evaluate_or_load((options.A, options.B), questions(options) if options.data else None)
    differences = compare(a, b)
    print(json.dumps(comparison_json(differences, a)) if options.json else comparison_text(differences, a))

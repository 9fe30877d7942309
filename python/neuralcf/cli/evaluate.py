"""`neuralcf evaluate`."""

import argparse
import json
from pathlib import Path

from neuralcf.cli.options import (
    MODEL,
    SPLIT_DATA,
    Commands,
    add_baselines,
    add_command,
    add_json,
    add_protocol,
    add_questions,
    questions,
)
from neuralcf.files import write_atomically

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "evaluate",
        _run,
        summary="measure a model on held-out interactions",
        example="neuralcf evaluate model ratings.csv",
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("data", metavar="DATA", help=SPLIT_DATA)
    add_questions(parser)
    add_protocol(parser)
    add_json(parser)
    add_baselines(parser, [])
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the numbers there too, as JSON")
    parser.add_argument("--per-user", type=Path, metavar="FILE", help="write the model's value of each user, as .npz")


def _run(options: argparse.Namespace) -> None:
    from neuralcf.evaluation.held_out import evaluate_model, evaluation_json, evaluation_text

    evaluations = evaluate_model(options.model, questions(options), options.baselines)
    facts = json.dumps(evaluation_json(evaluations))
    print(facts if options.json else evaluation_text(evaluations))
    if options.out is not None:
        write_atomically(options.out, facts.encode() + b"\n")
    if options.per_user is not None:
        evaluations[options.model].save(options.per_user)

"""`neuralcf evaluate`: measure how a model ranks held-out interactions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuralcf.cli.options import (
    MODEL,
    SPLIT_DATA,
    Commands,
    add_baselines,
    add_command,
    add_evaluation,
    add_json,
    add_protocol,
    evaluation_setup,
    print_notes,
)
from neuralcf.files import write_atomically

if TYPE_CHECKING:
    from neuralcf.evaluation.result import Evaluation

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "evaluate",
        _run,
        summary="measure a model on held-out interactions, beside baselines",
        example="neuralcf evaluate model ratings.csv",
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("data", nargs="+", metavar="DATA", help=SPLIT_DATA)
    add_evaluation(parser)
    add_protocol(parser)
    add_json(parser)
    add_baselines(parser, [])
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the metrics to this file, as JSON")
    parser.add_argument(
        "--per-user",
        type=Path,
        metavar="FILE",
        help="write the model's metrics for each user, as .npz, for a later comparison",
    )


def _run(options: argparse.Namespace) -> None:
    from neuralcf.evaluation.held_out import evaluate_model

    evaluations, notes = evaluate_model(options.model, evaluation_setup(options), options.baselines)
    print_notes(notes)
    facts = json.dumps(_json(evaluations))
    print(facts if options.json else _text(evaluations))
    if options.out is not None:
        write_atomically(options.out, facts.encode() + b"\n")
    if options.per_user is not None:
        evaluations[options.model].save(options.per_user)


def _json(evaluations: dict[str, Evaluation]) -> dict[str, Any]:
    """Return every metric with its protocol; an undefined interval is null."""
    from neuralcf.evaluation.significance import interval

    results = {}
    for name, evaluation in evaluations.items():
        means: dict[str, Any] = {metric: interval(values).to_dict() for metric, values in evaluation.per_user.items()}
        means |= {metric: {"mean": value} for metric, value in evaluation.overall.items()}
        results[name] = {metric: {**value, "protocol": evaluation.protocol} for metric, value in means.items()}
    one = next(iter(evaluations.values()))
    return {
        "users": len(one.users),
        "held_out": one.held_out,
        "fingerprint": one.fingerprint,
        "interval": "95%, normal approximation over users",
        "results": results,
    }


def _text(evaluations: dict[str, Evaluation]) -> str:
    """Format a table: one line per metric, one column per ranker (mean +- half the 95% interval), then the protocol."""
    from neuralcf.evaluation.significance import interval

    one = next(iter(evaluations.values()))
    names = [Path(name).name or name for name in evaluations]
    width = max(16, *(len(name) + 2 for name in names))
    lines = [
        f"{one.held_out:,} held-out items of {len(one.users):,} users; +- is the 95% interval of the mean over users",
        f"{'':12}" + "".join(f"{name:>{width}}" for name in names) + "   ranked among",
    ]
    for metric in one.means:
        cells = []
        for evaluation in evaluations.values():
            text = f"{evaluation.means[metric]:.4f}"
            if metric in evaluation.per_user:
                bounds = interval(evaluation.per_user[metric])
                text += f" +-{bounds.high - bounds.mean:.4f}"
            else:
                text += " " * 8
            cells.append(f"{text:>{width}}")
        lines.append(f"{metric:12}{''.join(cells)}   {one.protocol}")
    return "\n".join(lines)

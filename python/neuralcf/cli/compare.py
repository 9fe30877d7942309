"""`neuralcf compare`: two models on the same held-out interactions, user by user."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from neuralcf.cli.options import (
    SPLIT_DATA,
    Commands,
    add_command,
    add_evaluation,
    add_json,
    add_protocol,
    evaluation_setup,
    print_notes,
)

if TYPE_CHECKING:
    from neuralcf.evaluation.result import Evaluation
    from neuralcf.evaluation.significance import Difference

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
            name,
            help="a model, popularity, itemknn, ease, ials or graph; or an .npz file written by evaluate --per-user",
        )
    parser.add_argument("data", nargs="*", metavar="DATA", help=f"{SPLIT_DATA}; not for .npz files")
    add_evaluation(parser)
    add_protocol(parser)
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    from neuralcf.evaluation.held_out import evaluate_or_load
    from neuralcf.evaluation.significance import compare

    (a, b), notes = evaluate_or_load((options.A, options.B), evaluation_setup(options) if options.data else None)
    print_notes(notes)
    differences = compare(a, b)
    print(json.dumps(_json(differences, a)) if options.json else _text(differences, a))


def _text(differences: Sequence[Difference], a: Evaluation) -> str:
    """Format a table of A, B and their difference with its interval and p-value."""
    lines = [
        f"{a.held_out:,} held-out items of the same {len(a.users):,} users",
        f"{'':12}{'A':>9}{'B':>9}{'A - B':>10}{'95% interval':>22}{'p':>9}   ranked among",
    ]
    for each in differences:
        text = f"{each.metric:12}{each.a:9.4f}{each.b:9.4f}{each.a - each.b:+10.4f}"
        if each.difference is None or each.p is None:
            text += " " * 31
        else:
            bounds = f"{each.difference.low:+.4f} to {each.difference.high:+.4f}"
            text += f"{bounds:>22}{each.p:9.4f}"
        lines.append(f"{text}   {a.protocol}")
    return "\n".join([*lines, "p: two-sided sign-flip permutation test on per-user differences, 10,000 flips"])


def _json(differences: Sequence[Difference], a: Evaluation) -> dict[str, Any]:
    """Return every difference with its protocol; an undefined interval is null."""
    rows = []
    for each in differences:
        row = asdict(each)
        if each.difference is not None:
            row["difference"] = each.difference.to_dict()
        rows.append({**row, "protocol": a.protocol})
    test = "sign-flip permutation, two-sided, 10,000 flips"
    return {"users": len(a.users), "held_out": a.held_out, "fingerprint": a.fingerprint, "test": test, "metrics": rows}

"""`neuralcf describe`: summarise a source of interactions."""

import argparse
import json
from typing import Any

from neuralcf.cli.options import (
    DATA,
    NCF_PREFIX,
    Commands,
    add_command,
    add_data,
    add_json,
    in_options,
    one_or_all,
    reading,
    separated_by,
)

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "describe",
        _run,
        summary="summarise a file of interactions",
        example="neuralcf describe ratings.csv",
    )
    parser.add_argument("data", nargs="+", metavar="DATA", help=f"{DATA}; or {NCF_PREFIX}")
    add_data(parser)
    parser.set_defaults(on_bad_rows="report")  # bad rows belong in a summary
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    from neuralcf.data.summary import summarize

    facts = _in_options(summarize(one_or_all(options.data), **reading(options)))
    print(json.dumps(facts) if options.json else _text(facts))


def _in_options(facts: dict[str, Any]) -> dict[str, Any]:
    """Name arguments in problems as the command line does."""
    for file in facts["files"]:
        file["problems"] = list(map(in_options, file["problems"]))
    return facts


def _text(facts: dict[str, Any]) -> str:
    """Format the facts for the terminal."""
    lines: list[str] = []
    for file in facts["files"]:
        columns = f"columns {', '.join(file['columns'])}{separated_by(file['delimiter'])}"
        lines.append(f"{file['source']}: {file['rows']:,} rows, {columns}")
        if file["passed_over"]:
            lines.append(_row("not read", f"columns {', '.join(file['passed_over'])}"))
        lines.extend(_row("guessed", note) for note in file["notes"])
        if file["ratings"] or file["unrated"]:
            ratings = "from {:g} to {:g}".format(*file["ratings"]) if file["ratings"] else "none"
            missing = f", {file['unrated']:,} rows without a number" if file["unrated"] else ""
            lines.append(_row("ratings", ratings + missing))
        for name, what in (
            ("below_threshold", "below the minimum rating"),
            ("weightless", "of events that do not count"),
            ("below_core", "of users or items with too few"),
        ):
            if file[name]:
                lines.append(_row("skipped", f"{file[name]:,} {what}"))
        if file["dislikes"]:
            lines.append(_row("dislikes", f"{file['dislikes']:,}, which are no interactions and never recommended"))
        if file["duplicates"]:
            what = f"{file['duplicates']:,} with the same user and item as another row"
            listed = ", ".join(map(str, file["duplicate_lines"]))
            more = ", ..." if file["duplicates"] > len(file["duplicate_lines"]) else ""
            lines.append(_row("duplicates", f"{what}: {'line' if file['delimiter'] else 'row'} {listed}{more}"))
        if file["bad"]:
            lines.append(_row("bad rows", f"{file['bad']:,}, of which {file['missing']:,} with a missing value"))
            lines.extend(f"    {problem}" for problem in file["problems"])
            if file["bad"] > len(file["problems"]):
                lines.append(f"    ... and {file['bad'] - len(file['problems']):,} more")
    data = facts["interactions"]
    lines += [
        f"{data['interactions']:,} interactions of {data['users']:,} users with {data['items']:,} items, "
        f"{100 * data['density']:.3g}% of all pairs",
        _row("ids", f"users {data['user_ids']}, items {data['item_ids']}"),
        _row("per user", _spread(data["per_user"])),
        _row("per item", _spread(data["per_item"])),
        _row("popularity", f"the top 10% of items have {data['share_of_top_tenth_of_items']:.0%} of the interactions"),
        _row("single item", f"{data['users_with_one']:,} users, for whom nothing can be held out"),
        _row("timestamps", "none" if data["timestamps"] is None else "from {} to {}".format(*data["timestamps"])),
        _row("fingerprint", data["fingerprint"]),
    ]
    if facts["split"] is not None:
        split = facts["split"]
        lines += [f"{split['held_out']:,} pairs held out: {split['guarantee']}"]
        if split["candidates"] is not None:
            counts = ", ".join(f"{length} for {pairs:,}" for length, pairs in split["candidates"].items())
            lines.append(_row("candidates", f"{counts} pairs"))
        lines.append(_row("untrained", f"{split['items_never_trained']:,} items have no training interaction"))
    return "\n".join(lines)


def _row(name: str, text: str) -> str:
    return f"  {name:<13}{text}"


def _spread(spread: dict[str, float]) -> str:
    return f"min {spread['least']:,}, median {spread['median']:g}, mean {spread['mean']:.1f}, max {spread['most']:,}"

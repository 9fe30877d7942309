"""`neuralcf describe`: summarise a source of interactions."""

import argparse
import json
from typing import Any

from neuralcf.cli.options import DATA, NCF_PREFIX, Commands, add_command, add_data, add_json, reading

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
    parser.add_argument("data", metavar="DATA", help=f"{DATA}; or {NCF_PREFIX}")
    add_data(parser)
    parser.set_defaults(on_bad_rows="report")  # bad rows belong in a summary
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    from neuralcf.data.summary import summarize

    facts = summarize(options.data, **reading(options))
    print(json.dumps(facts) if options.json else _text(facts))


def _text(facts: dict[str, Any]) -> str:
    """Format the facts for the terminal."""
    lines: list[str] = []
    for file in facts["files"]:
        separated = f", separated by {file['delimiter']!r}" if file["delimiter"] else ""
        lines.append(f"{file['source']}: {file['rows']:,} rows, columns {', '.join(file['columns'])}{separated}")
        if file["ratings"]:
            lines.append(_row("ratings", "from {:g} to {:g}".format(*file["ratings"])))
        if file["below_threshold"]:
            lines.append(_row("skipped", f"{file['below_threshold']:,} below the minimum rating"))
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

"""`neuralcf recommend`."""

import argparse
import json

from neuralcf.cli.options import Commands, add_command, add_items, add_json, items, positive

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "recommend",
        _run,
        summary="print the best items of a user",
        example="neuralcf recommend model --user 42 --items movies.csv",
    )
    parser.add_argument("model", metavar="DIR", help="a model directory that holds ids")
    parser.add_argument("--user", required=True, metavar="ID", help="the user's id, of the model's type")
    parser.add_argument("-k", type=positive, default=10, help="how many items (default 10)")
    parser.add_argument("--include-seen", action="store_true", help="let items come back that the user knows")
    add_items(parser)
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    from neuralcf.recommend_command import recommend, recommendation_json, recommendation_text

    titles = items(options)
    user, best = recommend(options.model, options.user, options.k, include_seen=options.include_seen, items=titles)
    if options.json:
        print(json.dumps(recommendation_json(user, best, titles=titles is not None)))
    elif best:
        print(recommendation_text(best))

"""`neuralcf serve`: serve a model over HTTP."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from neuralcf.cli.options import Commands, add_command, add_encoding, add_items, items, positive
from neuralcf.errors import ArgumentError

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "serve",
        _run,
        summary="serve a model over HTTP, with a page to try it",
        example="neuralcf serve model --items movies.csv",
    )
    parser.add_argument("model", metavar="DIR", help="a model directory with stored ids")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine)")
    parser.add_argument("--port", type=_port, default=8000, help="port (default 8000); 0 takes a free one")
    parser.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="the key that requests must carry; NEURALCF_API_KEY by default",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument("--threads", type=positive, metavar="N", help="threads of a call of the engine")
    limits.add_argument("--timeout", type=_seconds, default=2.0, metavar="S", help="to answer a request (default 2)")
    limits.add_argument(
        "--receive-timeout", type=_seconds, default=10.0, metavar="S", help="to receive a request (default 10)"
    )
    limits.add_argument(
        "--drain", type=_seconds, default=0.0, metavar="S", help="from not ready to closed, at SIGTERM (default 0)"
    )
    for name, default, what in (
        ("k", 1000, "longest list"),
        ("users", 256, "most users in a request"),
        ("items", 10_000, "most items in a request"),
        ("body", 1 << 20, "largest body in bytes"),
        ("in-flight", 64, "most requests accepted and not yet answered"),
        ("connections", 1000, "most connections"),
    ):
        limits.add_argument(
            f"--max-{name}", type=positive, default=default, metavar="N", help=f"{what} (default {default})"
        )
    parser.add_argument(
        "--watch",
        type=_seconds,
        default=1.0,
        metavar="S",
        help="seconds between two looks whether there is a new model (default 1); 0 for none",
    )
    parser.add_argument(
        "--sets",
        type=Path,
        metavar="FILE",
        help="named sets and groups of items, in JSON, for filters; read again with each new model",
    )
    parser.add_argument("--log-requests", action="store_true", help="log every request, in JSON")
    add_encoding(parser)
    add_items(parser)


def _run(options: argparse.Namespace) -> None:
    key = _key(options.api_key_file)
    titles_from = items(options)
    try:
        from neuralcf.serving.http.app import Service, Settings
        from neuralcf.serving.http.logs import log_json
        from neuralcf.serving.http.memory import give_back_large_tables
        from neuralcf.serving.http.server import serve
        from neuralcf.serving.http.sets import set_named
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "httptools", "prometheus_client"):
            raise
        raise ImportError(f"neuralcf serve needs {error.name}: pip install 'neuralcf[serve]'") from error
    from neuralcf.serving.recommender import Recommender
    from neuralcf.serving.watcher import Changes

    def prepare(recommender: Recommender) -> dict[int | str, str] | None:
        if options.sets is not None:
            set_named(recommender, options.sets)
        return _titles(recommender, titles_from)

    give_back_large_tables()  # before there are any
    watched = Changes(options.model, known=True) if options.watch else None
    recommender = Recommender.load(options.model, threads=options.threads)
    settings = Settings(
        max_k=options.max_k,
        max_users=options.max_users,
        max_items=options.max_items,
        max_body=options.max_body,
        max_in_flight=options.max_in_flight,
        timeout=options.timeout,
        api_key=key,
        log_requests=options.log_requests,
    )
    log_json()
    serve(
        Service(recommender, settings, prepare),
        host=options.host,
        port=options.port,
        receive_timeout=options.receive_timeout,
        max_connections=options.max_connections,
        drain=options.drain,
        watched=watched,
        watch_every=options.watch or 1.0,
    )


def _titles(recommender: Any, titles_from: dict[str, Any] | None) -> dict[int | str, str] | None:
    if titles_from is None:
        return None
    import numpy as np

    from neuralcf.data.readers.titles import read_titles

    return read_titles(item_ids=recommender.item_ids.take(np.arange(recommender.num_items)), **titles_from)


def _key(file: Path | None) -> str | None:
    """Read the API key.

    Raises:
        ArgumentError: it is empty, or not ASCII without blanks.
        OSError: the file cannot be read.
    """
    where = "NEURALCF_API_KEY" if file is None else str(file)
    key = os.environ.get("NEURALCF_API_KEY") if file is None else file.read_text(encoding="utf-8").strip()
    if key is not None and not (key.isascii() and key.isprintable() and key and " " not in key):
        raise ArgumentError(f"{where}: expected a key of ASCII characters without blanks")
    return key


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"expected a port, 0 to 65535, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"expected seconds, 0 to 86400, got {text!r}")
    return seconds

"""`neuralcf convert`: make a model directory of another library's model."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from neuralcf.cli.options import Commands, add_command, print_notes
from neuralcf.errors import ArgumentError

__all__ = ["LIBRARY_NAMES", "add_parser"]

LIBRARY_NAMES = (
    "implicit",
    "spark-als",
    "lightfm",
    "recbole",
    "cornac",
    "librecommender",
    "surprise",
    "recommenders",
    "vectors",
    "weights",
)
"""The keys of `neuralcf.convert.LIBRARIES`, which only a conversion imports."""


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "convert",
        _run,
        summary="make a model of another library's model",
        example="neuralcf convert als.npz --from implicit --seen user_items.npz --out model",
    )
    parser.add_argument("source", metavar="SOURCE", help="the file or directory that the library wrote")
    parser.add_argument(
        "--from", dest="library", required=True, choices=LIBRARY_NAMES, help="the library that wrote it"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="where to write the model directory")
    parser.add_argument("--user-ids", metavar="FILE", help="ids of users, one on each line, in the order of the rows")
    parser.add_argument("--item-ids", metavar="FILE", help="ids of items, likewise")
    parser.add_argument("--text-ids", action="store_true", help="keep all ids as text, also 007 and 7")
    parser.add_argument("--seen", metavar="FILE", help="the interactions, users x items: CSR by scipy.sparse.save_npz")
    parser.add_argument(
        "--trust", action="store_true", help="unpickle SOURCE, which can run any program: only what you made yourself"
    )
    parser.add_argument("--user-vectors", metavar="FILE", help="vectors: the users, while SOURCE holds the items")
    parser.add_argument("--metric", metavar="ip", help="vectors: that an index of hnswlib is by inner product")
    parser.add_argument("--user-features", metavar="FILE", help="lightfm: CSR by scipy.sparse.save_npz")
    parser.add_argument("--item-features", metavar="FILE", help="lightfm: likewise")
    parser.add_argument("--model-type", choices=("gmf", "mlp", "neumf"), help="recommenders: if the file does not tell")
    parser.add_argument(
        "--map",
        dest="names",
        action="append",
        type=_name,
        metavar="OURS=THEIRS",
        help="weights: users, items, user_biases, item_biases, bias or a tensor of the format, and its name in SOURCE; "
        "may be repeated",
    )


def _name(text: str) -> tuple[str, str]:
    ours, separator, theirs = text.partition("=")
    if not (ours and separator and theirs):
        raise argparse.ArgumentTypeError(f"expected OURS=THEIRS, such as users=user_factors, got {text!r}")
    return ours, theirs


def _run(options: argparse.Namespace) -> None:
    from neuralcf.convert import LIBRARIES
    from neuralcf.convert.opening import read_csr
    from neuralcf.format.save import check_target

    convert = LIBRARIES[options.library]
    given: dict[str, Any] = {
        name: value
        for name in ("trust", "user_vectors", "metric", "user_features", "item_features", "model_type", "names")
        if (value := getattr(options, name)) not in (None, False)
    }
    taken = inspect.signature(convert).parameters
    if unknown := [name for name in given if name not in taken]:
        option = {"names": "--map"}.get(unknown[0], f"--{unknown[0].replace('_', '-')}")
        raise ArgumentError(f"{option}: not an option of --from {options.library}")
    if "user_vectors" in taken and "user_vectors" not in given:
        raise ArgumentError("--from vectors: expected --user-vectors with it")
    if "names" in given:
        given["names"] = dict(given["names"])
    check_target(options.out)
    given["ids"] = _ids(options)
    if options.seen is not None:
        indptr, indices, _, shape = read_csr(options.seen, "seen")
        given["seen"] = indptr, indices
    converted = convert(options.source, **given)
    if options.seen is not None and shape != (converted.num_users, converted.num_items):
        expected = f"{converted.num_users:,} x {converted.num_items:,}"
        raise ArgumentError(f"--seen: {options.seen}: expected {expected}, got {shape[0]:,} x {shape[1]:,}")
    converted.save(options.out)
    source = converted.config["converted_from"]
    if converted.seen is None:
        print_notes(["no interactions are stored; give --seen, or recommend with --include-seen"])
    print(
        f"{source['model']} of {source['library']} written to {options.out}: {converted.kind}, "
        f"{converted.num_users:,} users, {converted.num_items:,} items"
    )


def _ids(options: argparse.Namespace) -> tuple[list[Any], list[Any]] | None:
    if options.user_ids is None and options.item_ids is None:
        return None
    if options.user_ids is None or options.item_ids is None:
        raise ArgumentError("--user-ids, --item-ids: expected both or neither")
    return _read_ids(options.user_ids, options.text_ids), _read_ids(options.item_ids, options.text_ids)


def _read_ids(path: str, text_ids: bool) -> list[Any]:
    """Read an id from each line; integers if all are."""
    from neuralcf.data.dataset import is_integer
    from neuralcf.data.readers.text import read_lines

    ids = read_lines(path)
    return ids if text_ids or not all(map(is_integer, ids)) else [int(id_) for id_ in ids]

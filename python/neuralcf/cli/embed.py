"""`neuralcf embed`: give vectors to new users or items by their features alone."""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuralcf.cli.options import Commands, add_command, add_encoding, print_notes
from neuralcf.errors import ArgumentError
from neuralcf.files import write_atomically

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from neuralcf.attributes import FeatureMap
    from neuralcf.data.readers.features import Side

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "embed",
        _run,
        summary="give vectors to new users or items by their features alone",
        example="neuralcf embed model --item-features new.csv --out vectors.npz",
    )
    parser.add_argument("model", metavar="DIR", help="a model directory, trained with features")
    side = parser.add_mutually_exclusive_group(required=True)
    side.add_argument("--item-features", metavar="FILE", help="attributes of items, with the columns of the training")
    side.add_argument("--user-features", metavar="FILE", help="attributes of users, likewise")
    add_encoding(parser)
    parser.add_argument("--id-column", metavar="COL", help="name of the column of ids; detected by default")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="a .npz file with ids and arrays, or a .csv file"
    )


def _run(options: argparse.Namespace) -> None:
    if options.out.suffix not in (".npz", ".csv"):
        raise ArgumentError(f"--out: expected a name that ends in .npz or .csv, got {options.out}")
    from neuralcf.data.readers.features import encode_features

    side: Side = "item" if options.item_features is not None else "user"
    file = options.item_features if side == "item" else options.user_features
    known = _read_map(options.model, side)
    ids, features, unknown = encode_features(file, known.columns, side, options.id_column, encoding=options.encoding)
    if not ids:
        raise ArgumentError(f"{file}: expected {side}s, got no rows")
    embeddings = known.embed(features.indptr, features.indices, features.weights)
    vectors = {name: part for name, part in zip(("gmf", "mlp"), embeddings, strict=True) if part is not None}
    write_atomically(options.out, _npz(ids, vectors) if options.out.suffix == ".npz" else _csv(ids, vectors))
    print_notes(f"{count:,} values of {name} are not known to the model" for name, count in unknown.items())
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in vectors.items())
    print(f"vectors of {len(ids):,} {side}s written to {options.out}: {shapes}")


def _read_map(model: str, side: Side) -> FeatureMap:
    """Read the map of one side from a model directory.

    Raises:
        ArgumentError: the model was trained without features of this side.
        ModelFormatError, OSError: the model cannot be read.
    """
    from neuralcf.attributes import FeatureMap

    found, _ = FeatureMap.read(model, side)
    if found is None:
        raise ArgumentError(
            f"{model}: expected a model that was trained with --{side}-features, got one without features of {side}s"
        )
    return found


def _npz(ids: list[str], vectors: dict[str, NDArray[Any]]) -> bytes:
    import numpy as np

    content = io.BytesIO()
    arrays: dict[str, Any] = {"ids": np.array(ids), **vectors}
    np.savez(content, **arrays)
    return content.getvalue()


def _csv(ids: list[str], vectors: dict[str, NDArray[np.float32]]) -> bytes:
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(["id", *(f"{name}_{at}" for name, array in vectors.items() for at in range(array.shape[1]))])
    for place, id_ in enumerate(ids):
        writer.writerow([id_, *(value for array in vectors.values() for value in array[place].astype(str))])
    return content.getvalue().encode()

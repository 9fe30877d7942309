"""ALS of Spark MLlib: the directory that `model.save` wrote, read with pyarrow alone.

    metadata/part-*                 JSON: the class, and `paramMap`
    userFactors/, itemFactors/      Parquet: id int32, features: list of float32

A saved pipeline holds the same directory under `stages/`. The score is the dot product of the features.
"""

from __future__ import annotations

import json
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralcf.convert.converted import Converted, Ids, dot_product, ids_or
from neuralcf.convert.opening import needs
from neuralcf.errors import ArgumentError
from neuralcf.format.checks import Interactions

__all__ = ["from_spark_als"]


def from_spark_als(
    source: str | PathLike[str], *, ids: Ids | None = None, seen: Interactions | None = None
) -> Converted:
    """Convert an ALSModel of Spark.

    Args:
        source: the directory that `ALSModel.save` or `PipelineModel.save` wrote, on a local file system.
        ids: external ids in ascending order of Spark's, such as the labels of a StringIndexer; Spark's ids if None.
        seen: the interactions known at training time, in ascending order of Spark's ids.

    Raises:
        ArgumentError: not a saved ALSModel.
        ImportError: pyarrow is not installed.
        OSError: the files cannot be read.
    """
    model = _find_model(Path(source))
    (user_ids, users), (item_ids, items) = (_read_factors(model / name) for name in ("userFactors", "itemFactors"))
    given = (user_ids, item_ids) if ids is None else ids_or(ids, len(user_ids), len(item_ids))
    return dot_product("Spark MLlib", "ALS", ("userFactors", users), ("itemFactors", items), ids=given, seen=seen)


def _find_model(source: Path) -> Path:
    if not source.exists():
        raise FileNotFoundError(2, "No such file or directory", fspath(source))
    found = [path for path in (source, *sorted(source.glob("stages/*"))) if (path / "userFactors").is_dir()]
    if len(found) != 1:
        raise ArgumentError(
            f"{source}: expected the directory of one saved ALSModel, with userFactors, got {len(found)}"
        )
    for part in sorted((found[0] / "metadata").glob("part-*")):
        try:
            described = json.loads(part.read_text(encoding="utf-8") or "{}")
        except ValueError as error:
            raise ArgumentError(f"{part}: expected JSON: {error}") from error
        if not str(described.get("class", "")).endswith(".ALSModel"):
            raise ArgumentError(f"{source}: expected an ALSModel, got {described.get('class')}")
    return found[0]


def _read_factors(folder: Path) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Read ids and factors, in ascending order of the ids, whatever files and row groups hold them."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise needs("pyarrow", f"{folder}: reading Parquet") from error
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise ArgumentError(f"{folder}: expected Parquet files, got none; a model that was not written to its end?")
    ids, vectors = [], []
    for file in files:
        try:
            table: Any = parquet.read_table(file, columns=["id", "features"], partitioning=None)
        except (ArrowException, KeyError, OSError) as error:
            raise ArgumentError(f"{file}: expected columns id and features: {error}") from error
        if not table.num_rows:
            continue
        features = table.column("features").combine_chunks()
        lengths = np.unique(np.diff(features.offsets.to_numpy()))
        if table.column("id").null_count or features.null_count or len(lengths) != 1:
            raise ArgumentError(f"{file}: expected an id and equally many features in each row")
        ids.append(table.column("id").to_numpy().astype(np.int64))
        vectors.append(features.flatten().to_numpy(zero_copy_only=False).reshape(-1, int(lengths[0])))
    if not ids:
        raise ArgumentError(f"{folder}: expected factors, got no rows")
    if len({array.shape[1] for array in vectors}) != 1:
        raise ArgumentError(f"{folder}: expected equally many features in each row")
    all_ids = np.concatenate(ids)
    order = np.argsort(all_ids, kind="stable")
    return all_ids[order], np.concatenate(vectors)[order]

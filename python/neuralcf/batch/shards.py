"""A catalogue in shards: models with a part of the items each, and their lists merged into those of one model.

A shard holds all users and a range of the items, in the order of the model. A pair's score depends on nothing but its
user and item, so that merging the shards' lists in THE order, score descending, then item index ascending, gives the
list of the whole model, bit for bit.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralcf.errors import ArgumentError, ModelFormatError, UnknownItemError, argument
from neuralcf.format.mapping import map_safetensors
from neuralcf.format.save import save
from neuralcf.serving.recommendations import Recommendations
from neuralcf.serving.recommender import Recommender

__all__ = ["ShardList", "check_known", "list_in_shard", "merge", "shard_paths", "split"]


def split(model: str | PathLike[str], folder: str | PathLike[str], shards: int) -> list[Path]:
    """Write a model as shards, each with all users and a range of the items, in the memory that one shard needs.

    A shard is a model directory of its own, with the interactions of its items. Histories and features are left out:
    shards serve the users of the model.

    Args:
        model: a model directory with ids.
        folder: where to write the shards, `shard-00000-of-00004` and so on; made if there is none.
        shards: the number of shards, from 1 to the number of items.

    Returns:
        The paths of the shards, in the order of their items.

    Raises:
        ArgumentError: a model without ids; `shards` is out of range.
        ModelFormatError, OSError: the model cannot be read, or the shards cannot be written.
    """
    source, target = Path(model), Path(folder)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    if not (source / "ids.safetensors").is_file():
        raise ArgumentError(f"{argument('model')}: {source}: expected a model with ids")
    num_items = config["sizes"]["num_items"]
    if isinstance(shards, bool) or not isinstance(shards, int) or not 1 <= shards <= num_items:
        raise ArgumentError(f"{argument('shards')}: expected an integer from 1 to {num_items}, got {shards!r}")
    tensors = map_safetensors(source / "model.safetensors")
    ids = map_safetensors(source / "ids.safetensors")
    seen = map_safetensors(source / "seen.safetensors") if (source / "seen.safetensors").is_file() else None
    target.mkdir(parents=True, exist_ok=True)
    users = _id_list(ids, "users", 0, config["sizes"]["num_users"])
    paths = []
    for number, part in enumerate(np.array_split(np.arange(num_items), shards)):
        start, stop = int(part[0]), int(part[-1]) + 1
        rows = {name: array[start:stop] if ".item_embedding." in name else array for name, array in tensors.items()}
        path = target / f"shard-{number:05}-of-{shards:05}"
        save(
            {name: _widened(array) for name, array in rows.items()},
            path,
            kind=config["kind"],
            ids=(users, _id_list(ids, "items", start, stop)),
            seen=None if seen is None else _seen_in(seen["indptr"], seen["indices"], start, stop),
            config={"shard": {"of": config["model_id"], "number": number, "shards": shards, "first_item": start}},
        )
        paths.append(path)
    return paths


def shard_paths(folder: str | PathLike[str]) -> list[Path]:
    """Find the shards that `split` wrote into a folder, in the order of their items.

    Raises:
        ModelFormatError: no shards, or not all of one model.
        OSError: the shards cannot be read.
    """
    paths = sorted(Path(folder).glob("shard-*-of-*"))
    shards = [json.loads((path / "config.json").read_text(encoding="utf-8")).get("shard", {}) for path in paths]
    numbers = [(shard.get("of"), shard.get("number"), shard.get("shards")) for shard in shards]
    if not paths or numbers != [(numbers[0][0], number, len(paths)) for number in range(len(paths))]:
        found = ", ".join(path.name for path in paths) or "none"
        raise ModelFormatError(f"{folder}: expected all shards of one model, got {found}")
    return paths


def _id_list(tensors: Mapping[str, NDArray[Any]], side: str, start: int, stop: int) -> Any:
    if side in tensors:
        return np.array(tensors[side][start:stop])
    offsets, text = tensors[f"{side}.offsets"], tensors[f"{side}.bytes"]
    places = offsets[start : stop + 1].tolist()
    data = text[places[0] : places[-1]].tobytes()
    return [data[a - places[0] : b - places[0]].decode() for a, b in itertools.pairwise(places)]


def _seen_in(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], start: int, stop: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the columns of a range, numbered from its start."""
    inside = (indices >= start) & (indices < stop)
    before = np.concatenate([[0], np.cumsum(inside, dtype=np.int64)])
    return before[indptr], indices[inside] - np.int32(start)


def _widened(array: NDArray[Any]) -> NDArray[Any]:
    return (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == np.uint16 else array


# ---------------------------------------------------------------------------------------------------------- the lists


@dataclass(frozen=True)
class ShardList:
    """The best items of a shard for `B` users, best first, padded as in `Recommendations`."""

    ids: NDArray[Any]
    """`[B, k]`: item ids, int64 or object."""
    logits: NDArray[np.float32]
    """float32 `[B, k]`: what the shards are merged by, because probabilities saturate."""
    probabilities: NDArray[np.float32]
    """float32 `[B, k]`."""
    counts: NDArray[np.int64]
    """int64 `[B]`."""
    known: NDArray[np.bool_]
    """bool `[B]`."""


def list_in_shard(recommender: Recommender, users: Any, k: int, **filters: Any) -> ShardList:
    """List the best items of a shard; items in filters that other shards have are left aside."""
    found = recommender.recommend(users, k, on_unknown="skip", logits=True, **filters)
    real = np.arange(found.ids.shape[1]) < found.counts[:, None]
    probabilities = np.full(found.scores.shape, -np.inf, np.float32)
    rows = np.repeat(recommender.user_ids.find(users), found.counts)
    items = found.ids[real] if found.ids.dtype != object else found.ids[real].tolist()
    probabilities[real] = recommender.scorer.score_batch(
        rows, recommender.item_ids.find(items), threads=filters.get("threads")
    )
    return ShardList(found.ids, found.scores, probabilities, found.counts, found.known)


def merge(lists: Sequence[ShardList], *, logits: bool) -> Recommendations:
    """Merge the lists of all shards, given in the order of their items, into those of the whole model."""
    k = lists[0].ids.shape[1]
    merged = np.concatenate([one.logits for one in lists], axis=1)
    # Equal logits stay in the order of the shards, and within one of its list: item index ascending.
    best = np.argsort(-merged, axis=1, kind="stable")[:, :k]
    ids = np.take_along_axis(np.concatenate([one.ids for one in lists], axis=1), best, axis=1)
    if not logits:
        merged = np.concatenate([one.probabilities for one in lists], axis=1)
    counts = np.minimum(np.sum([one.counts for one in lists], axis=0), k)
    return Recommendations(ids, np.take_along_axis(merged, best, axis=1), counts, lists[0].known, generation=1)


def check_known(what: str, ids: Any, found: Sequence[NDArray[np.int64]]) -> None:
    """Raise UnknownItemError for ids of a filter that no shard has; `found` holds each shard's indices, or -1."""
    unknown = np.flatnonzero(np.max(found, axis=0) < 0) if len(ids) else ()
    if len(unknown):
        given = list(ids)
        raise UnknownItemError(f"{what}: not in the model: {', '.join(repr(given[at]) for at in unknown[:5])}")

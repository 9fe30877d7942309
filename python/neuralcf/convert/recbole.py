"""Models of RecBole: BPR, LightGCN and NeuMF, from the .pth file of its trainer.

RecBole's configuration in the file is read without RecBole, as plain attributes. Row 0 of every table stands for
padding and is left out, so that no list holds it.

    BPR         e_u . e_i
    LightGCN    the dot product of the embeddings after propagation, which the trainer keeps in the file
    NeuMF       the network; RecBole's scores are its probabilities
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

import numpy as np

from neuralcf.convert.converted import Converted, Ids, dot_product, ids_or
from neuralcf.convert.networks import network
from neuralcf.convert.opening import is_path, read_torch
from neuralcf.convert.state_dict import numpy_of
from neuralcf.errors import ArgumentError
from neuralcf.format.checks import Interactions

__all__ = ["from_recbole"]


def from_recbole(
    source: str | PathLike[str] | Mapping[str, Any], *, ids: Ids | None = None, seen: Interactions | None = None
) -> Converted:
    """Convert a checkpoint of RecBole.

    Args:
        source: the .pth file, or what torch read of it.
        ids: the external ids without padding, such as `dataset.field2id_token["user_id"][1:]` and the items' likewise;
            RecBole's own numbers, from 1, if None.
        seen: the interactions known at training time, without the rows and columns of padding.

    Raises:
        ArgumentError: another file or model, or a LightGCN without propagated embeddings.
        ImportError: torch is not installed.
        OSError: the file cannot be read.
    """
    where = fspath(source) if is_path(source) else "source"
    checkpoint = read_torch(source, placeholders=True) if is_path(source) else source
    if not isinstance(checkpoint, Mapping) or not isinstance(checkpoint.get("state_dict"), Mapping):
        raise ArgumentError(f"{where}: expected a checkpoint of RecBole's trainer, with config and state_dict")
    name = _model_name(checkpoint.get("config"))
    arrays = {key: numpy_of(value) for key, value in checkpoint["state_dict"].items()}

    def weight(key: str) -> Any:
        if key not in arrays:
            raise ArgumentError(f"{where}: expected {key} of {name}, got {', '.join(arrays)}")
        return arrays[key]

    def table(key: str) -> Any:
        if weight(key).ndim != 2 or len(arrays[key]) < 2:
            raise ArgumentError(f"{where}: expected {key} [rows, width] of {name}, got {', '.join(arrays)}")
        return arrays[key][1:]

    def numbered(users: Any, items: Any) -> Ids:
        if ids is not None:
            return ids_or(ids, len(users), len(items))
        return np.arange(1, len(users) + 1), np.arange(1, len(items) + 1)

    if name == "NeuMF":
        pairs = [
            tuple(table(f"{side}_{block}_embedding.weight") for side in ("user", "item")) for block in ("mf", "mlp")
        ]
        gmf, mlp = pairs
        numbers = sorted({int(key.split(".")[2]) for key in arrays if key.startswith("mlp_layers.mlp_layers.")})
        layers = [
            tuple(weight(f"mlp_layers.mlp_layers.{number}.{part}") for part in ("weight", "bias")) for number in numbers
        ]
        output = weight("predict_layer.weight"), weight("predict_layer.bias")
        width, last = output[0].shape[1], layers[-1][0].shape[0]
        trained = _setting(checkpoint, "mf_train", True), _setting(checkpoint, "mlp_train", True)
        if width != gmf[0].shape[1] * trained[0] + last * trained[1]:
            raise ArgumentError(
                f"{where}: predict_layer.weight: expected a column for each output of mf and mlp, got {width}"
            )
        return network(
            "RecBole",
            name,
            gmf=gmf if trained[0] else None,
            mlp=mlp if trained[1] else None,
            layers=layers,
            output=output,
            ids=numbered(*gmf),
            seen=seen,
        )
    if name == "BPR":
        users, items = table("user_embedding.weight"), table("item_embedding.weight")
    elif name == "LightGCN":
        kept = checkpoint.get("other_parameter") or {}
        if any(kept.get(key) is None for key in ("restore_user_e", "restore_item_e")):
            raise ArgumentError(
                f"{where}: expected a LightGCN with its propagated embeddings restore_user_e and restore_item_e, "
                "which RecBole keeps when it validates before it saves; got none"
            )
        users, items = (numpy_of(kept[key])[1:] for key in ("restore_user_e", "restore_item_e"))
    else:
        raise ArgumentError(f"{where}: expected BPR, LightGCN or NeuMF of RecBole, got {name}")
    return dot_product(
        "RecBole", name, ("user_embedding", users), ("item_embedding", items), ids=numbered(users, items), seen=seen
    )


def _settings(config: Any) -> Mapping[str, Any]:
    held = config if isinstance(config, Mapping) else getattr(config, "__dict__", {})
    inner = held.get("final_config_dict")
    return inner if isinstance(inner, Mapping) else held


def _setting(checkpoint: Mapping[str, Any], name: str, default: Any) -> Any:
    value = _settings(checkpoint.get("config")).get(name)
    return default if value is None else value


def _model_name(config: Any) -> str:
    held = config if isinstance(config, Mapping) else getattr(config, "__dict__", {})
    return str(held.get("model") or _settings(config).get("model"))

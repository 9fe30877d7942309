"""Models of Cornac: MF, BPR, WBPR and WMF, and GMF, MLP and NeuMF of its PyTorch backend.

MF      global mean + b_u + b_i + u . v
BPR     b_i + u . v
NeuMF   the network; Cornac's scores are its probabilities
"""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from neuralcf.convert.converted import Converted, Ids, dot_product, library_ids
from neuralcf.convert.opening import is_path, unpickle
from neuralcf.convert.state_dict import from_state_dict
from neuralcf.errors import ArgumentError
from neuralcf.format.checks import Interactions

__all__ = ["from_cornac"]

_USER_BIASES = ("MF",)
_ITEM_BIASES = ("MF", "BPR", "WBPR")
_FACTORS = (*_ITEM_BIASES, "WMF")
_NETWORKS = ("GMF", "MLP", "NeuMF")


def from_cornac(
    source: str | PathLike[str] | Any,
    *,
    ids: Ids | None = None,
    seen: Interactions | None = None,
    trust: bool = False,
) -> Converted:
    """Convert a model of Cornac.

    Args:
        source: the fitted model; or what `model.save` wrote, a .pkl file or the directory of it, which needs `trust`.
        ids: the external ids in the order of Cornac's indices; the keys of `model.uid_map` and `iid_map` if None.
        seen: the interactions known at training time; those of the training set if None and the model has it.
        trust: unpickle the source.

    Raises:
        ArgumentError: another model, one that was not fitted, another activation than ReLU, ids that are neither all
            integers nor all text, or a pickle without `trust`.
        ImportError: a pickle, and cornac is not installed.
        OSError: the file cannot be read.
    """
    model: Any = source
    if is_path(source):
        model = unpickle(_newest(Path(source)), trust=trust, library="Cornac")
    where, name = fspath(source) if is_path(source) else "source", type(model).__name__
    if name not in (*_FACTORS, *_NETWORKS):
        expected = ", ".join((*_FACTORS, *_NETWORKS))
        raise ArgumentError(f"{where}: expected one of Cornac's models {expected}, got {name}")
    ids = ids or _ids(model, where)
    seen = _interactions(model) if seen is None else seen
    if name in _FACTORS:
        factors = ("U", "V") if name == "WMF" else ("u_factors", "i_factors")
        users, items = (getattr(model, attribute, None) for attribute in factors)
        if users is None or items is None:
            raise ArgumentError(f"{where}: expected a fitted model, got {name} without factors")
        biased = getattr(model, "use_bias", True)
        return dot_product(
            "Cornac",
            name,
            ("u_factors", users),
            ("i_factors", items),
            user_biases=("u_biases", model.u_biases) if name in _USER_BIASES and biased else None,
            item_biases=("i_biases", model.i_biases) if name in _ITEM_BIASES and biased else None,
            bias=float(model.global_mean) if name in _USER_BIASES and biased else 0.0,
            ids=ids,
            seen=seen,
        )
    network: Any = getattr(model, "model", None)
    if not hasattr(network, "state_dict"):
        raise ArgumentError(f'{where}: expected {name} fitted with backend="pytorch", got backend={model.backend!r}')
    if name != "GMF" and str(model.act_fn).lower() != "relu":
        raise ArgumentError(f"{where}: expected the activation relu, got {model.act_fn}")
    return from_state_dict(network.state_dict(), ids=ids, seen=seen)


def _newest(path: Path) -> Path:
    """Return the file of a model: the latest in a directory, as Cornac itself loads."""
    if not path.is_dir():
        return path
    if found := sorted(path.glob("*.pkl")):
        return found[-1]
    raise ArgumentError(f"{path}: expected a .pkl file that Cornac's model.save wrote, got none")


def _ids(model: Any, where: str) -> Ids | None:
    """Return the external ids in the order of Cornac's indices."""
    train_set = getattr(model, "train_set", None)
    maps: list[Any] = [getattr(model, name, None) or getattr(train_set, name, None) for name in ("uid_map", "iid_map")]
    if not all(maps):
        return None
    users, items = (
        library_ids(sorted(map_, key=map_.get), f"{where}: {name}")
        for map_, name in zip(maps, ("uid_map", "iid_map"), strict=True)
    )
    return users, items


def _interactions(model: Any) -> Interactions | None:
    train_set = getattr(model, "train_set", None)
    if train_set is None:
        return None
    matrix = train_set.csr_matrix
    return np.asarray(matrix.indptr, np.int64), np.asarray(matrix.indices, np.int64)

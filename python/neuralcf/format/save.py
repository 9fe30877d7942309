"""Writing models, in version 1 of the format: `save` takes arrays and needs no torch, `export` takes a torch module.

All arguments are checked before anything is written. The files are staged beside the target, opened once with the
reader that will serve them, and then published in one atomic step.
"""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from neuralcf._core import Scorer, check_tensors, open_model, publish, read_features
from neuralcf.errors import ArgumentError
from neuralcf.files import staged, sync_published
from neuralcf.format.checks import (
    IdList,
    Interactions,
    Kind,
    check_config,
    check_ids,
    check_seen,
)
from neuralcf.format.digests import config_text, list_file
from neuralcf.format.model_card import model_card
from neuralcf.format.safetensors import FORMAT_METADATA, Array, write_safetensors

__all__ = ["check_target", "export", "save"]


class Module(Protocol):
    """The part of a torch module that `export` needs."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return the tensors by name."""


def save(
    tensors: Mapping[str, ArrayLike],
    path: str | os.PathLike[str],
    *,
    kind: Kind,
    ids: tuple[IdList, IdList] | None = None,
    seen: Interactions | None = None,
    history: Mapping[str, ArrayLike] | None = None,
    features: Mapping[str, ArrayLike] | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write a model directory, or a single file if `path` ends in `.safetensors`.

    An existing model at `path` is replaced in one atomic step: at any time, even after a kill, a reader finds either
    the old model or the new one; after an error other than PublishedError, the old one. A kill may leave
    `.NAME.*.part` behind, which the next save to `path` removes.

    Args:
        tensors: float32 or float16 arrays under the names of the model format, such as `output.weight` `[1, G + H]`.
        path: the target; its parent must exist. A non-empty directory without a model is not overwritten.
        kind: "gmf", "mlp" or "neumf".
        ids: the external ids `(users [U], items [I])`, each int64 or str, unique, in the order of the dense indices.
        seen: all interactions known at training time, one row per user: scipy CSR `[U, I]`, or `(indptr, indices)`.
            Rows need not be sorted or unique.
        history: how a history becomes a user's vectors, so that `Scorer.fold_in` serves new users: float32 or float16
            arrays under the names of history.safetensors, such as `linear.0.items` `[I, G + Mu]`.
        features: what gives embeddings to users and items by their features alone: arrays under the names of
            features.safetensors.
        config: plain JSON values that config.json stores besides identity, kind and sizes, such as the training
            configuration, metrics and the fingerprint of the data. `training` and `data` are objects, `history` and
            `metrics` are lists. The model card shows those `metrics` that have `name`, `value` and `protocol`.

    Raises:
        ModelFormatError: the tensors are not a valid model, or `history` or `features` do not fit it.
        ArgumentError: an invalid `path`, `kind`, `ids`, `seen` or `config`.
        TypeError: tensors, ids or interactions of the wrong type.
        PublishedError: the new model stands, but may not survive a power failure, or the old one could not be removed.
        OSError: the files cannot be written.
    """
    _save(_arrays(tensors), path, kind, ids, seen, history, features, config)


def _save(
    tensors: Mapping[str, Array],
    path: str | os.PathLike[str],
    kind: Kind | None,
    ids: tuple[IdList, IdList] | None,
    seen: Interactions | None,
    history: Mapping[str, ArrayLike] | None,
    features: Mapping[str, ArrayLike] | None,
    config: Mapping[str, Any] | None,
) -> None:
    target = check_target(path)
    history_tensors = None if history is None else _arrays(history)
    feature_tensors = None if features is None else _arrays(features)
    kind, sizes = check_tensors(tensors, kind=kind, history=history_tensors)
    id_tensors = None if ids is None else check_ids(ids, sizes)
    seen_tensors = None if seen is None else check_seen(seen, sizes["num_users"], sizes["num_items"])
    extra = check_config(config or {})

    model_id = uuid.uuid4().hex
    weights_metadata = {**FORMAT_METADATA, "kind": kind, "activation": "relu", "model_id": model_id}

    if target.suffix == ".safetensors":
        optional = (("ids", ids), ("seen", seen), ("history", history), ("features", features), ("config", config))
        extras = [name for name, given in optional if given is not None]
        if extras:
            raise ArgumentError(
                f"{target}: a single .safetensors file cannot hold {', '.join(extras)}; save to a directory"
            )
        with staged(target) as file:
            write_safetensors(file, tensors, weights_metadata, own_digest=True)
            Scorer.load(file)
            file.replace(target)
        sync_published(target)
        return

    with staged(target, directory=True) as staging:
        files = {
            "model.safetensors": write_safetensors(
                staging / "model.safetensors", tensors, weights_metadata, own_digest=True
            )
        }
        optional_files = {
            "ids.safetensors": id_tensors,
            "seen.safetensors": seen_tensors,
            "history.safetensors": history_tensors,
            "features.safetensors": feature_tensors,
        }
        for name, given in optional_files.items():
            if given is not None:
                files[name] = write_safetensors(staging / name, given, {**FORMAT_METADATA, "model_id": model_id})
        described = {"format_version": 1, "model_id": model_id, "kind": kind, "sizes": sizes, **extra}
        (staging / "README.md").write_text(model_card(described), encoding="utf-8")
        files["README.md"] = list_file(staging / "README.md")
        (staging / "config.json").write_bytes(config_text(described, files))
        open_model(staging)
        read_features(staging)
        publish(staging, target)


def export(
    model: Module,
    path: str | os.PathLike[str],
    *,
    kind: Kind | None = None,
    ids: tuple[IdList, IdList] | None = None,
    seen: Interactions | None = None,
    history: Mapping[str, ArrayLike] | None = None,
    features: Mapping[str, ArrayLike] | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write the weights of a torch module, on any device, as a model.

    Args:
        model: a `GMF`, `MLP` or `NeuMF`, or any module whose `state_dict` uses the tensor names of the model format.
            All weights are converted to float32.
        path: as for `save`.
        kind: inferred from the tensor names if None.
        ids: as for `save`.
        seen: as for `save`.
        history: as for `save`.
        features: as for `save`.
        config: as for `save`.

    Raises:
        ModelFormatError, ArgumentError, TypeError, PublishedError, OSError: as for `save`.
    """
    tensors = {name: tensor.detach().float().cpu().numpy() for name, tensor in model.state_dict().items()}
    _save(tensors, path, kind, ids, seen, history, features, config)


def _arrays(tensors: Mapping[str, ArrayLike]) -> dict[str, Array]:
    return {name: np.asarray(tensor) for name, tensor in tensors.items()}


def check_target(path: str | os.PathLike[str]) -> Path:
    """Check that `path` can take a model, as far as that is known before writing; return it with symlinks resolved.

    Raises:
        ArgumentError: a file or directory that is not a model already exists there.
        FileNotFoundError: the parent directory does not exist.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: no such directory; the model {target.name} cannot be written there")
    if target.suffix == ".safetensors":
        if target.is_dir():
            raise ArgumentError(f"{target}: expected a file to write to, got a directory")
    elif target.exists() and not target.is_dir():
        raise ArgumentError(
            f"{target}: expected a directory to publish to (or a name ending in .safetensors), got a file"
        )
    elif target.is_dir() and not (target / "model.safetensors").is_file() and any(target.iterdir()):
        raise ArgumentError(f"{target}: holds other files but no model.safetensors; not overwritten")
    return target

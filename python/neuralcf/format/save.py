"""Write models: `save` takes arrays and needs no torch, `export` takes a torch module.

The one writer of the model format, version 1. Arguments are checked before anything is written; the files are written
beside their place, opened once with the reader that will serve them, and only then moved there in one step.
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from neuralcf._core import Scorer, check_tensors, open_model, publish
from neuralcf.errors import ArgumentError
from neuralcf.files import sync_directory
from neuralcf.format.checks import (
    IdList,
    Interactions,
    Kind,
    check_config,
    check_ids,
    check_seen,
)
from neuralcf.format.model_card import model_card
from neuralcf.format.safetensors import Array, write_safetensors

__all__ = ["check_target", "export", "save"]

_FORMAT = {"format": "neuralcf", "format_version": "1"}


class Module(Protocol):
    """What `export` needs of a torch module."""

    def state_dict(self) -> Mapping[str, Any]:
        """Give the tensors by name."""


def save(
    tensors: Mapping[str, ArrayLike],
    path: str | os.PathLike[str],
    *,
    kind: Kind,
    ids: tuple[IdList, IdList] | None = None,
    seen: Interactions | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write a model directory, or a single file where `path` ends in `.safetensors`.

    A model that stands at `path` is replaced in one step: at every moment, also after a kill, a reader finds the old
    model or the new one. After an error it is the old one. (A kill may leave a directory `.NAME.*.staging` beside it,
    safe to delete.)

    Args:
        tensors: float32 (or float16) arrays under the names of the model format, such as `output.weight` `[1, G + H]`.
        path: where to; its parent must exist. A directory that holds other things is not replaced.
        kind: "gmf", "mlp" or "neumf".
        ids: the external ids `(users [U], items [I])`, each int64 or str, unique, in the order of the indices.
        seen: all interactions known at training time, a row for each user: scipy CSR `[U, I]`, or `(indptr, indices)`.
            Rows are sorted and made unique here.
        config: what config.json is to hold besides identity, kind and sizes, such as training configuration, metrics
            and a fingerprint of the data. Plain JSON values. `training` and `data` are objects, `history` and `metrics`
            lists; of `metrics`, objects with `name`, `value` and `protocol` are also shown in the model card.

    Raises:
        ModelFormatError: the tensors are not a valid model.
        ArgumentError: `path`, `kind`, `ids`, `seen` or `config` cannot be used.
        TypeError: tensors, ids or interactions of a wrong type.
        OSError: the files cannot be written.
    """
    _save({name: np.asarray(tensor) for name, tensor in tensors.items()}, path, kind, ids, seen, config)


def _save(
    tensors: Mapping[str, Array],
    path: str | os.PathLike[str],
    kind: Kind | None,
    ids: tuple[IdList, IdList] | None,
    seen: Interactions | None,
    config: Mapping[str, Any] | None,
) -> None:
    target = check_target(path)
    kind, sizes = check_tensors(tensors, kind=kind)
    id_tensors = None if ids is None else check_ids(ids, sizes)
    seen_tensors = None if seen is None else check_seen(seen, sizes["num_users"], sizes["num_items"])
    extra = check_config(config or {})

    model_id = uuid.uuid4().hex
    weights_metadata = {**_FORMAT, "kind": kind, "activation": "relu", "model_id": model_id}
    staging = target.with_name(f".{target.name}.{model_id[:12]}.staging")

    if target.suffix == ".safetensors":
        extras = [name for name, given in (("ids", ids), ("seen", seen), ("config", config)) if given is not None]
        if extras:
            raise ArgumentError(
                f"{target}: a single .safetensors file cannot hold {', '.join(extras)}; save to a directory"
            )
        staged_file = staging.with_suffix(".safetensors")
        with _removing_on_failure(staged_file.unlink):
            write_safetensors(staged_file, tensors, weights_metadata)
            Scorer.load(staged_file)
            staged_file.replace(target)
            sync_directory(target.parent)
        return

    with _removing_on_failure(lambda: shutil.rmtree(staging)):
        staging.mkdir()
        write_safetensors(staging / "model.safetensors", tensors, weights_metadata)
        if id_tensors is not None:
            write_safetensors(staging / "ids.safetensors", id_tensors, {**_FORMAT, "model_id": model_id})
        if seen_tensors is not None:
            write_safetensors(staging / "seen.safetensors", seen_tensors, {**_FORMAT, "model_id": model_id})
        described = {"format_version": 1, "model_id": model_id, "kind": kind, "sizes": sizes, **extra}
        (staging / "config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
        (staging / "README.md").write_text(model_card(described), encoding="utf-8")
        open_model(staging)
        publish(staging, target)


def export(
    model: Module,
    path: str | os.PathLike[str],
    *,
    kind: Kind | None = None,
    ids: tuple[IdList, IdList] | None = None,
    seen: Interactions | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write the weights of a torch module as a model, whatever device they are on.

    Args:
        model: a `GMF`, `MLP` or `NeuMF`, or any module whose `state_dict` has the tensor names of the model format.
            Weights of other precisions are converted to float32.
        path: as for `save`.
        kind: inferred from the tensor names when None.
        ids: as for `save`.
        seen: as for `save`.
        config: as for `save`.

    Raises:
        As `save`.
    """
    tensors = {name: tensor.detach().float().cpu().numpy() for name, tensor in model.state_dict().items()}
    _save(tensors, path, kind, ids, seen, config)


def check_target(path: str | os.PathLike[str]) -> Path:
    """Check, as far as one can beforehand, that a model can be published to `path`; return it without symbolic links.

    Raises:
        ArgumentError: something stands there that is not a model.
        FileNotFoundError: its parent directory does not exist.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: no such directory to write the model {target.name} to")
    if target.suffix == ".safetensors":
        if target.is_dir():
            raise ArgumentError(f"{target}: a directory, expected a file to write to")
    elif target.exists() and not target.is_dir():
        raise ArgumentError(
            f"{target}: expected a directory to publish to (or a name ending in .safetensors), got a file"
        )
    elif target.is_dir() and not (target / "model.safetensors").is_file() and any(target.iterdir()):
        raise ArgumentError(f"{target}: holds other files but no model.safetensors; not overwritten")
    return target


@contextmanager
def _removing_on_failure(remove: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):  # it is the first error that tells what happened
            remove()
        raise

"""Writing `index.safetensors`, the approximate index of a model that is there already."""

import os
from collections.abc import Mapping
from pathlib import Path

from neuralcf.errors import ModelFormatError
from neuralcf.files import staged, sync_published
from neuralcf.format.config import read_config
from neuralcf.format.safetensors import FORMAT_METADATA, Array, write_safetensors

__all__ = ["save_index"]


def save_index(directory: str | os.PathLike[str], tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write the index of a model into its directory; an index that is there is replaced in one atomic step.

    Args:
        directory: the model.
        tensors: `levels` float64 `[n, 6]`, `lifts` float32 `[L]` and `list_of` int32 `[I]`.
        metadata: `model_id`, `model_sha256`, `lists` and `seed`.

    Raises:
        ModelFormatError: the directory holds another model by now.
        PublishedError: the index is written, but may not survive a power failure.
        OSError: it cannot be written; a previous one stays.
    """
    target = Path(directory) / "index.safetensors"
    expected, got = metadata["model_id"], read_config(directory).get("model_id")
    if got != expected:
        raise ModelFormatError(
            f"{target.with_name('config.json')}: the model has changed since it was loaded: expected model_id "
            f"{expected}, got {got}; load it and build its index again"
        )
    with staged(target) as part:
        write_safetensors(part, tensors, {**FORMAT_METADATA, **metadata}, own_digest=True)
        part.replace(target)
    sync_published(target)

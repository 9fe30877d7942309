"""Models on a hub, by huggingface_hub: where it lies, and who may read and write it, is that library's to know."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

from neuralcf.errors import ArgumentError, argument

__all__ = ["model_directory", "push"]

_FILES: Final = ("README.md", "config.json", "model.safetensors", "ids.safetensors", "history.safetensors")
_OPTIONAL: Final = ("features.safetensors", "index.safetensors", "seen.safetensors")
"""All files of a model directory, which alone are exchanged with a hub."""


def model_directory(name: str | PathLike[str], revision: str | None) -> str:
    """Return a directory as it is; download the model of any other name, unless it is in the cache already.

    Raises:
        ArgumentError: a directory, with a revision.
        FileNotFoundError: neither a directory nor the name of a repository.
        ImportError: huggingface_hub is not installed.
        OSError: the model cannot be downloaded, as huggingface_hub reports it.
    """
    if Path(name).is_dir():
        if revision is not None:
            raise ArgumentError(f"{argument('revision')}: {fspath(name)} is a directory, which has no revisions")
        return fspath(name)
    hub = _hub()
    try:
        return str(hub.snapshot_download(fspath(name), revision=revision, allow_patterns=[*_FILES, *_OPTIONAL]))
    except hub.errors.HFValidationError as error:
        raise FileNotFoundError(
            f"{fspath(name)}: no such directory, and no name of a model on a hub: {error}"
        ) from None


def push(
    folder: Path, repo_id: str, *, revision: str | None, private: bool | None, seen: bool, message: str | None
) -> str:
    """Upload a model directory, in one commit, into a repository that is made if there is none; return the commit.

    Files of a model that the directory does not have are removed from the repository; others stay.
    """
    hub = _hub()
    names = [name for name in (*_FILES, *_OPTIONAL) if (seen or name != "seen.safetensors")]
    api = hub.HfApi()
    api.create_repo(repo_id, private=private, exist_ok=True)
    if revision is not None:
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    commit = api.upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        allow_patterns=names,
        delete_patterns=[*_FILES, *_OPTIONAL],
        revision=revision,
        commit_message=message or "Upload model",
    )
    return str(commit.oid)


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise ImportError("models on a hub need huggingface_hub: pip install 'neuralcf[hub]'") from error
    return huggingface_hub

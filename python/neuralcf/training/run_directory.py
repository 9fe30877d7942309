"""The run directory: configuration, metrics and checkpoints of a training run, and resuming from them.

    run/
      config.json      the configuration, the fingerprint of the data, and versions; written once
      metrics.jsonl    one line for each step and one for each epoch
      checkpoint.pt    tensors and plain values only; loaded with `weights_only=True`, which runs no code; its last
                       line is the SHA-256 of what stands before

A checkpoint is written to a temporary file, synced and renamed: a kill at any moment leaves the old one or the new one.
It stores the length of metrics.jsonl, and resuming truncates the file to that length, so that its lines are those of a
run that never stopped. A lock lets one process at a time use a run directory; it is released when the process ends,
however it ends.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
import torch

from neuralcf._core import __version__
from neuralcf.errors import ArgumentError
from neuralcf.files import is_staged, try_lock, write_atomically
from neuralcf.training.config import TrainConfig

__all__ = ["RunDirectory"]

FORMAT: Final = "neuralcf-run"
FORMAT_VERSION: Final = 1


class RunDirectory:
    """An open run directory; also a context manager that closes it.

    Args:
        path: the directory, created if absent.
        config: configuration of the run.
        fingerprint: fingerprint of the training data.
        start: id of the model that training starts from; None if it starts from nothing.
        resume: whether to resume an existing run; if there is none, a new run starts.

    Raises:
        ArgumentError: a run already exists and `resume` is False; the run has another configuration or other data;
            another process uses it; or the directory holds other files.
        OSError: the directory cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        config: TrainConfig[Any],
        fingerprint: str,
        *,
        resume: bool,
        start: str | None = None,
    ) -> None:
        self.path = Path(path)
        stored = _read_config(self.path)
        if stored is None and self.path.is_dir() and any(self.path.iterdir()):
            foreign = sorted(entry.name for entry in self.path.iterdir() if not _may_be_left(entry.name))
            if foreign:
                raise ArgumentError(f"{self.path}: expected a run or an empty directory, got one with {foreign[0]}")
        if stored is not None and not resume:
            raise ArgumentError(f"{self.path}: a run already exists here; pass --resume or another directory")
        if stored is not None:
            _check_same(self.path, stored, config, fingerprint, start)
        self.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            opened.enter_context(_locked(self.path))
            if stored is None:
                write_atomically(self.path / "config.json", _describe(config, fingerprint, start))
            self._checkpoint = self.read_checkpoint(self.path)
            length = 0 if self._checkpoint is None else self._checkpoint["metrics_bytes"]
            self._metrics = opened.enter_context((self.path / "metrics.jsonl").open("a+b"))
            if self._metrics.seek(0, os.SEEK_END) < length:
                raise ArgumentError(
                    f"{self._metrics.name}: expected at least the {length} bytes that checkpoint.pt records, got fewer"
                )
            self._metrics.truncate(length)
            self._opened = opened.pop_all()

    @staticmethod
    def stored_config(path: str | os.PathLike[str]) -> dict[str, Any] | None:
        """Return the configuration of the run at `path`, or None if there is no run.

        Raises:
            ArgumentError: config.json does not belong to a run.
        """
        stored = _read_config(Path(path))
        return None if stored is None else stored["config"]

    @staticmethod
    def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any] | None:
        """Return the checkpoint of the run at `path`, with tensors on the CPU; None if there is none.

        Raises:
            ArgumentError: checkpoint.pt is damaged or of another program.
        """
        return _read_checkpoint(Path(path) / "checkpoint.pt")

    def checkpoint(self) -> dict[str, Any] | None:
        """Return the checkpoint found on opening, with tensors on the CPU; None if there was none."""
        return self._checkpoint

    def log(self, **values: Any) -> None:
        """Append a line to metrics.jsonl."""
        self._metrics.write(json.dumps(values, separators=(", ", ": ")).encode() + b"\n")

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint by `state`, tensors and plain values; it covers all lines logged so far."""
        self._metrics.flush()
        os.fsync(self._metrics.fileno())
        content = io.BytesIO()
        torch.save({**state, "metrics_bytes": self._metrics.tell()}, content)
        write_atomically(self.path / "checkpoint.pt", content.getvalue() + _digest_line(content.getbuffer()))

    def close(self) -> None:
        """Close the files and release the lock."""
        self._opened.close()

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_LOCK: Final = ".lock"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with (path / _LOCK).open("ab") as lock:
        if not try_lock(lock.fileno()):
            raise ArgumentError(f"{path}: another process is already training in this run directory")
        yield


def _may_be_left(name: str) -> bool:
    """Whether a kill may leave the file `name` in a run directory before config.json is written."""
    return name == _LOCK or is_staged(name, "config.json")


def _describe(config: TrainConfig[Any], fingerprint: str, start: str | None) -> bytes:
    versions = {
        "neuralcf": __version__,
        "numpy": np.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    described = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": config.to_dict(),
        "data": {"fingerprint": fingerprint},
        "versions": versions,
    }
    if start is not None:
        described["start"] = {"model_id": start}
    return json.dumps(described, indent=2).encode() + b"\n"


def _read_config(path: Path) -> dict[str, Any] | None:
    file = path / "config.json"
    try:
        stored = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ArgumentError(f"{file}: expected the configuration of a run, got invalid JSON: {error}") from error
    if not isinstance(stored, dict) or (stored.get("format"), stored.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise ArgumentError(f"{file}: expected a run to resume, of format {FORMAT}, version {FORMAT_VERSION}")
    return stored


def _check_same(
    path: Path, stored: Mapping[str, Any], config: TrainConfig[Any], fingerprint: str, start: str | None
) -> None:
    before, now = stored["config"], config.to_dict()
    names = ["trainer"] if before.get("trainer") != now["trainer"] else [*now, *(before.keys() - now)]
    different = [name for name in names if (name in before, before.get(name)) != (name in now, now.get(name))]
    if different:
        expected = [f"{name} = {before[name]!r}" if name in before else f"no {name}" for name in different]
        got = [f"{now[name]!r}" if name in now else "none" for name in different]
        listed = ", ".join(f"{ours}, got {theirs}" for ours, theirs in zip(expected, got, strict=True))
        raise ArgumentError(f"{path}: the run was started with {listed}")
    before_start = stored.get("start", {}).get("model_id")
    if before_start != start:
        raise ArgumentError(f"{path}: the run started from {before_start or 'no model'}, got {start or 'none'}")
    if stored["data"]["fingerprint"] != fingerprint:
        raise ArgumentError(
            f"{path}: the run was started on other data: expected fingerprint {stored['data']['fingerprint']}, "
            f"got {fingerprint}"
        )


_DIGEST: Final = b"\nsha256 "
_DIGEST_BYTES: Final = len(_DIGEST) + 64 + 1
_END_OF_ZIP: Final = b"PK\x05\x06"
"""Starts the last 22 bytes of a ZIP file without a comment, as torch writes it."""


def _digest_line(content: bytes | memoryview) -> bytes:
    return _DIGEST + hashlib.sha256(content).hexdigest().encode() + b"\n"


def _checked(file: Path, content: bytes) -> bytes:
    """Check the digest at the end of a checkpoint, and return what stands before; older checkpoints have no digest."""
    if content[-22:].startswith(_END_OF_ZIP):
        return content
    state, line = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if _digest_line(state) != line:
        raise ArgumentError(
            f"{file}: expected a checkpoint, got a damaged file: its SHA-256 differs from its last line"
        )
    return state


def _read_checkpoint(file: Path) -> dict[str, Any] | None:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    content = _checked(file, content)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ArgumentError(f"{file}: expected a checkpoint, got a damaged file: {error}") from error
    if not isinstance(state, dict) or not isinstance(state.get("metrics_bytes"), int):
        raise ArgumentError(f"{file}: expected a checkpoint of a run, got another kind of file")
    return state

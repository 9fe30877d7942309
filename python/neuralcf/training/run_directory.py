"""A training run on disk: what it was told, what it measured, and where it stands.

    run/
      config.json      the whole configuration, the fingerprint of the data, versions; written once
      metrics.jsonl    a line for each step and each epoch
      checkpoint.pt    tensors and plain values alone; read by torch with `weights_only=True`, which runs no code

A checkpoint is written beside its place, synchronised and renamed: a kill at any moment leaves the one before it or
the one after. It knows how long metrics.jsonl was, and resuming cuts off what was written later: the lines are those of
a run that was never stopped. One process at a time holds a run; the lock ends with the process, however it ends.
"""

from __future__ import annotations

import fcntl
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
from neuralcf.files import write_atomically
from neuralcf.training.config import TrainConfig

__all__ = ["RunDirectory"]

FORMAT: Final = "neuralcf-run"
FORMAT_VERSION: Final = 1


class RunDirectory:
    """An open run; a context manager that closes it.

    Args:
        path: the directory; made where absent.
        config: what the run is told.
        fingerprint: of the data that are trained on.
        resume: whether to go on with a run that stands there; where none does, one begins all the same.

    Raises:
        ArgumentError: a run stands there and `resume` is False; it was told something else or had other data; another
            process holds it; the directory holds something else.
        OSError: it cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike[str], config: TrainConfig[Any], fingerprint: str, *, resume: bool
    ) -> None:
        self.path = Path(path)
        stored = _read_config(self.path)
        if stored is None and self.path.is_dir() and any(self.path.iterdir()):
            foreign = sorted(entry.name for entry in self.path.iterdir() if entry.name not in _LEFT_BY_A_KILL)
            if foreign:
                raise ArgumentError(f"{self.path}: expected a run or an empty directory, it holds {foreign[0]}")
        if stored is not None and not resume:
            raise ArgumentError(f"{self.path}: a run stands here; resume it, or begin in another directory")
        if stored is not None:
            _check_same(self.path, stored, config, fingerprint)
        self.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            opened.enter_context(_locked(self.path))
            if stored is None:
                write_atomically(self.path / "config.json", _describe(config, fingerprint))
            self._checkpoint = _read_checkpoint(self.path / "checkpoint.pt")
            length = 0 if self._checkpoint is None else self._checkpoint["metrics_bytes"]
            self._metrics = opened.enter_context((self.path / "metrics.jsonl").open("a+b"))
            if self._metrics.seek(0, os.SEEK_END) < length:
                raise ArgumentError(
                    f"{self._metrics.name}: expected the {length} bytes its checkpoint knows, got fewer"
                )
            self._metrics.truncate(length)
            self._opened = opened.pop_all()

    @staticmethod
    def stored_config(path: str | os.PathLike[str]) -> dict[str, Any] | None:
        """Give the configuration of the run at `path`, or None where there is none.

        Raises:
            ArgumentError: config.json is not that of a run.
        """
        stored = _read_config(Path(path))
        return None if stored is None else stored["config"]

    def checkpoint(self) -> dict[str, Any] | None:
        """Give what was last saved, tensors on the CPU; None before the first time."""
        return self._checkpoint

    def log(self, **values: Any) -> None:
        """Add a line to metrics.jsonl."""
        self._metrics.write(json.dumps(values, separators=(", ", ": ")).encode() + b"\n")

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint by tensors and plain values; what was logged before belongs to it."""
        self._metrics.flush()
        os.fsync(self._metrics.fileno())
        content = io.BytesIO()
        torch.save({**state, "metrics_bytes": self._metrics.tell()}, content)
        write_atomically(self.path / "checkpoint.pt", content.getvalue())

    def close(self) -> None:
        """Close the files and let the run go."""
        self._opened.close()

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_LOCK: Final = ".lock"
_LEFT_BY_A_KILL: Final = (_LOCK, ".config.json.part")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with (path / _LOCK).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArgumentError(f"{path}: another process is training in this directory") from None
        yield


def _describe(config: TrainConfig[Any], fingerprint: str) -> bytes:
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
    return json.dumps(described, indent=2).encode() + b"\n"


def _read_config(path: Path) -> dict[str, Any] | None:
    file = path / "config.json"
    try:
        stored = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ArgumentError(f"{file}: expected the JSON of a run: {error}") from error
    if not isinstance(stored, dict) or (stored.get("format"), stored.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise ArgumentError(f"{file}: expected format {FORMAT}, version {FORMAT_VERSION}: this is no run to resume")
    return stored


def _check_same(path: Path, stored: Mapping[str, Any], config: TrainConfig[Any], fingerprint: str) -> None:
    before, now = stored["config"], config.to_dict()
    names = ["trainer"] if before.get("trainer") != now["trainer"] else [*now, *(before.keys() - now)]
    different = [name for name in names if (name in before, before.get(name)) != (name in now, now.get(name))]
    if different:
        told = [f"{name} = {before[name]!r}" if name in before else f"no {name}" for name in different]
        got = [f"{now[name]!r}" if name in now else "none" for name in different]
        listed = ", ".join(f"{ours}, got {theirs}" for ours, theirs in zip(told, got, strict=True))
        raise ArgumentError(f"{path}: the run was started with {listed}")
    if stored["data"]["fingerprint"] != fingerprint:
        raise ArgumentError(
            f"{path}: the run was started on other data: expected fingerprint {stored['data']['fingerprint']}, "
            f"got {fingerprint}"
        )


def _read_checkpoint(file: Path) -> dict[str, Any] | None:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ArgumentError(f"{file}: expected a checkpoint, got a damaged file: {error}") from error
    if not isinstance(state, dict) or not isinstance(state.get("metrics_bytes"), int):
        raise ArgumentError(f"{file}: expected a checkpoint, got something else")
    return state

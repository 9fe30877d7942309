"""The torch device to train on, and the number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from neuralcf.errors import ArgumentError
from neuralcf.training.distributed import local_rank

__all__ = ["isolated_torch", "resolve"]


def resolve(name: str) -> torch.device:
    """Resolve a device name: `cpu`, `cuda`, `cuda:N`, `mps`, or `auto` for a GPU, or the CPU without one.

    The GPU is the first one, or under torchrun the one with the process's number.

    Raises:
        ArgumentError: torch cannot see this device.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = [f"cuda:{index}" for index in range(gpus)]
    names += ["mps"] if torch.backends.mps.is_available() else []
    names += ["cpu"]
    own = f"cuda:{local_rank()}"
    wanted = {"auto": own if gpus else names[0], "cuda": own}.get(name, name)
    if wanted not in names:
        raise ArgumentError(
            f"device: expected one that torch {torch.__version__} can see ({', '.join(names)}), got {name!r}"
        )
    return torch.device(wanted)


@contextmanager
def isolated_torch(threads: int, device: torch.device) -> Iterator[None]:
    """Set torch's number of threads; restore it and torch's random state on exit."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    gpu = device.type if device.type != "cpu" else "cuda"
    try:
        with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device.index or 0], device_type=gpu):
            yield
    finally:
        torch.set_num_threads(before)

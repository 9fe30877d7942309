"""The torch device to train on."""

from __future__ import annotations

import torch

from neuralcf.errors import ArgumentError

__all__ = ["resolve"]


def resolve(name: str) -> torch.device:
    """Resolve a device name: `cpu`, `cuda`, `cuda:N`, `mps`, or `auto` for the first GPU, or the CPU without one.

    Raises:
        ArgumentError: torch cannot see this device.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = [f"cuda:{index}" for index in range(gpus)]
    names += ["mps"] if torch.backends.mps.is_available() else []
    names += ["cpu"]
    wanted = {"auto": names[0], "cuda": "cuda:0"}.get(name, name)
    if wanted not in names:
        raise ArgumentError(
            f"device: expected one that torch {torch.__version__} can see ({', '.join(names)}), got {name!r}"
        )
    return torch.device(wanted)

"""Where torch computes."""

from __future__ import annotations

import torch

from neuralcf.errors import ArgumentError

__all__ = ["resolve"]


def resolve(name: str) -> torch.device:
    """Give the device of a name: `cpu`, `cuda`, `cuda:N`, `mps`, or `auto` for the first GPU there is, else the CPU.

    Raises:
        ArgumentError: this machine, or this build of torch, does not have it.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = [f"cuda:{index}" for index in range(gpus)]
    names += ["mps"] if torch.backends.mps.is_available() else []
    names += ["cpu"]
    wanted = {"auto": names[0], "cuda": "cuda:0"}.get(name, name)
    if wanted not in names:
        raise ArgumentError(
            f"device: expected one that torch {torch.__version__} sees here ({', '.join(names)}), got {name!r}"
        )
    return torch.device(wanted)

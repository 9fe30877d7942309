"""Data-parallel training: the processes that `torchrun` starts train one model together.

Every process has all data, the whole model and its optimiser, and goes through the same batches. Of each batch it
computes the gradient of its part; the gradients are summed over the processes, and every process takes the same step.
So the steps are those of one process, but for the order in which numbers are summed.

Groups      `joined` joins the group that torchrun's environment describes. Outside of it there is one process, for
            which every function here gives back what it is given.
First       What has no gradients, and all that is written or printed, is done by the first process alone; the others
            wait, and get the result. If it raises, all processes end.
Backends    gloo for tensors on the CPU, NCCL for those on a GPU, one GPU for each process.
Chance      Equal for equal seeds and numbers of processes. `own_seed` makes a seed that every process has differently.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as group
from torch import Tensor

from neuralcf.errors import ArgumentError

__all__ = [
    "Part",
    "add",
    "check_equal",
    "first_only",
    "is_first",
    "joined",
    "local_rank",
    "on_first",
    "own_seed",
    "part_of",
]

T = TypeVar("T")

_PATIENCE = timedelta(days=1)
"""How long processes wait for the first one, which may train a teacher; torchrun ends them all when one fails."""

_joined = False


class _FirstFailedError(Exception):
    """The first process has raised an error, and reports it."""


class Part(NamedTuple):
    """What of a batch a process computes."""

    rows: slice
    share: float
    """Of the batch, 0 to 1; the shares of all processes sum to 1."""


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started, for as long as the context lasts; without torchrun do nothing.

    What processes other than the first print to standard output is dropped.
    """
    global _joined
    if not group.is_torchelastic_launched():
        yield
        return
    gpus = torch.cuda.is_available() and group.is_nccl_available()
    group.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=_PATIENCE)
    _joined = True
    try:
        with contextlib.nullcontext() if is_first() else contextlib.redirect_stdout(io.StringIO()):
            yield
    except _FirstFailedError:
        raise SystemExit(1) from None
    finally:
        _joined = False
        group.destroy_process_group()


def is_first() -> bool:
    """Whether this process is the one that writes; alone, it is."""
    return _rank() == 0


def local_rank() -> int:
    """Give the number of this process on its machine, from 0: that of its GPU."""
    return int(os.environ["LOCAL_RANK"]) if _joined else 0


def own_seed(seed: int) -> int:
    """Make a seed that each process has differently; the first one's, and that of a process alone, is `seed`."""
    return seed + _rank()


def part_of(size: int) -> Part:
    """Give this process's part of a batch of `size` rows; it may be empty."""
    start, stop = (size * rank // _size() for rank in (_rank(), _rank() + 1))
    return Part(slice(start, stop), (stop - start) / size)


def add(parameters: Iterable[Tensor], *values: float, share: float = 1.0) -> tuple[float, ...]:
    """Sum gradients over the processes, in place, and values, each multiplied by its process's `share` first.

    Args:
        parameters: with gradients, which every process has in the same order.
        values: such as the loss of this process's part.
        share: 1 where gradients and values are sums over the part, its share of the batch where they are means.
    """
    if _size() == 1:
        return values
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    own = torch.tensor(values, device=gradients[0].device)
    flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), own])
    flat = flat * share if share else torch.zeros_like(flat)  # a mean over an empty part is NaN
    group.all_reduce(flat)
    parts = torch.split(flat, [*(gradient.numel() for gradient in gradients), len(values)])
    for gradient, part in zip(gradients, parts, strict=False):
        gradient.copy_(part.view_as(gradient))
    return tuple(parts[-1].tolist())


def on_first(compute: Callable[[], T]) -> T:
    """Compute on the first process and give the result, which is pickled, to all."""
    return _computed(compute, given=True)  # type: ignore[return-value]


def first_only(compute: Callable[[], T]) -> T | None:
    """Compute on the first process alone, while the others wait; None for those."""
    return _computed(compute, given=False)


def check_equal(what: str, compute: Callable[[], str]) -> None:
    """Check that all processes compute the same.

    Raises:
        ArgumentError: this process does not compute what the first one does.
    """
    if _size() > 1:
        own = compute()
        if (expected := on_first(lambda: own)) != own:
            raise ArgumentError(f"{what}: expected {expected}, as on the first process, got {own}")


def _computed(compute: Callable[[], T], *, given: bool) -> T | None:
    if _size() == 1:
        return compute()
    outcome: list[tuple[bool, T | None]] = [(False, None)]
    if not is_first():
        group.broadcast_object_list(outcome)
        succeeded, result = outcome[0]
        if not succeeded:
            raise _FirstFailedError
        return result
    try:
        result = compute()
        outcome = [(True, result if given else None)]
    finally:
        group.broadcast_object_list(outcome)
    return result


def _rank() -> int:
    return group.get_rank() if _joined else 0


def _size() -> int:
    return group.get_world_size() if _joined else 1

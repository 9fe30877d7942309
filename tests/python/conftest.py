"""What several tests share."""

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from neuralcf import Scorer
from neuralcf._core import machine
from reference import Shape, Tensors, random_tensors, ruler

HELPERS = Path(__file__).resolve().parent
"""The folder of this file, where the modules stand that tests share."""
ROOT = HELPERS.parents[1]
DATA = ROOT.parent / "shared" / "data"
"""Data sets and weights that may not be copied into the project; tests are skipped where they are absent."""

ISAS: tuple[str, ...] = tuple(machine()["supported"])


def pytest_configure() -> None:
    """Started in the background of a shell, the tests begin with Ctrl-C ignored, and their children inherit that.

    Children that are programs of their own find the modules beside this one.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HELPERS), os.environ.get("PYTHONPATH")]))
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    return f"instruction sets: {', '.join(ISAS)}; threads: {machine()['threads']}"


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    """Every instruction set of this CPU."""
    return request.param


@pytest.fixture(scope="session")
def small() -> Scorer:
    """A NeuMF in which no size is a multiple of sixteen, with stored interactions."""
    shape = Shape(users=9, items=101, g=5, mlp=(3, 6), layers=(7, 4))
    return Scorer.from_tensors(random_tensors(shape), seen=random_rows(shape.users, shape.items, 0.3))


@pytest.fixture(scope="session")
def large_tensors() -> Tensors:
    """A NeuMF on which any call for a few users is worth a second thread."""
    return random_tensors(Shape(users=64, items=200_000, g=8, mlp=(8, 8), layers=(32, 16, 8)))


@pytest.fixture(scope="session")
def large(large_tensors: Tensors) -> Scorer:
    return Scorer.from_tensors(large_tensors, threads=2)


@pytest.fixture(scope="session")
def scorer_of() -> Callable[..., Scorer]:
    """A scorer whose logits are exactly the given ones, `[I]` of one user or `[U, I]`."""
    return lambda logits, **options: Scorer.from_tensors(ruler(logits), **options)


def random_rows(rows: int, items: int, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Compressed sparse rows `(indptr, indices)` that hold about `share` of the items."""
    cells = np.random.default_rng(seed).random((rows, items)) < share
    return np.concatenate([[0], cells.sum(axis=1).cumsum()]), np.nonzero(cells)[1]


@contextmanager
def after(seconds: float, action: Callable[[], object], every: float = 0) -> Iterator[list[float]]:
    """Runs `action` in a signal handler of the main thread, once or repeatedly; gives the times at which it did."""
    times: list[float] = []

    def handler(*_: object) -> None:
        times.append(time.monotonic())
        action()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds, every)
    try:
        yield times
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let the system refuse what is written beyond so many bytes of a file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

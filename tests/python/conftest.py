"""Fixtures and helpers that several tests share."""

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
"""This folder, which holds the modules that tests share."""
ROOT = HELPERS.parents[1]
DATA = ROOT.parent / "shared" / "data"
"""Data sets and weights that may not be copied into the project; without them tests are skipped."""

ISAS: tuple[str, ...] = tuple(machine()["supported"])


def pytest_configure() -> None:
    """Undo an ignored SIGINT, inherited by background jobs of a shell; let child processes import the test helpers."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HELPERS), os.environ.get("PYTHONPATH")]))
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    return f"instruction sets: {', '.join(ISAS)}; threads: {machine()['threads']}"


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    """Each instruction set that this CPU supports."""
    return request.param


@pytest.fixture(scope="session")
def small() -> Scorer:
    """A NeuMF with stored interactions in which no size is a multiple of sixteen."""
    shape = Shape(users=9, items=101, g=5, mlp=(3, 6), layers=(7, 4))
    return Scorer.from_tensors(random_tensors(shape), seen=random_rows(shape.users, shape.items, 0.3))


@pytest.fixture(scope="session")
def large_tensors() -> Tensors:
    """A NeuMF so large that any call for a few users uses a second thread."""
    return random_tensors(Shape(users=64, items=200_000, g=8, mlp=(8, 8), layers=(32, 16, 8)))


@pytest.fixture(scope="session")
def large(large_tensors: Tensors) -> Scorer:
    return Scorer.from_tensors(large_tensors, threads=2)


@pytest.fixture(scope="session")
def scorer_of() -> Callable[..., Scorer]:
    """Build a scorer with exactly the given logits, `[I]` for a single user or `[U, I]`."""
    return lambda logits, **options: Scorer.from_tensors(ruler(logits), **options)


def random_rows(rows: int, items: int, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return CSR rows `(indptr, indices)` that hold about a fraction `share` of the items."""
    cells = np.random.default_rng(seed).random((rows, items)) < share
    return np.concatenate([[0], cells.sum(axis=1).cumsum()]), np.nonzero(cells)[1]


@contextmanager
def after(seconds: float, action: Callable[[], object], every: float = 0) -> Iterator[list[float]]:
    """Run `action` in a signal handler of the main thread, once or repeatedly; yield the times of its runs."""
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
    """Make the system refuse writes beyond `size` bytes of a file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

"""`fork` at any time: before, during and after calls, in a signal handler during a call, in a child of a child.

Each scenario runs this file in a fresh interpreter. The same calls must give the same bits in every child.
A child that hangs is killed after some seconds and is an error.
"""

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import after
from neuralcf import Scorer
from reference import Shape, random_tensors

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

SECONDS = 30
"""Time limit of a child."""


def make() -> Scorer:
    return Scorer.from_tensors(random_tensors(Shape(64, 200_000, g=8, mlp=(8, 8), layers=(32, 16, 8))), threads=2)


def answer(scorer: Scorer) -> bytes:
    """Compute a digest of the results of every method, with two threads."""
    top = scorer.top_k([1, 2, 3], 100)
    scores = scorer.score_batch(5, np.arange(100_000), logits=True)
    ranks = scorer.rank_of([7, 8], [9, 10])
    return hashlib.sha256(b"".join(part.tobytes() for part in (*top, scores, ranks))).digest()


def short_answer(scorer: Scorer) -> bytes:
    """Compute a result that is short, but enough for two threads."""
    return scorer.score_batch(5, np.arange(16_000)).tobytes()


def workers() -> int:
    """Count the pool's threads in this process."""
    time.sleep(0.05)  # a thread gets its name shortly after it starts
    return sum(name.read_text() == "neuralcf\n" for name in Path("/proc/self/task").glob("*/comm"))


def in_child(work: Callable[[], bool]) -> int:
    """Fork a child that exits with status 0 if `work` returns true; return its process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns about forking with threads
        child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return child


def succeeds(child: int) -> bool:
    """Wait for a child, or kill it if it hangs; return whether it succeeded."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("a child hung", file=sys.stderr)
    return False


def before_any_call() -> None:
    scorer, expected = make(), answer_of_a_child()
    children = [in_child(lambda: answer(scorer) == expected) for _ in range(2)]
    assert [succeeds(child) for child in children] == [True, True]


def answer_of_a_child() -> bytes:
    """Compute the expected answer without starting a pool in this process."""
    read, write = os.pipe()
    child = in_child(lambda: os.write(write, answer(make())) == 32)
    assert succeeds(child)
    return os.read(read, 32)


def after_calls() -> None:
    scorer = make()
    expected = answer(scorer)

    def makes_its_own_pool() -> bool:
        before, right, after = workers(), answer(scorer) == expected, workers()
        return right and ((before, after) == (0, 1) or sys.platform != "linux")

    for _ in range(3):
        assert succeeds(in_child(makes_its_own_pool))
        assert answer(scorer) == expected


def child_of_a_child() -> None:
    scorer = make()
    expected = answer(scorer)

    def child(depth: int) -> bool:
        if answer(scorer) != expected:
            return False
        return depth == 0 or (succeeds(in_child(lambda: child(depth - 1))) and answer(scorer) == expected)

    assert succeeds(in_child(lambda: child(3)))


def during_long_calls_of_other_threads() -> None:
    forks_during(answer, 10)


def during_short_calls_of_other_threads() -> None:
    """The pool's lock is often held during these forks."""
    forks_during(short_answer, 150)


def forks_during(answer: Callable[[Scorer], bytes], forks: int) -> None:
    scorer = make()
    expected = answer(scorer)
    done = threading.Event()
    wrong = []

    def call() -> None:
        while not done.is_set():
            if answer(scorer) != expected:
                wrong.append(threading.current_thread())

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    children = 0
    try:
        for turn in range(forks):
            time.sleep(0.001 * (turn % 5))
            assert succeeds(in_child(lambda: answer(scorer) == expected))
            children += 1
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert children == forks
    assert not wrong


def from_a_signal_handler_inside_a_call() -> None:
    scorer = make()
    users = np.tile(np.arange(64), 2)
    quick = answer(scorer)
    children: list[int] = []
    parent = os.getpid()

    def fork() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child:
            children.append(child)

    for threads in (1, 2):
        expected = scorer.top_k(users, 50, threads=threads).scores.tobytes()
        with after(0.03, fork) as times:
            top = scorer.top_k(users, 50, threads=threads)
            assert time.monotonic() > times[0] + 0.02, "the call was too short for the signal"
        # Both processes return from the handler to the call, and both complete it.
        right = top.scores.tobytes() == expected and answer(scorer) == quick
        if os.getpid() != parent:
            os._exit(0 if right else 1)
        assert right
    assert [succeeds(child) for child in children] == [True, True]


def by_multiprocessing() -> None:
    scorer = make()
    expected = answer(scorer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = multiprocessing.get_context("fork")
        inherited.append(scorer)
        with context.Pool(3) as pool:
            answers = pool.map_async(answer_of_the_inherited, range(6)).get(SECONDS)
    assert answers == [expected] * 6
    assert answer(scorer) == expected


inherited: list[Scorer] = []


def answer_of_the_inherited(_: int) -> bytes:
    return answer(inherited[0])


def while_a_model_is_loaded() -> None:
    scorer = make()
    expected = answer(scorer)
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            make()

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for turn in range(5):
            time.sleep(0.02 * turn)
            assert succeeds(in_child(lambda: answer(make()) == answer(scorer) == expected))
    finally:
        done.set()
        thread.join()


SCENARIOS = [
    before_any_call,
    after_calls,
    child_of_a_child,
    during_long_calls_of_other_threads,
    during_short_calls_of_other_threads,
    from_a_signal_handler_inside_a_call,
    by_multiprocessing,
    while_a_model_is_loaded,
]


@pytest.mark.parametrize("scenario", [scenario.__name__ for scenario in SCENARIOS])
def test_a_fork(scenario: str) -> None:
    program = [sys.executable, "-X", "faulthandler", __file__, scenario]
    done = subprocess.run(program, capture_output=True, text=True, timeout=3 * SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done", scenario]


if __name__ == "__main__":
    {scenario.__name__: scenario for scenario in SCENARIOS}[sys.argv[1]]()
    print("done", sys.argv[1])

"""Threads: their number, the shared pool, and other Python threads during a call."""

import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from neuralcf import ArgumentError, Scorer
from neuralcf._core import machine
from reference import Shape, Tensors, random_tensors, ruler, write_file

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="affinity and /proc are Linux's")


def run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_number_of_threads_comes_from_argument_environment_or_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEURALCF_NUM_THREADS", raising=False)
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    assert 1 <= Scorer.from_tensors(ruler([1])).threads <= usable
    monkeypatch.setenv("NEURALCF_NUM_THREADS", "")
    assert Scorer.from_tensors(ruler([1])).threads == machine()["threads"]
    monkeypatch.setenv("NEURALCF_NUM_THREADS", "3")
    assert Scorer.from_tensors(ruler([1])).threads == 3
    assert Scorer.from_tensors(ruler([1]), threads=5).threads == 5
    assert Scorer.from_tensors(ruler([1]), threads=1024).threads == 1024


@pytest.mark.parametrize("text", ["0", "-1", "1025", "two", "1.5", "99999999999999999999", "1,2"])
def test_a_wrong_number_in_the_environment_is_rejected(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURALCF_NUM_THREADS", text)
    with pytest.raises(ArgumentError, match=f"environment variable NEURALCF_NUM_THREADS: expected .*1 to 1024.*{text}"):
        Scorer.from_tensors(ruler([1]))
    assert Scorer.from_tensors(ruler([1]), threads=2).threads == 2


def test_a_wrong_instruction_set_in_the_environment_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURALCF_ISA", "sse9")
    with pytest.raises(ArgumentError, match='NEURALCF_ISA: expected one of portable, avx2, avx512, neon; got "sse9"'):
        Scorer.from_tensors(ruler([1]))
    assert Scorer.from_tensors(ruler([1]), isa="portable").isa == "portable"
    monkeypatch.setenv("NEURALCF_ISA", "avx2" if platform.machine() in ("arm64", "aarch64") else "neon")
    with pytest.raises(ArgumentError, match="NEURALCF_ISA: this CPU does not support"):
        Scorer.from_tensors(ruler([1]))


@linux_only
def test_the_affinity_mask_limits_the_threads() -> None:
    one = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from neuralcf import Scorer
from reference import ruler
print(Scorer.from_tensors(ruler([1])).threads)
"""
    assert run(one, NEURALCF_NUM_THREADS="") == "1"


@linux_only
def test_all_calls_share_one_pool_and_small_calls_start_no_thread() -> None:
    program = """
import pathlib
import time
import numpy as np
from neuralcf import Scorer
from reference import Shape, random_tensors

def workers():
    time.sleep(0.05)  # a thread gets its name shortly after it starts
    return sum(name.read_text() == "neuralcf\\n" for name in pathlib.Path("/proc/self/task").glob("*/comm"))

small = Scorer.from_tensors(random_tensors(Shape(5, 500, g=8)), threads=2)
for call in range(100):
    small.top_k([0, 1, 2], 5)
    small.score_batch([0] * 500, range(500), threads=4)
counts = [workers()]
tensors = random_tensors(Shape(64, 50_000, g=8, mlp=(8, 8), layers=(32, 16, 8)))
large = [Scorer.from_tensors(tensors, threads=2) for _ in range(3)]
for call in range(9):
    for scorer in large:
        scorer.top_k(range(8), 5)
    counts.append(workers())
large[0].top_k(range(8), 5, threads=4)
counts.append(workers())
large[0].top_k(range(8), 5, threads=2)
large[0].top_k(range(8), 5, threads=1)
counts.append(workers())
print(counts)
"""
    assert run(program) == str([0, *[1] * 9, 3, 3])


def slow_calls() -> dict[str, Callable[[Scorer], object]]:
    return {
        "score_batch": lambda scorer: scorer.score_batch(0, np.zeros(400_000, np.int32), threads=1),
        "top_k": lambda scorer: scorer.top_k(range(2), threads=1),
        "rank_of": lambda scorer: scorer.rank_of(range(2), range(2), threads=1),
    }


def ticks_during(call: Callable[[], object]) -> tuple[int, float]:
    """Count how often another Python thread runs, sleeping 1 ms each time, and measure the seconds of the call."""
    ticks, running, done = 0, threading.Event(), threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.is_set():
            time.sleep(0.001)
            ticks += 1
            running.set()

    thread = threading.Thread(target=tick)
    thread.start()
    running.wait()
    begun, before = time.monotonic(), ticks
    try:
        call()
        return ticks - before, time.monotonic() - begun
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("method", slow_calls())
def test_other_python_threads_run_during_a_call(method: str, large_tensors: Tensors) -> None:
    scorer = Scorer.from_tensors(large_tensors, isa="portable")
    ticks, seconds = ticks_during(lambda: slow_calls()[method](scorer))
    assert seconds > 0.1
    assert ticks >= 10 * seconds, f"{ticks} in {seconds:.2f} s"


def test_other_python_threads_run_while_a_model_is_loaded(tmp_path: Path) -> None:
    tensors = random_tensors(Shape(100, 2_000, mlp=(8, 512), layers=(512,)))
    path = write_file(tmp_path / "model.safetensors", tensors)
    for load in (Scorer.load, lambda _, **options: Scorer.from_tensors(tensors, **options)):
        ticks, seconds = ticks_during(lambda load=load: load(path, isa="portable", threads=1))
        assert seconds > 0.05
        assert ticks >= 10 * seconds, f"{ticks} in {seconds:.2f} s"


def test_concurrent_calls_give_the_right_bits(large: Scorer) -> None:
    users, items = np.arange(64), np.arange(60_000)
    expected = [large.score_batch(user, items, logits=True, threads=1).tobytes() for user in range(8)]
    tops = [[part.tobytes() for part in large.top_k([user, 7], 50, threads=1)] for user in range(8)]
    ranks = large.rank_of(users[:8], items[:8], threads=1).tobytes()

    def work(worker: int) -> int:
        for turn in range(4):
            user, threads = (worker + turn) % 8, 1 + turn % 3
            assert large.score_batch(user, items, logits=True, threads=threads).tobytes() == expected[user]
            assert [part.tobytes() for part in large.top_k([user, 7], 50, threads=threads)] == tops[user]
            assert large.rank_of(users[:8], items[:8], threads=threads).tobytes() == ranks
        return worker

    with ThreadPoolExecutor(8) as executor:
        assert list(executor.map(work, range(8))) == list(range(8))

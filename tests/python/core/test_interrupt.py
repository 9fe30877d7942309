"""Ctrl-C stops a long call soon and does no harm; other signal handlers run during a call, which continues."""

import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import after, random_rows
from neuralcf import Scorer, UserVectors
from neuralcf._core import Sampler
from reference import Shape, Tensors, metadata_of, random_tensors, safetensors_header, write_file

PROMISE, SLACK = 0.1, 0.9
"""Seconds within which Ctrl-C must work, and the slack for a loaded machine. The calls take many seconds."""


def seconds_to_stop(call: Callable[[], object], wait: float = 0.3) -> float:
    """Measure the seconds from SIGINT, sent while `call` runs, to KeyboardInterrupt."""
    sent: list[float] = []

    def interrupt() -> None:
        time.sleep(wait)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        call()
        finished = time.monotonic()
        thread.join()
        time.sleep(1)  # the interrupt arrives here if the call ended before it
    except KeyboardInterrupt:
        stopped = time.monotonic()
        thread.join()
        assert "finished" not in locals(), "the call ended before the signal"
        return stopped - sent[0]
    pytest.fail(f"the call ran to its end, {finished - sent[0]:.1f} s after the signal")


@pytest.fixture(scope="module")
def slow(large_tensors: Tensors) -> Scorer:
    return Scorer.from_tensors(large_tensors, isa="portable")


# Eight million scores each, some ten seconds with this instruction set.
FEW, MANY = np.zeros(40, np.int32), np.zeros(2_000, np.int32)
CALLS: dict[str, Callable[[Scorer, int], object]] = {
    "top_k of a few users": lambda s, threads: s.top_k(FEW, threads=threads),
    "top_k, large k": lambda s, threads: s.top_k(FEW, 50_000, threads=threads),
    "top_k of few items": lambda s, threads: s.top_k(MANY, allow=range(4_000), threads=threads),
    "rank_of": lambda s, threads: s.rank_of(FEW, FEW, threads=threads),
    "score_batch": lambda s, threads: s.score_batch(0, np.zeros(8_000_000, np.int8), threads=threads),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c_stops_a_call(slow: Scorer, name: str, threads: int, capsys: pytest.CaptureFixture[str]) -> None:
    before = slow.top_k(0, 20, logits=True)
    seconds = seconds_to_stop(lambda: CALLS[name](slow, threads))
    with capsys.disabled():
        print(f" [{1000 * seconds:.0f} ms]", end="")
    assert seconds < PROMISE + SLACK
    again = slow.top_k(0, 20, logits=True)
    assert [part.tobytes() for part in again] == [part.tobytes() for part in before]


def test_ctrl_c_stops_loading_while_the_file_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = random_tensors(Shape(1, 1, g=64))
    tensors["gmf.item_embedding.weight"] = np.broadcast_to(np.float32(0), (10_000_000, 64))
    header = safetensors_header(tensors, metadata_of(tensors))
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + sum(tensor.nbytes for tensor in tensors.values()))  # a hole of zeros
    seconds = seconds_to_stop(lambda: Scorer.load(path))
    with capsys.disabled():
        print(f" [{1000 * seconds:.0f} ms]", end="")
    assert seconds < PROMISE + SLACK


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("entrance", ["load", "from_tensors"])
def test_ctrl_c_stops_building_the_layout(
    entrance: str, threads: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = random_tensors(Shape(1, 5_000, mlp=(1, 1024), layers=(2048,)))
    if entrance == "load":
        path = write_file(tmp_path / "model.safetensors", tensors)
        seconds = seconds_to_stop(lambda: Scorer.load(path, threads=threads, isa="portable"))
    else:
        seconds = seconds_to_stop(lambda: Scorer.from_tensors(tensors, threads=threads, isa="portable"))
    with capsys.disabled():
        print(f" [{1000 * seconds:.0f} ms]", end="")
    assert seconds < PROMISE + SLACK


def test_ctrl_c_stops_copying_tensors() -> None:
    tensors = random_tensors(Shape(1, 1, g=64))
    tensors["gmf.item_embedding.weight"] = np.broadcast_to(np.float16(0.5), (10_000_000, 64))
    assert seconds_to_stop(lambda: Scorer.from_tensors(tensors)) < PROMISE + SLACK


def test_ctrl_c_stops_projecting_user_vectors() -> None:
    scorer = Scorer.from_tensors(random_tensors(Shape(1, 1, mlp=(1024, 1), layers=(2048,))), isa="portable", threads=1)
    vectors = UserVectors(None, np.ones((4_000, 1024), np.float32))
    assert seconds_to_stop(lambda: scorer.score_batch(vectors, np.zeros(4_000, int))) < PROMISE + SLACK


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_stops_negative_sampling(threads: int) -> None:
    sampler = Sampler(random_rows(100, 1000, 0.5), 1000, negatives=20_000, labels=True)
    draw = functools.partial(sampler.draw, 0, 0, 200_000_000, batch_size=4096, threads=threads)
    assert seconds_to_stop(draw) < PROMISE + SLACK


@pytest.mark.parametrize("threads", [1, 2])
def test_other_handlers_run_and_the_call_continues(large: Scorer, threads: int) -> None:
    users = np.arange(256) % large.num_users  # long enough with any scan precision
    expected = large.top_k(users, 7, threads=threads).scores.tobytes()
    nested = large.top_k(3, 50).scores.tobytes()

    def handler() -> None:
        assert large.top_k(3, 50).scores.tobytes() == nested  # a nested call during a call

    with after(0.03, handler, every=0.03) as times:
        begun = time.monotonic()
        top = large.top_k(users, 7, threads=threads)
        ended = time.monotonic()
    assert top.scores.tobytes() == expected
    assert sum(begun < at < ended - 0.01 for at in times) >= 1


def test_an_exception_of_a_handler_is_raised(slow: Scorer) -> None:
    class TimeIsUpError(Exception):
        pass

    def handler() -> None:
        raise TimeIsUpError

    with after(0.1, handler), pytest.raises(TimeIsUpError):
        slow.top_k(FEW)


def test_out_is_untouched_after_an_interrupt(slow: Scorer) -> None:
    items = np.zeros(8_000_000, np.int8)
    out = np.full(len(items), 9, np.float32)
    seconds_to_stop(lambda: slow.score_batch(0, items, out=out))
    assert (out == 9).all()

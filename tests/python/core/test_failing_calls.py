"""The n-th allocation or system call fails, for n = 1, 2, ...: an error, never an abort, and nothing half done.

A library that makes calls fail is preloaded into a process that executes this file. It does not reach system calls that
are made without the C library, among them the exchange of two directories.
"""

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import neuralcf
from neuralcf import PublishedError, Recommender, Scorer
from neuralcf.files import write_atomically
from reference import Shape, random_history, random_tensors

ROUNDS = int(os.environ.get("NEURALCF_FAILING_CALLS", "0"))
"""How often every single allocation is made to fail, by `make torture`; without, the first eleven and then every
eleventh are, once."""
STRIDE = 1 if ROUNDS else 11
SMALLEST = 1200
"""Bytes from which an allocation may fail. The sizes of smaller ones are fixed, or small in these models alone."""
U, I = 70, 1100  # noqa: E741 - users and items; the catalogue is large enough for a quantized scan
SHAPES = {"quantized": Shape(U, I, g=310, mlp=(310, 320), layers=(330, 40, 20)), "dots": Shape(U, I, g=310)}


def save(path: Path, seed: int, shape: Shape) -> None:
    ids = ([f"user {user}" for user in range(U)], list(range(I)))
    seen, history = (np.arange(U + 1), np.arange(U)), random_history(I, shape.g + shape.mlp[0], seed=seed)
    config = {"note": 'a string with "escapes" ' * 50}
    neuralcf.save(
        random_tensors(shape, seed), path, kind=shape.kind, ids=ids, seen=seen, history=history, config=config
    )


def queries(path: Path) -> dict[str, Callable[[], object]]:
    scorer, recommender = Scorer.load(path), Recommender.load(path)
    vectors = scorer.user_vectors(range(U))
    histories = (np.arange(0, 2 * U + 1, 2), np.arange(2 * U))
    many = {"allow": np.arange(0, I, 2), "deny": np.arange(0, I, 3), "exclude": "seen"}
    return {
        "load": lambda: Recommender.load(path).num_items,
        "ids": lambda: [
            recommender.item_ids.take(range(I)).tolist(),
            recommender.user_ids.find(["user 7"] * 999).tolist(),
        ],
        "top_k": lambda: scorer.top_k(range(U), 20, exclude="seen").ids.tolist(),
        "top_k, one user": lambda: scorer.top_k(3, 150).ids.tolist(),
        "top_k, all items": lambda: scorer.top_k([3, 4], I).ids.tolist(),
        "top_k, filters": lambda: scorer.top_k(range(U), 9, **many).ids.tolist(),
        "top_k, vectors": lambda: scorer.top_k(vectors, 9).ids.tolist(),
        "rank_of": lambda: scorer.rank_of(range(U), range(U)).tolist(),
        "score_batch": lambda: scorer.score_batch(np.zeros(I, int), range(I)).tolist(),
        "score_batch, vectors": lambda: scorer.score_batch(vectors, range(U)).tolist(),
        "fold_in": lambda: scorer.fold_in(histories).gmf.tolist(),
        "recommend": lambda: recommender.recommend([f"user {user}" for user in range(U)], 50).ids.tolist(),
    }


def allocations(calls: ctypes.CDLL, path: Path, outcomes: Counter[str]) -> None:
    for name, query in queries(path).items():
        expected, n = query(), 0
        while True:
            n += 1 if n < STRIDE else STRIDE
            calls.fail_allocation(n, SMALLEST)
            try:
                result = query()
            except MemoryError:
                result = None
            except SystemError:  # NumPy's "error return without exception set", of boolean indices
                result = None
            failed = calls.stop_failing()
            if not failed:
                break
            # Python itself may do without the memory that it asked for.
            outcomes[f"{name}: {'MemoryError' if result is None else 'right' if result == expected else 'WRONG'}"] += 1
        if query() != expected:
            outcomes[f"{name}: WRONG afterwards"] += 1


def allocations_of_save(calls: ctypes.CDLL, path: Path, shape: Shape, outcomes: Counter[str]) -> None:
    n, failed = 0, 1
    while failed:
        n += 1 if n < STRIDE else STRIDE
        before = model_id(path)
        calls.fail_allocation(n, SMALLEST)
        try:
            save(path, n, shape)
            outcome = "published"
        except MemoryError:
            outcome = "MemoryError"
        except PublishedError:
            outcome = "PublishedError"
        except OSError as error:  # of a system call of Python's that lacked memory
            outcome = "MemoryError" if error.errno == errno.ENOMEM else f"WRONG {error!r}"
        failed = calls.stop_failing()
        right = (model_id(path) == before) == (outcome == "MemoryError")
        if failed:
            outcomes[f"save: {outcome}{'' if right else ', WRONG'}"] += 1


def model_id(path: Path) -> str:
    return Scorer.load(path).metadata["model_id"]


def input_and_output(calls: ctypes.CDLL, place: Path, outcomes: Counter[str]) -> None:
    def saving(path: Path) -> Callable[[], None]:
        return lambda: save(path, 1, Shape(U, I, g=2))

    def writing() -> None:
        write_atomically(place / "text", os.urandom(8).hex().encode())

    (place / "text").write_text("first")
    writers = {
        "save": (saving(place / "model"), lambda: model_id(place / "model")),
        "save a file": (
            lambda: neuralcf.save(random_tensors(Shape(3, 4, g=2)), place / "a.safetensors", kind="gmf"),
            lambda: model_id(place / "a.safetensors"),
        ),
        "write": (writing, lambda: (place / "text").read_text()),
    }
    for name, (write, state) in writers.items():
        write()
        n = 0
        while True:
            n += 1
            before = state()
            calls.fail_call(n)
            try:
                write()
                outcome = "published"
            except PublishedError:
                outcome = "PublishedError"
            except OSError:
                outcome = "OSError"
            failed = calls.stop_failing()
            right = (state() == before) == (outcome == "OSError")
            if not failed:
                break
            outcomes[f"{name}: {outcome}{'' if right else ', WRONG'}"] += 1
        for part in place.glob(".*.part"):  # one whose removal was made to fail
            shutil.rmtree(part) if part.is_dir() else part.unlink()


def main(place: Path) -> Counter[str]:
    calls = ctypes.CDLL(os.environ["LD_PRELOAD"])
    calls.fail_allocation.argtypes = [ctypes.c_long, ctypes.c_size_t]
    calls.fail_call.argtypes = [ctypes.c_long]
    outcomes = Counter[str]()
    for _ in range(ROUNDS or 1):
        for name, shape in SHAPES.items():
            path = place / name
            save(path, 0, shape)
            allocations(calls, path, outcomes)
            allocations_of_save(calls, path, shape, outcomes)
        input_and_output(calls, place, outcomes)
    return outcomes


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler")
def test_a_failing_call_is_an_error_and_nothing_is_half_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = tmp_path / "failing_calls.so"
    source = Path(__file__).with_name("failing_calls.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-w", "-o", library, source, "-ldl"], check=True)
    (tmp_path / "place").mkdir()
    program = [sys.executable, "-X", "faulthandler", __file__, str(tmp_path / "place")]
    environment = os.environ | {"LD_PRELOAD": str(library), "NEURALCF_NUM_THREADS": "1"}
    done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = Counter[str](json.loads(done.stdout))
    wrong = {outcome: count for outcome, count in outcomes.items() if "WRONG" in outcome}
    with capsys.disabled():
        print(f" {outcomes.total()} calls made to fail, {sum(wrong.values())} wrong", end="")
    assert not wrong
    of_memory = ("load", "ids", "top_k", "rank_of", "score_batch", "fold_in", "recommend", "save")
    of_calls = ("save: OSError", "save: PublishedError", "write: PublishedError")
    assert {*(f"{name}: MemoryError" for name in of_memory), *of_calls} <= outcomes.keys()


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))

"""The n-th allocation or system call fails, for n = 1, 2, ...: an error, never an abort, and nothing half done.

A library that makes calls fail is preloaded into a process that executes this file. It does not reach system calls that
are made without the C library, among them the exchange of two directories.
"""

import ctypes
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

ROUNDS = int(os.environ.get("NEURALCF_FAILING_CALLS", "1"))
"""How many models; `make torture` takes more."""
SMALLEST = 8192
"""Bytes from which an allocation may fail: files and callers decide the size of the large ones."""
U, I = 300, 4000  # noqa: E741 - users and items


def save(path: Path, seed: int) -> None:
    shape = Shape(U, I, g=5, mlp=(6, 7), layers=(40, 20))
    ids = ([f"user {user}" for user in range(U)], list(range(I)))
    seen, history = (np.arange(U + 1), np.arange(U)), random_history(I, 11, seed=seed)
    neuralcf.save(random_tensors(shape, seed), path, kind="neumf", ids=ids, seen=seen, history=history)


def queries(path: Path) -> dict[str, Callable[[], object]]:
    scorer, recommender = Scorer.load(path), Recommender.load(path)
    histories = (np.arange(0, 2 * U + 1, 2), np.arange(2 * U))
    return {
        "load": lambda: Recommender.load(path).num_items,
        "ids": lambda: [
            recommender.item_ids.take(range(I)).tolist(),
            recommender.user_ids.find(["user 7"] * 999).tolist(),
        ],
        "top_k": lambda: scorer.top_k(range(U), 200, exclude="seen").ids.tolist(),
        "rank_of": lambda: scorer.rank_of(range(U), range(U)).tolist(),
        "score_batch": lambda: scorer.score_batch(np.zeros(I, int), range(I)).tolist(),
        "fold_in": lambda: scorer.fold_in(histories).gmf.tolist(),
        "recommend": lambda: recommender.recommend([f"user {user}" for user in range(U)], 50).ids.tolist(),
    }


def allocations(calls: ctypes.CDLL, place: Path, outcomes: Counter[str]) -> None:
    save(place / "model", 0)
    for name, query in queries(place / "model").items():
        expected, n = query(), 0
        while True:
            n += 1
            calls.fail_allocation(n, SMALLEST)
            try:
                result = query()
            except MemoryError:
                result = None
            failed = calls.stop_failing()
            if not failed:
                break
            # Python itself may do without the memory that it asked for.
            outcomes[f"{name}: {'MemoryError' if result is None else 'right' if result == expected else 'WRONG'}"] += 1
        if query() != expected:
            outcomes[f"{name}: WRONG afterwards"] += 1


def input_and_output(calls: ctypes.CDLL, place: Path, outcomes: Counter[str]) -> None:
    def model_id(path: Path) -> str:
        return Scorer.load(path).metadata["model_id"]

    def saving(path: Path) -> Callable[[], None]:
        return lambda: save(path, 1)

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
    for _ in range(ROUNDS):
        allocations(calls, place, outcomes)
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
    assert {
        "load: MemoryError",
        "top_k: MemoryError",
        "save: OSError",
        "save: PublishedError",
        "write: PublishedError",
    } <= outcomes.keys()


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))

"""Untrusted input may change at any time and may be absurd: at worst there is an error or a wrong score."""

import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import neuralcf
from conftest import after
from layouts import LAYOUTS, read_only
from neuralcf import ArgumentError, ModelFormatError, OutOfRangeError, Scorer
from reference import (
    Shape,
    Tensors,
    metadata_of,
    random_tensors,
    safetensors,
    safetensors_header,
    write_file,
)

USERS, ITEMS = [3, 0, 8, 3], [100, 7, 0, 64]


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "swapped" not in name and name != "read-only"])
def test_out_in_every_layout_is_written_and_returned(small: Scorer, layout: str) -> None:
    out = LAYOUTS[layout](np.full(4, 9, np.float32))
    assert small.score_batch(USERS, ITEMS, out=out) is out
    assert out.tolist() == small.score_batch(USERS, ITEMS).tolist()


def test_memory_beside_out_is_unchanged(small: Scorer) -> None:
    room = np.full(14, 9, np.float32)
    small.score_batch(USERS, ITEMS, out=room[2:14:3])
    assert room[2:14:3].tolist() == small.score_batch(USERS, ITEMS).tolist()
    assert (np.delete(room, np.arange(2, 14, 3)) == 9).all()


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.full(3, 9, "f4"), ArgumentError, r"out: expected shape \[4\], got \[3\]"),
        (np.full((4, 1), 9, "f4"), ArgumentError, r"out: expected shape \[4\], got \[4, 1\]"),
        (np.full(4, 9, "f8"), TypeError, "out: expected dtype float32, got float64"),
        (np.full(4, 9, "i4"), TypeError, "out: expected dtype float32, got int32"),
        (
            np.full(4, 9, "f4").astype(np.dtype("f4").newbyteorder()),
            TypeError,
            "out: expected dtype float32, got [<>]f4",
        ),
        (read_only(np.full(4, 9, "f4")), ArgumentError, "out: expected a writable array, got a read-only one"),
        ([9.0] * 4, TypeError, "out: expected an array of float32, got list"),
    ],
)
def test_out_that_cannot_hold_the_scores_is_rejected(
    small: Scorer, out: np.ndarray, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        small.score_batch(USERS, ITEMS, out=out)
    assert (np.asarray(out) == 9).all()


@pytest.mark.parametrize(
    ("users", "items", "options"),
    [
        ([0, 1, 2, 9], ITEMS, {}),
        (USERS, [0, 1, 2, 101], {}),
        (USERS[1:], ITEMS, {}),
        (USERS, [0.5] * 4, {}),
        (USERS, ITEMS, {"threads": 0}),
        (USERS, ITEMS, {"logits": "yes"}),
    ],
)
def test_out_is_untouched_after_an_error(small: Scorer, users: list, items: list, options: dict) -> None:
    out = np.full(4, 9, np.float32)
    with pytest.raises((OutOfRangeError, ArgumentError, TypeError)):
        small.score_batch(users, items, out=out, **options)
    assert (out == 9).all()


def test_indices_that_change_during_a_call_give_an_error_or_a_score(large: Scorer) -> None:
    users, items = np.zeros(50_000, np.int64), np.zeros(50_000, np.int64)
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            for array, wrong in ((users, 2**40), (items, -1)):
                array[:] = wrong
                array[:] = 0

    thread = threading.Thread(target=change)
    thread.start()
    outcomes: Counter[str] = Counter()
    deadline = time.monotonic() + 20
    try:
        while len(outcomes) < 2 or outcomes.total() < 300:
            assert time.monotonic() < deadline, outcomes
            try:
                scores = large.score_batch(users, items)
                outcomes["scores"] += 1
                assert ((scores >= 0) & (scores <= 1)).all()
            except OutOfRangeError:
                outcomes["error"] += 1
    finally:
        done.set()
        thread.join()


def test_an_out_that_shrinks_during_a_call_is_not_overrun(large_tensors: Tensors) -> None:
    scorer = Scorer.from_tensors(large_tensors, isa="portable", threads=1)
    items = np.zeros(1_000_000, int)
    out = np.zeros(len(items), np.float32)
    message = r"out: expected shape \[1000000\], got \[10\]"
    with after(0.05, lambda: out.resize(10, refcheck=False)), pytest.raises(ArgumentError, match=message):
        scorer.score_batch(0, items, out=out)
    assert (out == 0).all()


@pytest.mark.parametrize("new_shape", [(6,), (1, 3, 2), (2, 3), (0, 2)])
def test_a_tensor_that_changes_shape_while_being_read_is_rejected(new_shape: tuple[int, ...]) -> None:
    tensors = random_tensors(Shape(3, 4, g=2))
    first = tensors["gmf.user_embedding.weight"]

    class Changes:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            first.resize(new_shape, refcheck=False)
            return np.ones((4, 2), np.float32)

    with pytest.raises(ArgumentError, match=r"gmf\.user_embedding\.weight: the array was modified while being read"):
        Scorer.from_tensors(tensors | {"gmf.item_embedding.weight": Changes()})


def test_absurd_sizes_raise_memory_error(small: Scorer) -> None:
    for users, k in ((range(9), 10**17), (0, 2**59), (np.zeros(10**6, int), 10**11)):
        with pytest.raises(MemoryError, match=r"top-k result: takes \d+ bytes, but \d+ are free"):
            small.top_k(users, k)
    assert small.top_k(0, 10**6).ids.shape == (10**6,)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the address space")
def test_a_model_larger_than_memory_raises_memory_error(tmp_path: Path) -> None:
    tensors = random_tensors(Shape(1, 1, g=64))
    tensors["gmf.item_embedding.weight"] = np.broadcast_to(np.float32(0), (10_000_000, 64))
    header = safetensors_header(tensors, metadata_of(tensors))
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + sum(tensor.nbytes for tensor in tensors.values()))  # a sparse file of zeros
    program = """
import resource, sys
import numpy as np
from neuralcf import Scorer
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (256 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
tensors = {name: np.ones((1, 64), np.float32) for name in ("gmf.user_embedding.weight", "output.weight")}
tensors["output.bias"] = np.ones(1, np.float32)
tensors["gmf.item_embedding.weight"] = np.broadcast_to(np.float32(1), (10_000_000, 64))
for load in (lambda: Scorer.load(sys.argv[1]), lambda: Scorer.from_tensors(tensors)):
    try:
        load()
    except MemoryError as error:
        print(error)
"""
    command = [sys.executable, "-c", program, tmp_path / "model.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("gmf.item_embedding.weight: cannot reserve") == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the address space")
def test_a_call_larger_than_memory_raises_memory_error() -> None:
    program = """
import resource
import numpy as np
from neuralcf import Scorer
rng = np.random.default_rng(0)
shapes = {"gmf.user_embedding.weight": (64, 8), "gmf.item_embedding.weight": (100_000, 8), "output.weight": (1, 8)}
tensors = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
scorer = Scorer.from_tensors(tensors | {"output.bias": np.zeros(1, np.float32)}, threads=2)
users, rows = np.arange(64), (np.arange(65) * 100_000, np.tile(np.arange(100_000), 64))
scorer.top_k(users)
pages = int(open("/proc/self/statm").read().split()[0])
for room in range(0, 300 << 20, 8 << 20):
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room, -1))
    for filters in {}, {"allow": range(0, 100_000, 5)}, {"allow": rows}, {"exclude": rows}:
        try:
            scorer.top_k(users, 100_000, **filters)
            print("result")
        except MemoryError as error:
            print(error)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    outcomes = Counter(line.split(":")[0] for line in done.stdout.splitlines())
    assert outcomes["result"] > 10
    assert {"top-k ids", "top-k scores", "top-k candidates", "selection"} <= outcomes.keys()


@pytest.fixture
def tensors() -> dict[str, np.ndarray]:
    return random_tensors(Shape(50, 4000, g=4, mlp=(4, 4), layers=(8,)))


def test_changing_a_file_after_loading_has_no_effect(tensors: dict, tmp_path: Path) -> None:
    path = write_file(tmp_path / "model.safetensors", tensors)
    scorer = Scorer.load(path)
    before = scorer.score_batch(7, np.arange(4000), logits=True).tolist()
    for damage in (lambda: path.write_bytes(b"\xff" * path.stat().st_size), lambda: path.write_bytes(b""), path.unlink):
        damage()
        assert scorer.score_batch(7, np.arange(4000), logits=True).tolist() == before
        assert scorer.top_k(7, 1).ids.tolist() == [int(np.argmax(before))]


def test_removing_a_directory_after_loading_has_no_effect(tensors: dict, tmp_path: Path) -> None:
    neuralcf.save(tensors, tmp_path / "model", kind="neumf", seen=(np.arange(51), np.arange(50)))
    scorer = Scorer.load(tmp_path / "model")
    shutil.rmtree(tmp_path / "model")
    assert scorer.rank_of(0, [0], exclude="seen").shape == (1,)
    assert (scorer.top_k(np.arange(50), 100, exclude="seen").ids != np.arange(50)[:, None]).all()


def test_files_that_are_not_models_are_rejected_by_path(tensors: dict, tmp_path: Path) -> None:
    good = write_file(tmp_path / "good.safetensors", tensors).read_bytes()
    files = {
        "empty": b"",
        "seven bytes": b"1234567",
        "text": b"user,item,rating\n" * 20,
        "truncated": good[:-1],
        "one byte more": good + b"\0",
        "foreign": safetensors({"weight": np.ones((2, 2), np.float32)}, {}),
        "of the future": good.replace(b'"format_version": "1"', b'"format_version": "2"'),
        "of another activation": good.replace(b'"relu"', b'"gelu"'),
        "of another kind": good.replace(b'"neumf"', b'"gmf"'),
    }
    for name, data in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ModelFormatError, match=f"{name}: "):
            Scorer.load(path)
    (tmp_path / "directory").mkdir()
    with pytest.raises(ModelFormatError, match=r"directory: no model\.safetensors"):
        Scorer.load(tmp_path / "directory")
    with pytest.raises(FileNotFoundError, match="nowhere: cannot open"):
        Scorer.load(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="cannot open"):
        Scorer.load(tmp_path / "good.safetensors" / "model")
    for no_path in (3, None, b"", ["model"]):
        with pytest.raises((TypeError, FileNotFoundError)):
            Scorer.load(no_path)

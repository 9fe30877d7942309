"""Random wrong calls: a documented exception or a valid result, never anything else, never a crash.

Hypothesis generates the bytes that determine the calls, in batches, and shrinks failures. The calls run in a separate
process that executes this file, so that a crash is detected.
"""

import json
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, note, settings
from hypothesis import strategies as st

from layouts import LAYOUTS, read_only
from neuralcf import ArgumentError, ModelFormatError, OutOfRangeError, Scorer, TopK, UserVectors
from reference import Shape, random_tensors

CALLS = int(os.environ.get("NEURALCF_FUZZ", "30000"))
"""Number of calls; `make fuzz` makes more."""
AT_A_TIME, BYTES = 20, 32
U, I = 5, 37  # noqa: E741 - users and items
SHAPES = [Shape(U, I, g=3, mlp=(2, 4), layers=(5, 3)), Shape(U, I, g=17), Shape(U, I, mlp=(1, 2), layers=(33,))]

METHODS = {
    "score_batch": (["users", "items"], ["logits", "out", "threads"]),
    "top_k": (["users", "k"], ["exclude", "allow", "deny", "search", "logits", "threads"]),
    "rank_of": (["users", "items"], ["exclude", "allow", "deny", "threads"]),
    "user_vectors": (["users"], []),
    "from_tensors": (["tensors"], ["kind", "seen", "threads", "isa"]),
    "load": (["path"], ["threads", "isa"]),
}
"""Positional parameters, and keyword parameters."""


class HostileError(Exception):
    """Raised by an object of the caller; must reach the caller unchanged."""


def hostile(method: str, answer: object = HostileError) -> object:
    """Make an object whose `method` raises or returns a wrong value."""

    def lie(*_: object, **__: object) -> object:
        if answer is HostileError:
            raise HostileError
        return answer

    return type(f"Hostile{method}", (), {method: lie})()


PROMISED = (ArgumentError, ModelFormatError, OutOfRangeError, TypeError, MemoryError, HostileError)


def values() -> dict[str, list[object]]:
    """Return valid or nearly valid arguments for each parameter, and arguments of every kind under "any"."""
    numbers = [0, 1, 2, U - 1, U, I - 1, I, -1, 2**31, 2**32, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30, -(10**60)]
    no_numbers = [True, False, None, 0.0, 1.5, float("nan"), 1j, object(), Scorer, int, np, iter([0]), set(), b"", b"1"]
    texts = ["", "seen", "exact", "approximate", "gmf", "mlp", "portable", "é", "/", "/nowhere", "\0", __file__]
    scalars = [np.int8(1), np.uint64(2**63), np.float32(1), np.bool_(1), np.array(1), np.array(1.0), np.array(True)]
    sequences = [
        *([], (), range(0), range(U), range(-1, 2), range(2**40), [0, 1], [0, -1], [I], [0, 2**70], [True], [0.5]),
        *([None], ["a"], [[0]], [0] * 1000, (0, 1), (1,), ([0], []), ([0, 1], [0]), ([0, 2], [1]), [np.int8(1)]),
    ]
    integers = [np.arange(n, dtype=dtype) for n in (0, 1, 2, U) for dtype in ("i1", "u2", ">i4", "i8", "u8")]
    odd_arrays = [
        *(np.array([]), np.array([0, 1], object), np.array(["a"]), np.zeros(2, "m8[s]"), np.zeros(2, [("a", "i4")])),
        *(np.full(U, -1), np.array([2**62]), np.array([2**63], "u8"), np.zeros((2, 2), int), np.zeros((2, 2, 2), int)),
        *(np.ma.masked_array([1]), np.broadcast_to(0, 10**4), *(layout(np.arange(U)) for layout in LAYOUTS.values())),
    ]
    outs = [
        *(np.zeros(0, "f4"), np.zeros(1, "f4"), np.zeros(U, "f4"), np.zeros(2 * U, "f4")[::2], np.zeros(U, ">f4")),
        *(read_only(np.zeros(U, "f4")), np.zeros(U), np.zeros((U, 1), "f4"), np.zeros((U, I), "f4")),
    ]
    cells = np.arange(U * I).reshape(U, I) % 3 == 0
    masks = [np.ones(I, bool), np.zeros(I, bool), np.ones(I - 1, bool), cells, cells[0]]
    sparse = [
        *(sp.csr_array(cells), sp.csr_matrix(cells[:1]), sp.csc_array(cells), sp.coo_array(cells)),
        *(SimpleNamespace(format="csr", shape=shape, indptr=[0], indices=9) for shape in ((U, I), None, (I,), (-1, I))),
    ]
    indptr, indices = np.arange(U + 1) * 2, np.arange(2 * U)
    rows = [
        *((indptr, indices), (indptr, indices - 1), (indptr[::-1], indices), (indptr, indices[:-1]), (indptr, None)),
        *((indptr[:2], indices[:2]), (indptr.astype(float), indices), (2**62 * indptr, indices), (indptr, indices + I)),
    ]
    scorers = [Scorer.from_tensors(random_tensors(shape)) for shape in SHAPES]
    vectors = [
        *(scorer.user_vectors(users) for scorer in scorers for users in (range(U), [0], [])),
        *(UserVectors(None, None), UserVectors(np.ones((U, 3)), np.ones((U, 2)) * 1e30), UserVectors([1.0], 3)),
        *(UserVectors(np.full((1, 17), x), None) for x in (np.nan, np.float16(1), 1)),
    ]
    liars = [
        *(hostile(name) for name in ("__array__", "__index__", "__len__", "__getattr__", "__iter__", "keys")),
        *(hostile("__array__", answer) for answer in (np.arange(2), np.ones(I, bool), np.zeros(U))),
        *(hostile("__index__", answer) for answer in (3, "3")),
        *(hostile("__len__", -1), hostile("__fspath__"), hostile("__fspath__", "/dev/null")),
    ]
    mappings = [{}, {"x": None}, {1: 2}, *(random_tensors(shape) for shape in SHAPES)]
    everything = (
        numbers + no_numbers + texts + scalars + sequences + integers + odd_arrays
        + outs + masks + sparse + rows + vectors + liars + mappings
    )  # fmt: skip
    filters = masks + sparse + rows + integers
    return {
        "any": everything,
        "users": numbers[:5] + sequences + integers + vectors,
        "items": sequences + integers,
        "k": numbers,
        "exclude": [*sparse, *rows, "seen"],
        "allow": filters,
        "deny": filters,
        "search": texts,
        "logits": [True, False],
        "out": outs,
        "threads": [1, 2, 3, None],
        "tensors": mappings,
        "kind": texts,
        "seen": rows,
        "isa": texts,
        "path": texts,
    }


def check(method: str, result: object) -> None:
    """Fail for a result that is wrong for any arguments."""
    if method == "score_batch":
        assert isinstance(result, np.ndarray)
        assert result.dtype == np.float32
        assert np.isfinite(result).all()
    elif method == "top_k":
        assert isinstance(result, TopK)
        assert result.ids.shape == result.scores.shape
        assert ((result.ids >= -1) & (result.ids < I)).all()
        assert ((result.ids == -1) == np.isneginf(result.scores)).all()
    elif method == "rank_of":
        assert isinstance(result, np.ndarray)
        assert ((result >= 0) & (result < I)).all()
    elif method == "user_vectors":
        assert isinstance(result, UserVectors)
    else:
        assert isinstance(result, Scorer)


def main() -> Counter[str]:
    scorers = [Scorer.from_tensors(random_tensors(shape), seen=(np.arange(U + 1), np.arange(U))) for shape in SHAPES]
    pool, methods, outcomes = values(), list(METHODS), Counter[str]()

    def call(chance: Iterator[int]) -> None:
        def value(parameter: str) -> object:
            choices = pool[parameter if next(chance) % 5 < 4 else "any"]
            return choices[(next(chance) << 8 | next(chance)) % len(choices)]

        scorer, method = scorers[next(chance) % len(scorers)], methods[next(chance) % len(methods)]
        positional, keywords = METHODS[method]
        arguments = [value(name) for name in positional]
        options = {name: value(name) for name in keywords if next(chance) % 10 > 6}
        try:
            check(method, getattr(scorer, method)(*arguments, **options))
            outcomes["result"] += 1
        except PROMISED as error:
            outcomes[type(error).__name__] += 1
        except BaseException as error:
            if not (method == "load" and isinstance(error, OSError)):
                note(f"{scorer!r}.{method}(*{arguments!r}, **{options!r})")
                raise
            outcomes["OSError"] += 1

    @settings(max_examples=CALLS // AT_A_TIME, derandomize=True, database=None, deadline=None)
    @given(st.binary(min_size=AT_A_TIME * BYTES, max_size=AT_A_TIME * BYTES))
    def run(chance: bytes) -> None:
        for first in range(0, len(chance), BYTES):
            call(iter(chance[first : first + BYTES]))

    run()
    return outcomes


@pytest.mark.skipif(sys.platform != "linux", reason="no other system limits the address space")
def test_no_crash_and_no_surprise(capsys: pytest.CaptureFixture[str]) -> None:
    program = [sys.executable, "-X", "faulthandler", __file__]
    done = subprocess.run(program, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    outcomes = json.loads(done.stdout)
    with capsys.disabled():
        print(f" {outcomes}", end="")
    assert sum(outcomes.values()) >= CALLS
    assert set(outcomes) == {error.__name__ for error in PROMISED} | {"result", "OSError"}
    assert outcomes["result"] > CALLS / 20


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))  # an absurd reservation fails at once
    print(json.dumps(main()))

"""Arguments: integers in any form are read correctly, everything else is rejected by name."""

import enum
from collections.abc import Callable

import numpy as np
import pytest

import neuralcf
from layouts import LAYOUTS, Offered
from neuralcf import ArgumentError, OutOfRangeError, Scorer

INTEGERS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
USERS, ITEMS = [3, 0, 8, 3], [100, 7, 0, 64]


class Number:
    """An object with `__index__`, like NumPy's integers."""

    def __index__(self) -> int:
        return 3


class Colour(enum.IntEnum):
    RED = 3


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_integer_array_is_read(small: Scorer, dtype: str, layout: str) -> None:
    users, items = (LAYOUTS[layout](np.array(values, dtype)) for values in (USERS, ITEMS))
    assert small.score_batch(users, items).tolist() == small.score_batch(USERS, ITEMS).tolist()
    assert small.top_k(users, 3).ids.tolist() == small.top_k(USERS, 3).ids.tolist()
    assert small.rank_of(users, items).tolist() == small.rank_of(USERS, ITEMS).tolist()
    rows = LAYOUTS[layout](np.array([0, 1, 2, 3, 4], dtype)), items
    filtered = small.top_k(users, 101, exclude=rows, allow=items)
    assert (np.sort(filtered.ids[:, :4]) == [sorted({-1, *ITEMS} - {item}) for item in ITEMS]).all()


@pytest.mark.parametrize(
    "users",
    [
        [3, 3],
        (3, 3),
        range(3, 5),
        np.array([3, 3]),
        np.broadcast_to(np.int64(3), 2),
        [np.int8(3), np.uint64(3)],
        [Number(), Colour.RED],
        np.array([3, 3]).view(np.recarray),
        Offered([3, 3]),
        Offered([3, 3], ">i2"),
    ],
    ids=repr,
)
def test_every_sequence_is_read(small: Scorer, users: object) -> None:
    expected = [3, 4] if isinstance(users, range) else [3, 3]
    assert small.top_k(users, 4).ids.tolist() == small.top_k(np.array(expected), 4).ids.tolist()


@pytest.mark.parametrize("user", [3, np.int16(3), np.uint64(3), np.array(3, ">u2"), Number(), Colour.RED], ids=repr)
def test_every_single_integer_is_a_single_user(small: Scorer, user: object) -> None:
    assert small.top_k(user, 4).ids.tolist() == small.top_k([3], 4).ids[0].tolist()
    assert small.top_k(3, user).ids.shape == (3,)
    assert small.score_batch(user, ITEMS).tolist() == small.score_batch([3] * 4, ITEMS).tolist()
    assert small.rank_of(user, ITEMS, threads=user).tolist() == small.rank_of([3] * 4, ITEMS).tolist()
    assert len(small.user_vectors(user).gmf) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_long_arrays_of_any_layout_are_read_completely(small: Scorer, threads: int) -> None:
    every = np.indices((9, 101)).reshape(2, -1)
    table = small.score_batch(*every).reshape(9, 101)
    users, items = np.random.default_rng(0).integers(0, [[9], [101]], (2, 700_001))
    expected = table[users, items]
    pairs = np.stack([users, items], axis=1)
    backwards = np.ascontiguousarray(items[::-1])[::-1]
    for layout in ((users, items), (users.astype("u1"), items.astype(">i2")), pairs.T, (users.astype("i4"), backwards)):
        np.testing.assert_array_equal(small.score_batch(*layout, threads=threads), expected)
    users[[150_000, 600_000]], items[699_999] = (-1, 9), 101
    with pytest.raises(OutOfRangeError, match=r"users\[150000\]: user index -1 is out of range for 9 users"):
        small.score_batch(users, items, threads=threads)
    with pytest.raises(OutOfRangeError, match=r"items\[699999\]: item index 101 is out of range for 101"):
        small.score_batch(0, items, threads=threads)


def test_torch_tensors_are_read(small: Scorer) -> None:
    torch = pytest.importorskip("torch")
    users, items = torch.tensor(USERS), torch.tensor(ITEMS, dtype=torch.int32)
    assert small.score_batch(users, items).tolist() == small.score_batch(USERS, ITEMS).tolist()
    assert small.top_k(torch.tensor(3), torch.tensor(2)).ids.tolist() == small.top_k(3, 2).ids.tolist()
    mask = torch.zeros(101, dtype=torch.bool)
    mask[5] = True
    assert small.top_k(users, 1, allow=mask).ids.tolist() == [[5]] * 4
    for rejected in (users.float(), users.bool(), torch.tensor(1.0), torch.tensor(True)):
        with pytest.raises(TypeError, match="users: expected an integer"):
            small.top_k(rejected)


INTEGER = "expected an integer"
DTYPE = "expected an integer dtype, got"


@pytest.mark.parametrize(
    ("users", "error", "message"),
    [
        (-1, OutOfRangeError, r"users\[0\]: user index -1 is out of range for 9 users"),
        (9, OutOfRangeError, r"users\[0\]: user index 9 is out of range for 9 users"),
        ([0, -1], OutOfRangeError, r"users\[1\]: user index -1 is out of range for 9 users"),
        (np.array([0, 0, 9]), OutOfRangeError, r"users\[2\]: user index 9 is out of range for 9 users"),
        (np.array([-128], "i1"), OutOfRangeError, r"users\[0\]: user index -128 is"),
        (np.array([2**63], "u8"), OutOfRangeError, r"users\[0\]: user index 9223372036854775808 is"),
        ([2**32], OutOfRangeError, r"users\[0\]: user index 4294967296 is"),
        ([2**63], OutOfRangeError, r"users\[0\]: user index 9223372036854775808 is"),
        ([10**30], OutOfRangeError, rf"users\[0\]: user index {10**30} is"),
        ([-(10**60)], OutOfRangeError, rf"users\[0\]: -{10**60} is out of range"),
        (True, TypeError, f"users: {INTEGER}, got bool"),
        (1.0, TypeError, f"users: {INTEGER}, got float"),
        (None, TypeError, f"users: {INTEGER}.*, got NoneType"),
        (np.bool_(1), TypeError, f"users: {INTEGER}, got bool"),
        (np.float32(1), TypeError, f"users: {INTEGER}, got float32"),
        (np.array(1.0), TypeError, f"users: {INTEGER}, got float"),
        (np.array(True), TypeError, f"users: {INTEGER}, got bool"),
        ([0, True], TypeError, rf"users\[1\]: {INTEGER}, got bool"),
        ([0, 1.0], TypeError, rf"users\[1\]: {INTEGER}, got float"),
        ([0, None], TypeError, rf"users\[1\]: {INTEGER}, got NoneType"),
        (["1"], TypeError, rf"users\[0\]: {INTEGER}, got str"),
        ([[0]], TypeError, rf"users\[0\]: {INTEGER}, got list"),
        ("1", TypeError, "users: expected an array or a list of integers, got str"),
        (b"1", TypeError, "users: expected an array or a list of integers, got bytes"),
        ({1}, TypeError, "users: expected an array or a list of integers, got set"),
        (iter([1]), TypeError, f"users: {INTEGER}"),
        (int, TypeError, f"users: {INTEGER}"),
        (np.array([1.0]), TypeError, f"users: {DTYPE} float64"),
        (np.array([]), TypeError, f"users: {DTYPE} float64"),
        (np.array([True]), TypeError, f"users: {DTYPE} bool"),
        (np.array([1], object), TypeError, f"users: {DTYPE} object"),
        (np.array([1], "m8[s]"), TypeError, f"users: {DTYPE} timedelta64"),
        (np.array([(1,)], [("a", "i8")]), TypeError, f"users: {DTYPE} "),
        (np.array(["1"]), TypeError, f"users: {DTYPE} <U1"),
        (Offered([1.5]), TypeError, f"users: {DTYPE} float64"),
        (np.zeros((2, 2), int), ArgumentError, r"users: expected one dimension, got shape \[2, 2\]"),
    ],
    ids=repr,
)
def test_everything_else_is_rejected_by_name(
    small: Scorer, users: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        small.top_k(users)
    with pytest.raises(error, match=message):
        small.user_vectors(users)
    with pytest.raises(error, match=message):
        small.score_batch(users, [0])
    if np.ndim(users) or isinstance(users, Offered):
        items = message.replace("users", "items").replace("user index", "item index").replace("for 9", "for 101")
        if "user index 9 " not in message:
            with pytest.raises(error, match=items):
                small.rank_of(0, users)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s.score_batch([0, 1], [0]), ArgumentError, "users and items: expected equal lengths, got 2 and 1"),
        (lambda s: s.rank_of([0], [0, 1]), ArgumentError, "users and items: expected equal lengths, got 1 and 2"),
        (lambda s: s.score_batch(0, 0), TypeError, "items: expected an array or a list of integers, got int"),
        (
            lambda s: s.score_batch(0, [101]),
            OutOfRangeError,
            r"items\[0\]: item index 101 is out of range for 101",
        ),
        (lambda s: s.rank_of(0, [3, -1]), OutOfRangeError, r"items\[1\]: item index -1 is out of range for 101"),
        (lambda s: s.top_k(0, 0), ArgumentError, "k: expected an integer of at least 1, got 0"),
        (lambda s: s.top_k(0, -5), ArgumentError, "k: expected an integer of at least 1, got -5"),
        (lambda s: s.top_k(0, True), TypeError, "k: expected an integer, got bool"),
        (lambda s: s.top_k(0, 2.0), TypeError, "k: expected an integer, got float"),
        (lambda s: s.top_k(0, None), TypeError, "k: expected an integer, got NoneType"),
        (lambda s: s.top_k(0, "2"), TypeError, "k: expected an integer, got str"),
        (lambda s: s.top_k(0, [2]), TypeError, "k: expected an integer, got list"),
        (lambda s: s.top_k(0, 10**30), ArgumentError, f"k: expected .*, got {10**30}"),
        (lambda s: s.top_k(0, threads=0), ArgumentError, "threads: expected an integer of at least 1, got 0"),
        (lambda s: s.top_k(0, threads=1025), ArgumentError, "threads: expected 1 to 1024, got 1025"),
        (lambda s: s.top_k(0, threads=True), TypeError, "threads: expected an integer, got bool"),
        (lambda s: s.score_batch(0, [0], threads=1.0), TypeError, "threads: expected an integer, got float"),
        (lambda s: s.rank_of(0, [0], threads="2"), TypeError, "threads: expected an integer, got str"),
        (lambda s: s.top_k(0, logits=1), TypeError, "int.*bool"),
        (lambda s: s.top_k(0, search=1), TypeError, "int.*str"),
        (lambda s: s.top_k(0, 1, None), TypeError, "positional"),
        (lambda s: s.score_batch(0, [0], True), TypeError, "positional"),
        (lambda s: s.score_batch(0), TypeError, "items"),
        (lambda s: s.top_k(0, kk=1), TypeError, "kk"),
    ],
)
def test_invalid_calls_are_rejected(
    small: Scorer, call: Callable[[Scorer], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(small)


def test_base_classes_of_errors() -> None:
    bases = {
        "ModelFormatError": ValueError,
        "ArgumentError": ValueError,
        "OutOfRangeError": IndexError,
        "InternalError": RuntimeError,
    }
    for name, base in bases.items():
        error = getattr(neuralcf, name)
        assert issubclass(error, neuralcf.NeuralCFError)
        assert issubclass(error, base)
        assert issubclass(error, Exception)
        assert error.__module__ == "neuralcf.errors"

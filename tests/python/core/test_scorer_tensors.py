"""Models and user vectors from arrays in memory: every layout is read, every error is named."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pytest
import scipy.sparse as sp

from layouts import LAYOUTS, Offered
from neuralcf import ArgumentError, ModelFormatError, OutOfRangeError, Scorer, UserVectors
from reference import Shape, random_tensors

GMF, MLP = np.ones((2, 5), np.float32), np.ones((2, 3), np.float32)


def poked(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy()
    array[1, 2] = value
    return array


@pytest.mark.parametrize(
    ("vectors", "error", "message"),
    [
        (UserVectors(None, MLP), ArgumentError, r"users.gmf: expected \[2, 5\] values, got None"),
        (UserVectors(GMF, None), ArgumentError, r"users.mlp: expected \[2, 3\] values, got None"),
        (UserVectors(None, None), ArgumentError, "users: expected vectors, got None for both gmf and mlp"),
        (UserVectors(GMF, MLP[:1]), ArgumentError, "users: expected gmf and mlp with equal rows, got 2 and 1"),
        (UserVectors(GMF[:, :4], MLP), ArgumentError, r"users.gmf: expected \[2, 5\] values, got 8"),
        (UserVectors(GMF, np.ones((2, 4), "f4")), ArgumentError, r"users.mlp: expected \[2, 3\] values, got 8"),
        (UserVectors(GMF[0], MLP), ArgumentError, r"users.gmf: expected two dimensions, got shape \[5\]"),
        (UserVectors(poked(GMF, np.nan), MLP), ArgumentError, r"users.gmf: .*finite.*NaN at \[1, 2\]"),
        (UserVectors(GMF, poked(MLP, -np.inf)), ArgumentError, r"users.mlp: .*finite.*-inf at \[1, 2\]"),
        (UserVectors(GMF.astype("f8") * 1e39, MLP), ArgumentError, r"users.gmf: .*finite.*inf at \[0, 0\]"),
        (UserVectors(poked(GMF, 3e38), MLP), ArgumentError, "output.weight.*float32 could overflow"),
        (UserVectors(GMF, poked(MLP, 3e38)), ArgumentError, "mlp.layers.0.weight.*float32 could overflow"),
        (
            UserVectors(GMF.astype(int), MLP),
            TypeError,
            "users.gmf: expected dtype float32.*, got int64",
        ),
        (UserVectors(GMF.tolist(), MLP), TypeError, "users.gmf: expected an array of float32.*got list"),
    ],
)
def test_wrong_user_vectors_are_rejected(
    small: Scorer, vectors: UserVectors, error: type[Exception], message: str
) -> None:
    for call in (
        small.top_k,
        lambda users: small.score_batch(users, [0, 1]),
        lambda users: small.rank_of(users, [0, 1]),
    ):
        with pytest.raises(error, match=message):
            call(vectors)
    with pytest.raises(TypeError, match="users: expected user indices, got UserVectors"):
        small.user_vectors(UserVectors(GMF, MLP))


SHAPE = Shape(3, 4, g=2, mlp=(2, 3), layers=(5,))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors_of_every_layout_are_read(layout: str, dtype: type) -> None:
    plain = {name: tensor.astype(dtype) for name, tensor in random_tensors(SHAPE).items()}
    expected = Scorer.from_tensors({name: tensor.astype(np.float32) for name, tensor in plain.items()})
    tensors: Mapping[str, np.ndarray] = {name: LAYOUTS[layout](tensor) for name, tensor in plain.items()}
    for given in (tensors, MappingProxyType(tensors), {name: Offered(tensor) for name, tensor in tensors.items()}):
        scorer = Scorer.from_tensors(given)
        assert scorer.kind == "neumf"
        assert scorer.score_batch([0, 1, 2], [3, 0, 1]).tolist() == expected.score_batch([0, 1, 2], [3, 0, 1]).tolist()


def test_torch_state_dicts_are_read() -> None:
    torch = pytest.importorskip("torch")
    tensors = random_tensors(SHAPE)
    scorer = Scorer.from_tensors({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
    assert scorer.score_batch([0], [3]).tolist() == Scorer.from_tensors(tensors).score_batch([0], [3]).tolist()


def changed(**tensors: object) -> dict[str, object]:
    """Return valid tensors with changes (`__` stands for `.`); None removes a tensor."""
    all_of_them = random_tensors(SHAPE) | {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in all_of_them.items() if tensor is not None}


@pytest.mark.parametrize(
    ("tensors", "options", "error", "message"),
    [
        (changed(output__bias=None), {}, ModelFormatError, "output.bias"),
        (changed(other=np.ones(1, "f4")), {}, ModelFormatError, '"other": not a tensor of the model format'),
        (changed(), {"kind": "gmf"}, ModelFormatError, "mlp"),
        (changed(), {"kind": "svd"}, ArgumentError, 'kind: expected "gmf", "mlp" or "neumf", got "svd"'),
        ({}, {}, ModelFormatError, "no tensors of a GMF or MLP block"),
        (changed(output__bias=np.ones(2, "f4")), {}, ModelFormatError, "output.bias"),
        (changed(output__weight=np.ones((1, 6), "f4")), {}, ModelFormatError, "output.weight"),
        (changed(output__weight=np.ones((1, 1, 7), "f4")), {}, ModelFormatError, r"output.weight: .*\[1, 1, 7\]"),
        (changed(output__bias=np.float32(1)), {}, TypeError, "output.bias: expected an array"),
        (changed(output__bias=np.ones(1)), {}, TypeError, "output.bias: expected dtype float32 or .*float64"),
        (changed(output__bias=np.ones(1, int)), {}, TypeError, "output.bias: expected dtype float32 or .*int64"),
        (changed(output__bias=[1.0]), {}, TypeError, "output.bias: expected an array of float32 or float16, got list"),
        (changed(output__bias=np.array([np.nan], "f4")), {}, ModelFormatError, r"output.bias: element \[0\] is NaN"),
        (changed(gmf__user_embedding__weight=poked(np.ones((3, 3), "f4"), np.inf)[:, 1:]), {}, ModelFormatError,
         r"gmf.user_embedding.weight: element \[1, 1\] is inf"),
        (changed(output__weight=np.full((1, 7), 2e38, "f4")), {}, ModelFormatError, "output.weight.*could overflow"),
        (changed() | {3: np.ones(1, "f4")}, {}, TypeError, "tensors: expected names as keys, got 3"),
        ([], {}, TypeError, "list.*Mapping"),
        (changed(), {"seen": ([0], [])}, ArgumentError, "seen: expected one row for each of 3 users, got 0"),
        (changed(), {"seen": sp.csr_array((3, 5))}, ArgumentError, "seen: .* each of 4 items, got 5"),
        (changed(), {"seen": ([0, 1, 1, 1], [4])}, OutOfRangeError, "seen.*4.*4 items"),
        (changed(), {"seen": [1]}, TypeError, r"seen: expected scipy CSR or \(indptr, indices\)"),
        (changed(), {"isa": "sse9"}, ArgumentError, 'isa: expected one of portable, avx2, avx512, neon; got "sse9"'),
        (changed(), {"isa": 2}, TypeError, "int.*str"),
        (changed(), {"threads": 0}, ArgumentError, "threads: expected an integer of at least 1, got 0"),
    ],
)  # fmt: skip
def test_wrong_tensors_are_rejected(tensors: dict, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Scorer.from_tensors(tensors, **options)

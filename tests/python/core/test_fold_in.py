"""`fold_in`: vectors of new users from their histories, against the formula in float64, and its errors."""

from pathlib import Path

import numpy as np
import pytest

import neuralcf
from conftest import after
from neuralcf import ArgumentError, ModelFormatError, OutOfRangeError, Scorer, UserVectors
from reference import Shape, fold_in, random_history, random_tensors

sp = pytest.importorskip("scipy.sparse")

SHAPES = [Shape(5, 90, g=18), Shape(5, 90, mlp=(7, 3), layers=(4,)), Shape(5, 90, g=6, mlp=(9, 3), layers=(8, 4))]
LENGTHS = [0, 1, 2, 20, 21, 22, 40, 90, 3, 5]
"""Of histories, also longer than the regression is wide, 21."""


def width_of(shape: Shape) -> int:
    return shape.g + shape.mlp[0]


def scorer_of(shape: Shape, isa: str | None = None) -> Scorer:
    return Scorer.from_tensors(random_tensors(shape), history=random_history(90, width_of(shape)), isa=isa)


def joined(vectors: UserVectors) -> np.ndarray:
    return np.concatenate([part for part in vectors if part is not None], axis=1)


@pytest.fixture(scope="module")
def histories() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.sort(rng.choice(90, n, replace=False)) for n in LENGTHS]


def rows_of(histories: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.cumsum([0, *map(len, histories)]), np.concatenate([*histories, np.zeros(0, np.int64)])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_vectors_are_those_of_the_formula(shape: Shape, histories: list[np.ndarray]) -> None:
    scorer = scorer_of(shape)
    vectors = scorer.fold_in(rows_of(histories))
    assert [None if part is None else part.shape[1] for part in vectors] == [shape.g or None, shape.mlp[0] or None]
    expected = np.stack([fold_in(random_history(90, width_of(shape)), history) for history in histories])
    np.testing.assert_allclose(joined(vectors), expected, rtol=1e-6, atol=1e-6)
    assert scorer.top_k(vectors, 3).ids.shape == (len(histories), 3)
    assert scorer.score_batch(vectors, range(len(histories))).shape == (len(histories),)


def test_a_history_has_the_same_bits_in_any_batch_and_on_any_number_of_threads(histories: list[np.ndarray]) -> None:
    rng = np.random.default_rng(1)
    many = [histories[n] for n in rng.integers(0, len(histories), 400)]
    tensors = random_tensors(SHAPES[0])
    history = random_history(90, 18, d=80)  # much work, so that threads take part
    expected = Scorer.from_tensors(tensors, history=history).fold_in(rows_of(many), threads=1).gmf
    for isa in neuralcf._core.machine()["supported"]:
        scorer = Scorer.from_tensors(tensors, history=history, isa=isa)
        for threads in (1, 2, 7):
            assert scorer.fold_in(rows_of(many), threads=threads).gmf.tobytes() == expected.tobytes()
        alone = np.concatenate([scorer.fold_in(rows_of([one])).gmf for one in many[:30]])
        assert alone.tobytes() == expected[:30].tobytes()


def test_order_repetitions_and_stored_zeros_do_not_matter(histories: list[np.ndarray]) -> None:
    scorer = scorer_of(SHAPES[0])
    expected = scorer.fold_in(rows_of(histories)).gmf.tobytes()
    rng = np.random.default_rng(2)
    untidy = [rng.permutation(np.concatenate([history, history[:3]])) for history in histories]
    indptr, indices = rows_of(untidy)
    assert scorer.fold_in((indptr, indices)).gmf.tobytes() == expected
    assert scorer.fold_in((indptr.astype(np.uint16), indices.astype(">i2"))).gmf.tobytes() == expected
    matrix = sp.csr_matrix((np.zeros(indices.size), indices, indptr), shape=(len(histories), 90))
    assert scorer.fold_in(matrix).gmf.tobytes() == expected
    assert scorer.fold_in(([0], [])).gmf.shape == (0, 18)


def test_bad_histories_are_refused() -> None:
    scorer = scorer_of(SHAPES[0])
    for wrong in (90, -1):
        message = rf"histories.indices\[1\]: item index {wrong} is out of range for 90 items"
        with pytest.raises(OutOfRangeError, match=message):
            scorer.fold_in(([0, 2], [3, wrong]))
    with pytest.raises(ArgumentError, match=r"histories: indptr must run from 0 to the number of indices, 2"):
        scorer.fold_in(([0, 1], [3, 4]))
    with pytest.raises(ArgumentError, match=r"histories: expected one column for each of 90 items, got 91"):
        scorer.fold_in(sp.csr_matrix((1, 91)))
    for wrong_type in ([3, 4], sp.csc_matrix((1, 90)), ([0.0, 1.0], [3]), None):
        with pytest.raises(TypeError, match="histories"):
            scorer.fold_in(wrong_type)
    huge = random_history(90, 18)
    huge["linear.0.items"] = np.full((90, 18), 3e38, np.float32)
    overflowing = Scorer.from_tensors(random_tensors(SHAPES[0]), history=huge)
    with pytest.raises(ArgumentError, match="histories: row 1: its vectors overflow float32"):
        overflowing.fold_in(([0, 1, 3], [0, 1, 2]))


def test_a_nearly_singular_regression_is_solved() -> None:
    """Equal items, almost without regularisation: the matrix is far from its rank; x is 1 / d in each dimension."""
    history = random_history(90, 18)
    history["ridge.0.items"][:] = 1
    history["ridge.0.diagonal"][:] = 0
    history["ridge.0.l2"] = np.float32([1e-6, 0])
    for linear in ("linear.0.items", "linear.1.items"):
        history[linear][:] = 0
    scorer = Scorer.from_tensors(random_tensors(SHAPES[0]), history=history)
    expected = history["bias"] + history["ridge.0.output"].mean(axis=0)
    for n in (1, 5, 21, 22, 90):
        np.testing.assert_allclose(scorer.fold_in(([0, n], range(n))).gmf[0], expected, atol=1e-5)


def test_a_saved_model_folds_in_alike(tmp_path: Path, histories: list[np.ndarray]) -> None:
    tensors, history = random_tensors(SHAPES[2]), random_history(90, 15)
    neuralcf.save(tensors, tmp_path / "model", kind="neumf", history=history)
    expected = joined(Scorer.from_tensors(tensors, history=history).fold_in(rows_of(histories)))
    assert joined(Scorer.load(tmp_path / "model").fold_in(rows_of(histories))).tobytes() == expected.tobytes()
    with pytest.raises(ModelFormatError, match=r"history: bias: shape \[18\], expected \[15\]"):
        neuralcf.save(tensors, tmp_path / "other", kind="neumf", history=random_history(90, 18))
    with pytest.raises(ArgumentError, match=r"a single .safetensors file cannot hold history"):
        neuralcf.save(tensors, tmp_path / "one.safetensors", kind="neumf", history=history)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_stops_it(threads: int) -> None:
    history = random_history(2000, 18, d=300)
    scorer = Scorer.from_tensors(random_tensors(Shape(5, 2000, g=18)), history=history, isa="portable")
    histories = np.arange(301) * 2000, np.tile(np.arange(2000), 300)  # some ten seconds

    class StoppedError(Exception):
        pass

    def handler() -> None:
        raise StoppedError

    with after(0.2, handler), pytest.raises(StoppedError):
        scorer.fold_in(histories, threads=threads)

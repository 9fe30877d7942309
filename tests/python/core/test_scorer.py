"""Scores, top-k lists and ranks: their values, their order, and the same bits for every kind of call."""

import platform
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import neuralcf
from conftest import ISAS
from neuralcf import Scorer, TopK, UserVectors
from neuralcf._core import machine
from reference import (
    Shape,
    Tensors,
    best,
    logit_to_the_bit,
    logits64,
    random_tensors,
    ranks,
    round32,
    ruler,
    sigmoid64,
)

SHAPES = [
    Shape(1, 1, mlp=(1, 1), layers=(1,)),
    Shape(1, 1, g=1),
    Shape(3, 17, mlp=(1, 2), layers=(1, 1)),
    Shape(1, 50, g=3, mlp=(2, 5), layers=(9,)),
    Shape(5, 100, g=8, mlp=(32, 32), layers=(32, 16, 8)),
    Shape(7, 333, g=17, mlp=(33, 20), layers=(50, 27, 13, 5)),
    Shape(4, 130, g=40),
    Shape(2, 64, mlp=(16, 16), layers=(200,)),
    Shape(2, 2100, g=3, mlp=(7, 9), layers=(19, 23)),
]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def bits(values: np.ndarray) -> list[int]:
    assert values.dtype == np.float32
    return values.view(np.uint32).tolist()


def all_pairs(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(np.arange(shape.users), shape.items), np.tile(np.arange(shape.items), shape.users)


@shapes
def test_scores_equal_the_textbook_formula(shape: Shape) -> None:
    tensors = random_tensors(shape)
    scorer = Scorer.from_tensors(tensors)
    users, items = all_pairs(shape)
    exact = logits64(tensors, users, items)
    logits = scorer.score_batch(users, items, logits=True)
    assert logits.dtype == np.float32
    assert logits.shape == users.shape
    assert (np.abs(logits - exact) <= 1e-5 * np.maximum(1, np.abs(exact))).all()
    assert np.abs(scorer.score_batch(users, items) - sigmoid64(logits)).max() <= 1e-6


@pytest.mark.parametrize(
    "shape",
    [Shape(2, 3, mlp=(2, 3), layers=(4, 3)), Shape(2, 3, g=5), Shape(2, 3, g=2, mlp=(3, 1), layers=(5, 4, 3))],
    ids=str,
)
def test_logits_have_the_specified_bits(shape: Shape, isa: str) -> None:
    tensors = random_tensors(shape)
    users, items = all_pairs(shape)
    expected = np.array([logit_to_the_bit(tensors, u, i) for u, i in zip(users, items, strict=True)])
    assert bits(Scorer.from_tensors(tensors, isa=isa).score_batch(users, items, logits=True)) == bits(expected)


def test_a_subnormal_step_keeps_its_bits(isa: str) -> None:
    tensors = ruler([3e-39])
    tensors["output.weight"][:] = 0.3
    tensors["output.bias"][:] = -1e-44
    expected = logit_to_the_bit(tensors, 0, 0)
    assert 0 < expected < np.finfo(np.float32).tiny
    assert bits(Scorer.from_tensors(tensors, isa=isa).score_batch(0, [0], logits=True)) == bits(expected.reshape(1))


def test_the_reference_rounds_as_ieee_754_does() -> None:
    random = np.random.default_rng(0)
    doubles = np.ldexp(random.standard_normal(3000), random.integers(-155, 120, 3000))
    halfway = np.ldexp(random.integers(2**24, 2**25, 3000) * 2 + 1.0, -20)  # 26 bits: ties and near ties
    for x in np.concatenate([doubles, halfway, [0.0, 2**-149, 2**-150, 1.5 * 2**-149]]):
        assert float(round32(Fraction(float(x)))) == np.float32(x)


def test_every_instruction_set_of_this_cpu_is_tested(capsys: pytest.CaptureFixture[str]) -> None:
    expected = {"portable"}
    if platform.machine() in ("arm64", "aarch64"):
        expected.add("neon")
    elif platform.system() == "Linux":
        flags = set(Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split())
        expected |= {"avx2"} if {"avx2", "fma", "f16c"} <= flags else set()
        expected |= {"avx512"} if {"avx512f", "avx2", "fma"} <= flags else set()
    else:
        pytest.skip("no list of the CPU's features to compare with on this system")
    with capsys.disabled():
        print(f" [{', '.join(ISAS)}]", end="")
    assert set(ISAS) == expected
    assert machine()["isa"] == ISAS[0]


@shapes
def test_same_bits_for_any_instruction_set_batch_position_and_number_of_threads(
    shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = random_tensors(shape, seed=1)
    users, items = all_pairs(shape)
    order = np.random.default_rng(0).permutation(len(users))
    reference = Scorer.from_tensors(tensors, isa="portable")
    logits = reference.score_batch(users, items, logits=True)
    probabilities = reference.score_batch(users, items)
    forced = [Scorer.from_tensors(tensors, isa=isa) for isa in ISAS]
    for isa in ISAS:
        monkeypatch.setenv("NEURALCF_ISA", isa)
        forced.append(Scorer.from_tensors(tensors))
    assert [scorer.isa for scorer in forced] == [*ISAS, *ISAS]
    for scorer in forced:
        for threads in (1, 2):
            assert bits(scorer.score_batch(users, items, logits=True, threads=threads)) == bits(logits)
            assert bits(scorer.score_batch(users, items, threads=threads)) == bits(probabilities)
        assert bits(scorer.score_batch(users[order], items[order])) == bits(probabilities[order])
        for first in (0, 1, 5, 15, len(users) - 1):
            for length in (0, 1, 2, 15, 16, 17, 33):
                part = slice(first, first + length)
                assert bits(scorer.score_batch(users[part], items[part], logits=True)) == bits(logits[part])
        top = scorer.top_k(np.arange(shape.users), shape.items)
        rows = np.arange(shape.users)[:, None]
        assert bits(top.scores) == bits(probabilities.reshape(shape.users, -1)[rows, top.ids])


@shapes
def test_top_k_and_rank_of_equal_scoring_all_items_and_sorting(shape: Shape, isa: str) -> None:
    tensors = random_tensors(shape, seed=2)
    for name in tensors:
        if "item" in name:
            tensors[name][shape.items // 2 :] = tensors[name][: shape.items - shape.items // 2].copy()  # ties
    scorer = Scorer.from_tensors(tensors, isa=isa)
    users = np.random.default_rng(0).integers(shape.users, size=70)  # more than one block of users
    logits = scorer.score_batch(*all_pairs(shape), logits=True).reshape(shape.users, shape.items)[users]
    kept = np.ones(logits.shape, bool)
    for k in (1, 10, shape.items + 3):
        ids, scores = best(logits, kept, k)
        for threads in (1, 2):
            top = scorer.top_k(users, k, logits=True, threads=threads)
            assert top.ids.tolist() == ids.tolist()
            assert bits(top.scores) == bits(scores)
    items = np.random.default_rng(1).integers(shape.items, size=70)
    for threads in (1, 2):
        found = scorer.rank_of(users, items, threads=threads)
        assert found.dtype == np.int64
        assert found.tolist() == ranks(logits, kept, items).tolist()


def test_same_bits_with_two_threads(large_tensors: Tensors, isa: str) -> None:
    scorer = Scorer.from_tensors(large_tensors, isa=isa)
    items = np.arange(scorer.num_items)
    alone = scorer.score_batch(3, items, logits=True, threads=1)
    assert bits(scorer.score_batch(3, items, logits=True, threads=2)) == bits(alone)
    ids, scores = best(alone[None], np.ones((1, len(items)), bool), 1000)
    for users in (3, [3] * 3):
        for threads in (1, 2, 3):
            top = scorer.top_k(users, 1000, logits=True, threads=threads)
            assert (top.ids == ids).all()
            assert bits(top.scores.reshape(-1, 1000)[-1]) == bits(scores[0])
    assert scorer.rank_of(3, ids[0][[0, 10, 999]], threads=2).tolist() == [0, 10, 999]


def test_order_is_by_logit_even_if_probabilities_saturate(scorer_of, isa: str) -> None:
    scorer = scorer_of([20, 40, 30, 40, -200, -150, 0], isa=isa)
    top = scorer.top_k(0, 7)
    assert top.ids.tolist() == [1, 3, 2, 0, 6, 5, 4]
    assert top.scores.tolist()[:3] == [1, 1, 1]
    assert top.scores.tolist()[4:] == [0.5, 0, 0]
    assert scorer.top_k(0, 7, logits=True).scores.tolist() == [40, 40, 30, 20, 0, -150, -200]
    assert scorer.rank_of(0, range(7)).tolist() == [3, 1, 2, 1, 6, 5, 4]


def test_minus_zero_is_zero(scorer_of, isa: str) -> None:
    scorer = scorer_of([-0.0, 0.0, -0.0], isa=isa)
    assert bits(scorer.score_batch(0, [0, 1, 2], logits=True)) == [0, 0, 0]
    assert scorer.top_k(0, 3).ids.tolist() == [0, 1, 2]


def test_probabilities_are_monotone_and_accurate_to_1e_6(scorer_of) -> None:
    logits = np.unique(np.concatenate([np.linspace(-120, 120, 20_001), np.logspace(-40, 37, 500)]).astype(np.float32))
    probabilities = scorer_of(logits).score_batch(0, np.arange(len(logits)))
    assert (np.diff(probabilities) >= 0).all()
    assert np.abs(probabilities - sigmoid64(logits)).max() <= 1e-6


def test_one_user_gives_one_dimension_and_many_give_two(small: Scorer) -> None:
    one, many = small.top_k(4), small.top_k([4])
    assert isinstance(one, TopK)
    assert neuralcf.TopK is TopK
    assert one.ids.shape == one.scores.shape == (10,)
    assert many.ids.shape == many.scores.shape == (1, 10)
    assert (one.ids.dtype, one.scores.dtype) == (np.int64, np.float32)
    ids, scores = one
    assert ids.tolist() == many.ids[0].tolist()
    assert bits(scores) == bits(many.scores[0])
    assert bits(small.score_batch(4, ids)) == bits(scores)
    assert small.rank_of(4, ids).tolist() == list(range(10))
    for empty in (small.top_k([], 3), small.top_k(np.empty(0, np.int8), 3)):
        assert empty.ids.shape == empty.scores.shape == (0, 3)
    assert small.score_batch([], []).shape == small.score_batch(0, []).shape == small.rank_of([], []).shape == (0,)


@shapes
def test_user_vectors_replace_user_indices(shape: Shape) -> None:
    tensors = random_tensors(shape)
    scorer = Scorer.from_tensors(tensors)
    users = np.arange(shape.users)[::-1]
    vectors = scorer.user_vectors(users)
    assert isinstance(vectors, UserVectors)
    for part, name in ((vectors.gmf, "gmf.user_embedding.weight"), (vectors.mlp, "mlp.user_embedding.weight")):
        assert (part is None) == (name not in tensors)
        assert part is None or (part.dtype == np.float32 and (part == tensors[name][users]).all())
    items = users % shape.items
    assert bits(scorer.score_batch(vectors, items)) == bits(scorer.score_batch(users, items))
    assert scorer.rank_of(vectors, items).tolist() == scorer.rank_of(users, items).tolist()
    given, stored = scorer.top_k(vectors, 5), scorer.top_k(users, 5)
    assert given.ids.tolist() == stored.ids.tolist()
    assert bits(given.scores) == bits(stored.scores)
    alone = scorer.user_vectors(0)
    assert all(part is None or len(part) == 1 for part in alone)


def test_new_users_are_scored_by_their_vectors() -> None:
    shape = Shape(2, 40, g=3, mlp=(4, 5), layers=(6,))
    tensors = random_tensors(shape)
    scorer = Scorer.from_tensors(tensors)
    gmf, mlp = np.full((1, 3), 0.5), np.linspace(-1, 1, 4)[None]
    tensors["gmf.user_embedding.weight"], tensors["mlp.user_embedding.weight"] = gmf, mlp
    exact = logits64(tensors, np.zeros(40, int), np.arange(40))
    for dtype in (np.float64, np.float32, np.float16):
        vectors = UserVectors(gmf.astype(dtype), mlp.astype(dtype))
        top = scorer.top_k(vectors, 40, logits=True)
        assert top.ids.shape == (1, 40)
        assert np.abs(top.scores[0] - exact[top.ids[0]]).max() < (1e-5 if dtype is not np.float16 else 1e-2)

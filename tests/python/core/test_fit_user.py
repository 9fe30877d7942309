"""`fold_in` of models without history.safetensors: vectors fitted to histories, against the formula in float64."""

import numpy as np
import pytest

from conftest import after
from neuralcf import ArgumentError, Scorer, UserVectors
from neuralcf._core import machine
from reference import Shape, Tensors, random_tensors, sigmoid64

SHAPES = [
    Shape(50, 400, g=5),
    Shape(7, 90, mlp=(7, 3), layers=(4,)),
    Shape(300, 300, g=6, mlp=(9, 3), layers=(8, 4)),
    Shape(5000, 90, g=3, mlp=(4, 4), layers=(20, 9, 5)),
]


def joined(vectors: UserVectors) -> np.ndarray:
    return np.concatenate([part for part in vectors if part is not None], axis=1)


class Reference:
    """The formulas of rust/queries/fit_user.rs and rust/engine/user_prior.rs, in NumPy."""

    def __init__(self, tensors: Tensors) -> None:
        self.t = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
        tables = [self.t[name] for name in self.t if "user_embedding" in name]
        users, self.items = len(tables[0]), len(next(self.t[name] for name in self.t if "item_embedding" in name))
        self.g = len(self.t.get("gmf.user_embedding.weight", np.zeros((0, 0))).T)
        sample = np.concatenate(tables, axis=1)[np.arange(min(users, 4096)) * users // min(users, 4096)]
        self.mean = sample.mean(axis=0)
        covariance = np.atleast_2d(np.cov(sample.T, bias=True))
        width = len(self.mean)
        covariance += np.eye(width) * np.trace(covariance) / width * width / len(sample)
        self.root = np.linalg.cholesky(covariance)
        self.negatives = np.arange(min(self.items, 256)) * self.items // min(self.items, 256)

    def logits(self, x: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits `[n]` and their gradients by the user's vectors `[n, W]`."""
        output, logits = self.t["output.weight"][0], np.full(len(items), self.t["output.bias"][0])
        gradients = []
        if self.g:
            q = self.t["gmf.item_embedding.weight"][items] * output[: self.g]
            logits = logits + q @ x[: self.g]
            gradients.append(q)
        if "mlp.layers.0.weight" in self.t:
            q = self.t["mlp.item_embedding.weight"][items]
            h, d = np.hstack([np.tile(x[self.g :], (len(items), 1)), q]), None
            d = np.tile(np.eye(h.shape[1])[:, : len(x) - self.g], (len(items), 1, 1))
            for n in range(sum(".layers." in name for name in self.t) // 2):
                w = self.t[f"mlp.layers.{n}.weight"]
                h = h @ w.T + self.t[f"mlp.layers.{n}.bias"]
                d = np.einsum("oi,nix->nox", w, d) * (h > 0)[:, :, None]
                h = np.maximum(h, 0)
            logits = logits + h @ output[self.g :]
            gradients.append(np.einsum("o,nox->nx", output[self.g :], d))
        return logits, np.concatenate(gradients, axis=1)

    def fit(self, history: np.ndarray, weights: np.ndarray) -> np.ndarray:
        z = best = np.zeros(len(self.mean))
        if not len(history):
            return self.mean
        others = np.setdiff1d(self.negatives, history)
        items, labels = np.concatenate([history, others]), np.arange(len(history) + len(others)) < len(history)
        weight = np.concatenate([weights, np.full(len(others), 4 * weights.sum() / max(1, len(others)))])
        shortest, steps = np.inf, 0
        for _ in range(6):
            logits, by_x = self.logits(self.mean + self.root @ z, items)
            j, p = by_x @ self.root, sigmoid64(logits)
            r = z + j.T @ (weight * (p - labels))
            if r @ r >= shortest:
                z = (z + best) / 2
                continue
            best = z
            if steps == 3:
                break
            shortest, steps = r @ r, steps + 1
            z = z - np.linalg.solve(np.eye(len(z)) + (j.T * (weight * p * (1 - p))) @ j, r)
        return self.mean + self.root @ best


def histories_of(items: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.sort(rng.choice(items, n, replace=False)) for n in (0, 1, 2, 15, 16, 17, 40, items, 5)]


def rows_of(histories: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.cumsum([0, *map(len, histories)]), np.concatenate(histories)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_vectors_are_those_of_the_formula(shape: Shape) -> None:
    tensors, histories = random_tensors(shape), histories_of(shape.items)
    scorer, reference = Scorer.from_tensors(tensors), Reference(tensors)
    vectors = scorer.fold_in(rows_of(histories))
    assert [None if part is None else part.shape[1] for part in vectors] == [shape.g or None, shape.mlp[0] or None]
    expected = np.stack([reference.fit(history, np.ones(len(history))) for history in histories])
    np.testing.assert_allclose(joined(vectors), expected, rtol=1e-3, atol=1e-3)
    assert np.ptp(expected, axis=0).mean() > 0.1
    rng = np.random.default_rng(1)
    weights = [rng.uniform(0.1, 3, len(history)).astype(np.float32) for history in histories]
    weighted = joined(scorer.fold_in(rows_of(histories), weights=np.concatenate(weights)))
    expected = np.stack([reference.fit(*pair) for pair in zip(histories, weights, strict=True)])
    np.testing.assert_allclose(weighted, expected, rtol=1e-3, atol=1e-3)
    assert scorer.top_k(vectors, 3).ids.shape == (len(histories), 3)


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[2]], ids=str)
def test_a_history_has_the_same_bits_everywhere(shape: Shape) -> None:
    tensors, histories = random_tensors(shape), histories_of(shape.items)
    many = [histories[n] for n in np.random.default_rng(2).integers(0, len(histories), 60)]
    expected = joined(Scorer.from_tensors(tensors, isa="portable").fold_in(rows_of(many), threads=1))
    for isa in machine()["supported"]:
        scorer = Scorer.from_tensors(tensors, isa=isa)
        for threads in (1, 2, 5):
            assert joined(scorer.fold_in(rows_of(many), threads=threads)).tobytes() == expected.tobytes()
        for row in range(12):
            shuffled = np.random.default_rng(row).permutation(np.concatenate([many[row], many[row][:2]]))
            assert joined(scorer.fold_in(rows_of([shuffled]))).tobytes() == expected[row].tobytes()


def test_users_of_a_planted_taste_are_found_again() -> None:
    """Users like the items of one half; the fitted vectors of new ones rank the other items of their half first."""
    rng = np.random.default_rng(3)
    sides = rng.choice([-1.0, 1.0], 200), rng.choice([-1.0, 1.0], 100)
    users, items = (side[:, None] * 2 + rng.normal(0, 0.3, (len(side), 4)) for side in sides)
    tensors = {
        "gmf.user_embedding.weight": users.astype(np.float32),
        "gmf.item_embedding.weight": items.astype(np.float32),
        "output.weight": np.ones((1, 4), np.float32),
        "output.bias": np.zeros(1, np.float32),
    }
    scorer = Scorer.from_tensors(tensors)
    liked, disliked = np.flatnonzero(sides[1] > 0), np.flatnonzero(sides[1] < 0)
    for history, others in ((liked[:5], liked[5:]), (disliked[:5], disliked[5:])):
        rows = rows_of([history])
        found = scorer.top_k(scorer.fold_in(rows), len(others), exclude=rows).ids[0]
        assert set(found.tolist()) == set(others.tolist())


def test_bad_histories_are_refused() -> None:
    scorer = Scorer.from_tensors(random_tensors(SHAPES[0]))
    for weights, message in (
        (np.ones(2), "weights: expected one for each of 3 items, got 2"),
        (np.array([1.0, 0, 1]), r"weights\[1\]: expected a finite number above 0, got 0"),
        (np.array([1.0, 1, np.inf]), r"weights\[2\]: expected a finite number above 0, got inf"),
        (np.array([1e39, 1, 1]), r"weights\[0\]: expected a finite number above 0, got inf"),
        (np.ones((3, 1)), r"weights: expected one dimension, got shape \[3, 1\]"),
    ):
        with pytest.raises(ArgumentError, match=message):
            scorer.fold_in(([0, 3], [3, 5, 8]), weights=weights)
    with pytest.raises(TypeError, match="weights: expected an array of float32"):
        scorer.fold_in(([0, 3], [3, 5, 8]), weights=[1, 1, 1])
    huge = np.full(2, 3e38, np.float32)
    with pytest.raises(ArgumentError, match="weights: those of an item overflow float32"):
        scorer.fold_in(([0, 2], [3, 3]), weights=huge)


def test_extreme_models_and_weights_stay_finite() -> None:
    tensors = random_tensors(SHAPES[2])
    same = {name: np.tile(t[:1], (len(t), 1)) if "user_embedding" in name else t for name, t in tensors.items()}
    large = {name: t * np.float32(1e4) if "embedding" in name else t for name, t in tensors.items()}
    for model in (same, large):
        scorer = Scorer.from_tensors(model)
        rows = rows_of(histories_of(300))
        assert np.isfinite(joined(scorer.fold_in(rows))).all()
        for weight in (1e-30, 1e30):
            assert np.isfinite(joined(scorer.fold_in(rows, weights=np.full(len(rows[1]), weight)))).all()


def test_ctrl_c_stops_it() -> None:
    scorer = Scorer.from_tensors(random_tensors(Shape(300, 2000, g=64, mlp=(64, 64), layers=(128, 64))), isa="portable")
    histories = np.arange(301) * 2000, np.tile(np.arange(2000), 300)

    class StoppedError(Exception):
        pass

    def handler() -> None:
        raise StoppedError

    with after(0.2, handler), pytest.raises(StoppedError):
        scorer.fold_in(histories)

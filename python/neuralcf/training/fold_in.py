"""How a history becomes a user's vector: what a model needs to serve users that it was not trained on.

For a history of n items (n at least 1), whose rows of a table Y [I, d] are H [n, d]:

    vector = bias + sum of the encoders' terms
    linear  n^-exponent sum over j in the history of items[j]
    ridge   (H'H + diag(diagonal + l2[0] + l2[1] n))^-1 H'1 output

A linear encoder is EASE, a graph filter or a history encoder; a ridge regression is the half-step of alternating least
squares (`neuralcf.baselines.least_squares`) in the basis in which a0 Q'Q is diagonal, turned back by `output`.

Scores are products of vectors and item vectors, so what is linear in the scores is linear in the vectors: a sum of
teachers, the cut, the scale of the logits. `then` and `+` compose it, and a model's `FoldIn` is made from those of its
teachers. `rust/format/README.md` specifies the stored form, and `Scorer.fold_in` computes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["FoldIn", "LinearEncoder", "RidgeEncoder", "half_step", "regress"]

Floats: TypeAlias = NDArray[np.float32]

_L2 = 0.01
"""Regularisation of `regress`, in shares of the mean square of its inputs."""


@dataclass(frozen=True, eq=False)
class LinearEncoder:
    """The sum of a history's rows of a table, times n^-exponent."""

    items: Floats
    """float32 [I, r]."""
    exponent: float
    """0, .25, .5, .75 or 1."""


@dataclass(frozen=True, eq=False)
class RidgeEncoder:
    """A ridge regression of ones on a history's rows of a table."""

    items: Floats
    """float32 [I, d]."""
    diagonal: Floats
    """float32 [d], at least 0."""
    l2: tuple[float, float]
    """At least 0, not both 0: for every user, and for each item of the history."""
    output: Floats
    """float32 [d, r]."""

    def solves_as(self, other: RidgeEncoder) -> bool:
        """Tell whether both solve the same equations."""
        same = np.array_equal(self.items, other.items) and np.array_equal(self.diagonal, other.diagonal)
        return same and self.l2 == other.l2


@dataclass(frozen=True, eq=False)
class FoldIn:
    """A function from histories to vectors."""

    bias: Floats
    """float32 [r]."""
    encoders: tuple[LinearEncoder | RidgeEncoder, ...]

    def then(self, weights: Floats, bias: Floats | None = None) -> FoldIn:
        """Map the vectors by `weights`, float32 [r, s], and add `bias`, float32 [s]."""
        constant = self.bias @ weights + (0 if bias is None else bias)
        mapped = (
            replace(encoder, items=encoder.items @ weights)
            if isinstance(encoder, LinearEncoder)
            else replace(encoder, output=encoder.output @ weights)
            for encoder in self.encoders
        )
        return FoldIn(np.asarray(constant, np.float32), tuple(mapped))

    def __add__(self, other: FoldIn) -> FoldIn:
        """Add the vectors; linear encoders of one exponent become one, and so do encoders of one regression."""
        linear: dict[float, LinearEncoder] = {}
        ridge: list[RidgeEncoder] = []
        for encoder in (*self.encoders, *other.encoders):
            if isinstance(encoder, RidgeEncoder):
                same = next((k for k, known in enumerate(ridge) if known.solves_as(encoder)), None)
                if same is None:
                    ridge.append(encoder)
                else:
                    ridge[same] = replace(encoder, output=ridge[same].output + encoder.output)
            elif encoder.exponent in linear:
                items = linear[encoder.exponent].items + encoder.items
                linear[encoder.exponent] = replace(encoder, items=items)
            else:
                linear[encoder.exponent] = encoder
        return FoldIn(self.bias + other.bias, (*linear.values(), *ridge))

    def tensors(self, empty: Floats) -> dict[str, Floats]:
        """Give the tensors of history.safetensors; `empty`, float32 [r], is the vector of a user without a history."""
        tensors = {"empty": empty, "bias": self.bias}
        for k, encoder in enumerate(each for each in self.encoders if isinstance(each, LinearEncoder)):
            tensors[f"linear.{k}.items"] = encoder.items
            tensors[f"linear.{k}.exponent"] = np.asarray([encoder.exponent])
        for k, regression in enumerate(each for each in self.encoders if isinstance(each, RidgeEncoder)):
            tensors[f"ridge.{k}.items"] = regression.items
            tensors[f"ridge.{k}.diagonal"] = regression.diagonal
            tensors[f"ridge.{k}.l2"] = np.asarray(regression.l2)
            tensors[f"ridge.{k}.output"] = regression.output
        return {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Floats]) -> FoldIn:
        """Undo `tensors`."""
        encoders: list[LinearEncoder | RidgeEncoder] = []
        for name in tensors:
            kind, _, part = name.partition(".")
            if kind == "linear" and part.endswith(".items"):
                exponent = tensors[name.replace("items", "exponent")]
                encoders.append(LinearEncoder(tensors[name], float(exponent[0])))
            elif kind == "ridge" and part.endswith(".items"):
                diagonal, l2, output = (tensors[name.replace("items", other)] for other in ("diagonal", "l2", "output"))
                encoders.append(RidgeEncoder(tensors[name], diagonal, (float(l2[0]), float(l2[1])), output))
        return cls(tensors["bias"], tuple(encoders))


def half_step(item_vectors: Floats, *, a0: float, l2: float) -> FoldIn:
    """Give the half-step of iALS that solves for a user, items fixed.

    Args:
        item_vectors: Q, float32 [I, d].
        a0: the weight of every cell, as in `neuralcf.baselines.ials`.
        l2: strength of the regularisation, as there: l2 (n + a0 I) for a user with n items.
    """
    squares, basis = np.linalg.eigh(item_vectors.T.astype(np.float64) @ item_vectors)
    items = item_vectors @ basis.astype(np.float32)
    diagonal = (a0 * np.maximum(squares, 0)).astype(np.float32)
    regression = RidgeEncoder(items, diagonal, (l2 * a0 * len(items), l2), basis.T.astype(np.float32))
    return FoldIn(np.zeros(items.shape[1], np.float32), (regression,))


def regress(vectors: Floats, inputs: Floats) -> tuple[Floats, Floats]:
    """Estimate what a history does not determine from what it does, by a ridge regression over the users.

    Args:
        vectors: float32 [U, r], of users in training.
        inputs: float32 [U, d], of the same users, which new users have too.

    Returns:
        weights, float32 [d, r], and a constant, float32 [r]: vectors = inputs @ weights + constant.
    """
    mean_vector, mean_input = vectors.mean(axis=0), inputs.mean(axis=0)
    x = (inputs - mean_input).astype(np.float64)
    squares = x.T @ x
    l2 = _L2 * np.trace(squares) / len(squares) or 1.0  # from a single user nothing is learned
    weights = np.linalg.solve(squares + l2 * np.eye(len(squares)), x.T @ (vectors - mean_vector)).astype(np.float32)
    return weights, np.asarray(mean_vector - mean_input @ weights, np.float32)

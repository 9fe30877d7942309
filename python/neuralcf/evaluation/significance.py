"""Confidence intervals of means over users, and the paired comparison of two evaluations.

Interval    mean +- 1.96 s / sqrt(m) over the values of m users with standard deviation s (ddof 1): the 95% interval by
            the normal approximation, with the users as a sample of a larger population. Undefined (NaN) for one user.
Difference  The same interval of the per-user differences A - B. Variation that both models share cancels, so it can
            separate models whose own intervals overlap.
p           Two-sided sign-flip permutation test. Under the null hypothesis, the sign of each user's difference is
            random. p = (1 + c) / (1 + n), where c of n random flips have a mean at least as far from 0 as the observed
            one (Smucker et al., "A comparison of statistical significance tests for information retrieval evaluation",
            CIKM 2007; the added 1 as in Phipson and Smyth, 2010, so that p is never 0). Several metrics are several
            tests, without correction for multiple testing.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from neuralcf.errors import ArgumentError
from neuralcf.evaluation.result import Evaluation

__all__ = ["Difference", "Interval", "compare", "interval"]

Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """A mean over users with its 95% confidence interval."""

    mean: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Return the three as JSON values; undefined ones are None."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Difference:
    """A metric of two models on the same users."""

    metric: str
    a: float
    b: float
    difference: Interval | None
    """Mean and interval of the per-user differences A - B; None for a metric without per-user values."""
    p: float | None
    """p-value of the sign-flip test; None for a metric without per-user values."""


def interval(values: NDArray[np.float64]) -> Interval:
    """Compute the mean of per-user values, float64 [m], m >= 1, with its 95% interval."""
    mean = float(values.mean())
    half = Z_95 * float(values.std(ddof=1)) / values.size**0.5 if values.size > 1 else float("nan")
    return Interval(mean, mean - half, mean + half)


def compare(a: Evaluation, b: Evaluation, *, flips: int = 10_000, seed: int = 0) -> list[Difference]:
    """Compare two models on the same held-out items of the same users, for each metric that both have.

    Args:
        a: evaluation of the first model.
        b: evaluation of the second model.
        flips: number of random sign flips.
        seed: random seed of the flips.

    Raises:
        ArgumentError: different protocols, users or data, or no common metric.
    """
    for what, ours, theirs in (
        ("protocol", a.protocol, b.protocol),
        ("number of users", len(a.users), len(b.users)),
        ("users", list(a.users), list(b.users)),
        ("training or held-out items, or candidates", a.fingerprint, b.fingerprint),
    ):
        if ours != theirs:
            found = "" if isinstance(ours, list) or what.startswith("training") else f": {ours!r} and {theirs!r}"
            raise ArgumentError(f"compare: expected two evaluations of the same {what}, got different ones{found}")
    shared = [name for name in a.per_user if name in b.per_user]
    if not shared:
        raise ArgumentError(f"compare: expected a common metric, got {', '.join(a.per_user)}; {', '.join(b.per_user)}")
    differences = np.stack([a.per_user[name] - b.per_user[name] for name in shared], axis=1)  # [m, metrics]
    p = _sign_flip(differences, flips, np.random.default_rng(seed))
    compared = [
        Difference(name, a.means[name], b.means[name], interval(differences[:, n]), float(p[n]))
        for n, name in enumerate(shared)
    ]
    overall = [name for name in a.overall if name in b.overall]
    return compared + [Difference(name, a.overall[name], b.overall[name], None, None) for name in overall]


def _sign_flip(differences: NDArray[np.float64], flips: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Compute the p-value of each column of `differences`, float64 [m, metrics]; all columns use the same flips."""
    users = differences.shape[0]
    least = np.abs(differences.sum(axis=0)) * (1 - 1e-12)  # tolerate rounding of equal sums
    step = max(1, 2_000_000 // users)
    as_far = np.zeros(differences.shape[1], dtype=np.int64)
    for start in range(0, flips, step):
        signs = rng.integers(0, 2, (min(step, flips - start), users), dtype=np.int8) * 2.0 - 1.0
        as_far += (np.abs(signs @ differences) >= least).sum(axis=0)
    return np.asarray((1 + as_far) / (1 + flips), dtype=np.float64)

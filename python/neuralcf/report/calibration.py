"""Calibration: the distribution of a model's probabilities, and how well they match observed frequencies.

Reliability Pairs in bins of equal width by probability; for each bin, the mean probability against the share of pairs
            that are interactions, with the 95% interval of Wilson, "Probable inference, the law of succession, and
            statistical inference", JASA 1927, which treats the pairs as independent.
Error       Expected calibration error: sum over bins b of n(b) / n |share(b) - mean(b)|, n(b) of n pairs in b (Guo et
            al., "On calibration of modern neural networks", ICML 2017, eq. 3).
AUC         How often a positive scores above a negative, with ties counted half: the area under the ROC curve (Hanley
            and McNeil, Radiology 1982).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuralcf.evaluation.significance import Z_95
from neuralcf.report import page
from neuralcf.report.charts import ACCENT, MUTED, THIRD, legend, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Calibration", "Scores", "area_under_curve", "calibrate"]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Predicted probabilities against observed frequencies, by bin; empty bins are omitted."""

    bounds: NDArray[np.float64]
    """float64 [b, 2]: lower and upper bound of each bin."""

    pairs: NDArray[np.int64]
    """int64 [b]: number of pairs in each bin."""

    predicted: NDArray[np.float64]
    """float64 [b]: mean probability."""

    observed: NDArray[np.float64]
    """float64 [b]: share of positives."""

    intervals: NDArray[np.float64]
    """float64 [b, 2]: 95% interval of that share."""

    @property
    def error(self) -> float:
        """Expected calibration error."""
        return float(np.average(np.abs(self.observed - self.predicted), weights=self.pairs))

    @property
    def mean_predicted(self) -> float:
        """Mean probability of all pairs."""
        return float(np.average(self.predicted, weights=self.pairs))

    @property
    def share(self) -> float:
        """Share of positives among all pairs."""
        return float(np.average(self.observed, weights=self.pairs))


@dataclass(frozen=True, eq=False)
class Scores:
    """Probabilities of held-out pairs, and of sampled negatives of the same users."""

    held_out: NDArray[np.float32]
    """float32 [n], n >= 1."""
    sampled: NDArray[np.float32]
    """float32 [m], m >= 1."""
    negatives: int
    """Number of negatives sampled for each held-out item, at most."""
    recorded: bool
    """Whether `negatives` is the model's recorded training setting, or only the usual number."""

    @cached_property
    def calibration(self) -> Calibration:
        """Calibration over all pairs."""
        return calibrate(self.held_out, self.sampled)

    def html(self) -> str:
        """Render the section."""
        return page.section(
            "Scores and calibration",
            page.paragraph(self._meaning()),
            "<h3>Scores of held-out and sampled items</h3>",
            page.chart("Scores", self._draw_scores),
            page.paragraph(self._spread()),
            "<h3>Calibration</h3>",
            page.chart("Calibration", self._draw_calibration, wide=(7.4, 3.6), narrow=(4.0, 3.8)),
            page.paragraph(self._reading()),
            page.details("Every bin", self._table()),
        )

    def _meaning(self) -> str:
        m = self.negatives
        origin = f"This model was trained with {m} sampled {'negative' if m == 1 else 'negatives'} for each interaction"
        if not self.recorded:
            origin = (
                "The model does not record how many negatives were sampled for each interaction in training; "
                f"assuming {m}"
            )
        return (
            f"{origin}: 1 in {1 + m} of such pairs is an interaction, {1 / (1 + m):.0%}, and a probability is the "
            "chance that a pair sampled in this way is one. It is not the chance that a user takes an item they are "
            "shown: across the whole catalogue, interactions are far rarer."
        )

    def _spread(self) -> str:
        auc = area_under_curve(self.held_out, self.sampled)
        return (
            f"{self.held_out.size:,} held-out pairs, and {self.sampled.size:,} pairs of the same users with items "
            f"sampled from those that they neither have nor have held out, {self.negatives} for each held-out pair. A "
            f"held-out pair has a higher probability than a sampled one in {auc:.1%} of all cases (AUC; chance: 50%)."
        )

    def _reading(self) -> str:
        found = self.calibration
        lean = "above" if found.mean_predicted > found.share else "below"
        return (
            f"{found.share:.1%} of these pairs are interactions, the base rate. The mean predicted probability is "
            f"{found.mean_predicted:.1%}, {lean} the base rate. The expected calibration error is {found.error:.3f}: "
            f"the mean probability of a bin is off by {100 * found.error:.1f} percentage points on average. Below the "
            "dashed line the model is overconfident, above it underconfident. Intervals are binomial (Wilson, 95%) and "
            "treat the pairs as independent."
        )

    def _table(self) -> str:
        found = self.calibration
        numbers = (found.pairs.tolist(), found.predicted.tolist(), found.observed.tolist(), found.intervals.tolist())
        rows = [
            (f"{low:.1f} to {high:.1f}", f"{n:,}", f"{mean:.3f}", f"{share:.3f}", f"{bottom:.3f} to {top:.3f}")
            for (low, high), n, mean, share, (bottom, top) in zip(found.bounds.tolist(), *numbers, strict=True)
        ]
        return page.table(("probability", "pairs", "mean", "interactions", "95% interval"), rows)

    def _draw_scores(self, figure: Figure) -> None:
        (axes,) = panels(figure)
        edges = np.linspace(0, 1, 21)
        for colour, label, values in (
            (MUTED, "sampled items", self.sampled),
            (ACCENT, "held-out items", self.held_out),
        ):
            share = 100 * np.histogram(values, edges)[0] / values.size
            axes.stairs(share, edges, color=colour, fill=True, alpha=0.25)
            axes.stairs(share, edges, color=colour, linewidth=2, label=label)
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("probability")
        axes.set_ylabel("share in %")
        legend(axes)

    def _draw_calibration(self, figure: Figure) -> None:
        (axes,) = panels(figure)
        found = self.calibration
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.5, dashes=(4, 2), label="perfect calibration")
        axes.axhline(found.share, color=THIRD, linewidth=1.5, linestyle=(0, (1, 2)), label="base rate")
        axes.errorbar(
            found.predicted,
            found.observed,
            yerr=np.abs(found.intervals.T - found.observed),
            color=ACCENT,
            linewidth=2,
            elinewidth=1.2,
            marker="o",
            markersize=5,
            capsize=3,
            label="model",
        )
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("mean probability")
        axes.set_ylabel("share of interactions")
        legend(axes, ncols=3, columnspacing=1.2, handlelength=1.6)


def calibrate(positives: NDArray[np.float32], negatives: NDArray[np.float32], bins: int = 10) -> Calibration:
    """Compute the calibration of probabilities of positives, float32 [n], and negatives, float32 [m]; n + m >= 1."""
    probabilities = np.concatenate([positives, negatives]).astype(np.float64)
    labels = np.repeat([1.0, 0.0], [positives.size, negatives.size])
    bin_of = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    used = np.flatnonzero(counts)
    pairs = counts[used]
    observed = np.bincount(bin_of, weights=labels, minlength=bins)[used] / pairs
    return Calibration(
        bounds=np.stack([used / bins, (used + 1) / bins], axis=1),
        pairs=pairs,
        predicted=np.bincount(bin_of, weights=probabilities, minlength=bins)[used] / pairs,
        observed=observed,
        intervals=_wilson(observed, pairs),
    )


def _wilson(share: NDArray[np.float64], n: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the 95% Wilson interval, float64 [b, 2], of shares of `n` pairs."""
    z2 = Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * np.sqrt(share * (1 - share) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    return np.stack([np.maximum(centre - half, 0), np.minimum(centre + half, 1)], axis=1)


def area_under_curve(positives: NDArray[np.float32], negatives: NDArray[np.float32]) -> float:
    """Compute the AUC, with ties counted half: `positives` float32 [n], `negatives` float32 [m], n, m >= 1."""
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left")
    not_above = np.searchsorted(ordered, positives, side="right")
    return float((below + not_above).mean() / (2 * negatives.size))

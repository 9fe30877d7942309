"""The model beside baselines, by each protocol: bar charts, paired differences, and tables of all metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuralcf.evaluation.result import Evaluation
from neuralcf.evaluation.significance import Interval, interval
from neuralcf.report import page
from neuralcf.report.charts import INK, SERIES, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Comparison", "with_half"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Evaluations of a model and of baselines."""

    evaluations: Mapping[str, Mapping[str, Evaluation]]
    """Keyed by what held-out items are ranked among, in two words, then by ranker; the model comes first."""
    k: int
    """The cut-off of the chart."""

    @property
    def rankers(self) -> list[str]:
        """The names of the model and the baselines."""
        return list(next(iter(self.evaluations.values())))

    def html(self) -> str:
        """Render the section."""
        parts = [
            page.chart("Beside baselines", self.draw, wide=(7.4, 3.1), narrow=(4.0, 5.4)),
            page.paragraph("Bars and tables show means over users with 95% intervals by the normal approximation (±)."),
            self._table(f"@{self.k}"),
            *self._differences(),
            page.details("All cut-offs", self._table()),
        ]
        return page.section("Beside baselines", *parts)

    def draw(self, figure: Figure) -> None:
        """Draw one panel per protocol, one group of bars per metric, one bar per ranker."""
        axes = panels(figure, len(self.evaluations))
        for one, among in zip(axes, self.evaluations, strict=True):
            self._draw_panel(one, among)
        columns = 4 if figure.get_figwidth() > 5 else 2
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, frameon=False, labelcolor=INK, loc="outside upper center", ncols=columns)

    def _draw_panel(self, axes: Axes, among: str) -> None:
        metrics, evaluations = (f"HR@{self.k}", f"NDCG@{self.k}"), self.evaluations[among]
        width, top = 0.8 / len(evaluations), 0.0
        for number, (name, evaluation) in enumerate(evaluations.items()):
            at = np.arange(len(metrics)) + (number - (len(evaluations) - 1) / 2) * width
            bounds = [interval(evaluation.per_user[metric]) for metric in metrics]
            means = np.array([each.mean for each in bounds])
            half = np.array([each.high - each.mean if _is_defined(each) else 0.0 for each in bounds])
            axes.bar(at, means, width=0.88 * width, color=SERIES[number], label=name)
            axes.errorbar(at, means, yerr=half, fmt="none", ecolor=INK, elinewidth=1.2, capsize=2.5)
            for x, mean, above in zip(at, means, means + half, strict=True):
                text = f"{mean:.3f}".removeprefix("0")
                axes.annotate(
                    text, (x, above), xytext=(0, 2), textcoords="offset points", ha="center", color=INK, size=8
                )
            top = max(top, float((means + half).max()))
        axes.set_xticks(range(len(metrics)), metrics)
        axes.set_ylim(0, 1.12 * top or 1)
        axes.set_xlabel(f"among {among}")
        axes.grid(visible=False, axis="x")

    def _differences(self) -> list[str]:
        """Render the paired difference between the model and each baseline."""
        metric, (model, *baselines) = f"NDCG@{self.k}", self.rankers
        if not baselines:
            return [page.paragraph("No baseline was evaluated, so there is nothing to compare these metrics with.")]
        rows = []
        for baseline, (among, rankers) in product(baselines, self.evaluations.items()):
            bounds = interval(rankers[model].per_user[metric] - rankers[baseline].per_user[metric])
            within = _unbroken(f"({bounds.low:+.4f} to {bounds.high:+.4f})") if _is_defined(bounds) else ""
            rows.append((baseline, _unbroken(among), f"{bounds.mean:+.4f} {within}"))
        text = (
            f"{metric} of {model} minus {metric} of each baseline: the mean of the per-user differences with its 95% "
            "interval. Variation that both share cancels, so this can separate models whose own intervals overlap."
        )
        return [page.paragraph(text), page.table(("minus", "among", "difference"), rows)]

    def _table(self, suffix: str = "") -> str:
        """Render the metrics whose names end with `suffix`, grouped by protocol."""
        rows: list[Sequence[str] | str] = []
        for among, rankers in self.evaluations.items():
            one = next(iter(rankers.values()))
            rows.append(f"Among {one.protocol}. {one.held_out:,} held-out items of {len(one.users):,} users.")
            rows += [
                (metric, *(with_half(rankers[name].per_user[metric]) for name in self.rankers), _unbroken(among))
                for metric in one.per_user
                if metric.endswith(suffix) and not metric.startswith("Novelty")
            ]
        return page.table(("metric", *self.rankers, "among"), rows)


def with_half(values: NDArray[np.float64], digits: int = 4) -> str:
    """Format the mean of per-user values, float64 [m], with half the width of its 95% interval if that is defined."""
    bounds = interval(values)
    half = f"\u00a0±{bounds.high - bounds.mean:.{digits}f}" if _is_defined(bounds) else ""
    return f"{bounds.mean:.{digits}f}{half}"


def _is_defined(bounds: Interval) -> bool:
    return bool(np.isfinite(bounds.low))


def _unbroken(text: str) -> str:
    """Replace spaces by no-break spaces, to keep the text on one line."""
    return text.replace(" ", "\u00a0")

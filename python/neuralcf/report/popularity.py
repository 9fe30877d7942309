"""Popularity bias: how popular the recommended items are, compared with what users already have.

Items are ordered by number of training interactions, most popular first, ties by ascending index. The item at position
r = 0 .. I - 1 is in group floor(G r / I), G = min(10, I). The report shows each group's share of the recommended, known
and held-out items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuralcf.evaluation.result import Evaluation
from neuralcf.report import page
from neuralcf.report.charts import SERIES, legend, panels
from neuralcf.report.comparison import with_half

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PopularityShares", "popularity_groups", "shares"]


@dataclass(frozen=True, eq=False)
class PopularityShares:
    """Shares of the popularity groups, float64 [G] each, and coverage and novelty of each ranker."""

    recommended: NDArray[np.float64]
    """Shares of the top k of the users with held-out items."""
    known: NDArray[np.float64]
    """Shares of these users' training items."""
    held_out: NDArray[np.float64]
    """Shares of the held-out items."""
    evaluations: Mapping[str, Evaluation]
    """By ranker, with coverage and novelty; the model comes first."""
    k: int
    """Length of the lists."""

    @property
    def coverage(self) -> float:
        """Coverage of the model, the first ranker."""
        return next(iter(self.evaluations.values())).overall[f"Coverage@{self.k}"]

    def html(self) -> str:
        """Render the section."""
        k, groups = self.k, self.known.size
        more_often = self.recommended[0] > self.known[0]
        text = (
            f"Items in {groups} groups of equal size, by number of training interactions. The most popular group has "
            f"{self.recommended[0]:.1%} of the users' top {k}, {self.known[0]:.1%} of these users' training items and "
            f"{self.held_out[0]:.1%} of the held-out items: the model recommends the most popular items "
            f"{'more' if more_often else 'less'} often than users choose them."
        )
        breadth = [
            (name, f"{each.overall[f'Coverage@{k}']:.1%}", with_half(each.per_user[f"Novelty@{k}"], digits=2))
            for name, each in self.evaluations.items()
        ]
        note = (
            f"Coverage: the share of the catalogue in the top {k} of at least one of these users. Novelty: log2 of the "
            "number of training users over the number of those who have an item, in bits, averaged over a list. "
            "The lists contain no items from the user's history."
        )
        rows = [
            (str(n + 1), *(f"{share[n]:.2%}" for share in (self.recommended, self.known, self.held_out)))
            for n in range(groups)
        ]
        return page.section(
            "Popularity",
            page.chart("Popularity", self.draw, narrow=(4.0, 3.0)),
            page.paragraph(text),
            page.table(("", f"coverage@{k}", f"novelty@{k}"), breadth),
            page.paragraph(note),
            page.details("Every group", page.table(("group", "recommended", "known", "held out"), rows)),
        )

    def draw(self, figure: Figure) -> None:
        """Draw the shares of the groups."""
        (axes,) = panels(figure)
        series = {"recommended": self.recommended, "known": self.known, "held out": self.held_out}
        groups, width = self.known.size, 0.84 / len(series)
        for number, (name, values) in enumerate(series.items()):
            at = np.arange(1, groups + 1) + (number - (len(series) - 1) / 2) * width
            axes.bar(at, 100 * values, width=0.92 * width, color=SERIES[number], label=name)
        axes.set_xticks(range(1, groups + 1))
        axes.set_xlabel("groups of items, most popular first")
        axes.set_ylabel("share in %")
        axes.grid(visible=False, axis="x")
        legend(axes, ncols=3, columnspacing=1.2)


def popularity_groups(popularity: NDArray[np.int64], groups: int = 10) -> NDArray[np.int64]:
    """Return the group of each item, int64 [I], 0 for the most popular; `popularity` is interactions, int64 [I]."""
    groups = min(groups, popularity.size)
    place = np.empty(popularity.size, dtype=np.int64)
    place[np.argsort(-popularity, kind="stable")] = np.arange(popularity.size)
    return place * groups // popularity.size


def shares(items: NDArray[np.int64], group_of: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of `items`, int64 [n], in each group, float64 [G]; zeros if there are no items."""
    counts = np.bincount(group_of[items], minlength=int(group_of.max()) + 1)
    return np.asarray(counts / max(items.size, 1), dtype=np.float64)

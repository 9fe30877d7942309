"""How popular what is recommended is, against what users know.

Items are ranked by training interactions, the most popular first, equals by ascending index; the one at place
r = 0 .. I - 1 is in group floor(G r / I), G = min(10, I). Of what is recommended, known or held out, each group has a
share.
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
    """Shares of the groups of items, float64 [G] each, and how far the lists of all rankers reach."""

    recommended: NDArray[np.float64]
    """Of the top k of the users with held-out items."""
    known: NDArray[np.float64]
    """Of what these users know."""
    held_out: NDArray[np.float64]
    """Of what was held out of it."""
    evaluations: Mapping[str, Evaluation]
    """By ranker, with coverage and novelty."""
    k: int
    """How long lists are."""

    @property
    def coverage(self) -> float:
        """Coverage of the model, the first ranker."""
        return next(iter(self.evaluations.values())).overall[f"Coverage@{self.k}"]

    def html(self) -> str:
        """Give the section."""
        k, groups = self.k, self.known.size
        oftener = self.recommended[0] > self.known[0]
        text = (
            f"Items in {groups} groups of equal size, by their training interactions. The most popular group has "
            f"{self.recommended[0]:.1%} of the users' top {k}, {self.known[0]:.1%} of what these users know and "
            f"{self.held_out[0]:.1%} of what was held out: the model brings up the most popular items "
            f"{'more' if oftener else 'less'} often than users choose them."
        )
        breadth = [
            (name, f"{each.overall[f'Coverage@{k}']:.1%}", with_half(each.per_user[f"Novelty@{k}"], digits=2))
            for name, each in self.evaluations.items()
        ]
        note = (
            f"Coverage: the share of the catalogue in the top {k} of any of these users. Novelty: log2 of all training "
            "users over those who have an item, in bits, the mean over a list. Both among all items but those that the "
            "user knows."
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
        axes.set_xlabel("groups of items, the most popular first")
        axes.set_ylabel("share in %")
        axes.grid(visible=False, axis="x")
        legend(axes, ncols=3, columnspacing=1.2)


def popularity_groups(popularity: NDArray[np.int64], groups: int = 10) -> NDArray[np.int64]:
    """Give each item's group, int64 [I], from 0 for the most popular; `popularity`, int64 [I], are interactions."""
    groups = min(groups, popularity.size)
    place = np.empty(popularity.size, dtype=np.int64)
    place[np.argsort(-popularity, kind="stable")] = np.arange(popularity.size)
    return place * groups // popularity.size


def shares(items: NDArray[np.int64], group_of: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the share of items, int64 [n], in each group, float64 [G]; zeros where there are no items."""
    counts = np.bincount(group_of[items], minlength=int(group_of.max()) + 1)
    return np.asarray(counts / max(items.size, 1), dtype=np.float64)

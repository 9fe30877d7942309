"""The report of a trained model: how it was trained, how it ranks, what it recommends, what its scores mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from neuralcf.report import page
from neuralcf.report.calibration import Scores
from neuralcf.report.comparison import Comparison
from neuralcf.report.lists import Lists
from neuralcf.report.popularity import PopularityShares
from neuralcf.report.training import History, training_section

__all__ = ["ModelReport"]


@dataclass(frozen=True)
class ModelReport:
    """What is to be told of a model; `html()` is the page."""

    name: str
    """Of the model."""
    sizes: tuple[int, int]
    """How many users and items it has."""
    version: str
    """Of the program that measures."""
    data: str
    """The file that was evaluated on."""
    guarantee: str
    """How the data were split, in a sentence."""
    notes: Sequence[str]
    """What was skipped, for the user to know; part of `guarantee`."""
    seed: int
    """What decided what was drawn."""
    history: History | None
    comparison: Comparison
    popularity: PopularityShares
    scores: Scores
    lists: Lists
    config: Mapping[str, Any]
    """What config.json holds; empty where there is none."""

    def html(self) -> str:
        """Render the page."""
        return page.render(
            f"{self.name}: report",
            f"<header><h1>{escape(self.name)}</h1>",
            page.paragraph(self._summary()),
            "</header>",
            page.tiles(self._tiles()),
            training_section(self.history),
            self.comparison.html(),
            self.popularity.html(),
            self.scores.html(),
            self.lists.html(),
            self._protocol(),
            self._configuration(),
        )

    def _summary(self) -> str:
        one = next(iter(self.popularity.evaluations.values()))
        users, items = self.sizes
        return (
            f"{self.comparison.rankers[0]} of {users:,} users and {items:,} items, measured on {one.held_out:,} "
            f"held-out interactions of {len(one.users):,} users in {self.data}."
        )

    def _tiles(self) -> list[tuple[str, str]]:
        """Choose what to see first: a metric of each protocol beside that of the best baseline, and more."""
        k, tiles = self.popularity.k, []
        for metric, among in zip((f"NDCG@{k}", f"HR@{k}"), self.comparison.evaluations, strict=True):
            (_, model), *baselines = self.comparison.evaluations[among].items()
            best = max(baselines, key=lambda baseline: baseline[1].means[metric], default=None)
            beside = "" if best is None else f", {best[0]} {best[1].means[metric]:.3f}"
            tiles.append((f"{model.means[metric]:.3f}", f"{metric} among {among}{beside}"))
        error = 100 * self.scores.calibration.error
        return [
            *tiles,
            (f"{self.popularity.coverage:.1%}", f"of the catalogue is in somebody's top {k}"),
            (f"{error:.1f} points", "expected calibration error of the probabilities"),
        ]

    def _protocol(self) -> str:
        points = [f"Data: {self.data}.", f"Split: {self.guarantee}."]
        for among, rankers in self.comparison.evaluations.items():
            points.append(f"{among[0].upper()}{among[1:]}: {next(iter(rankers.values())).protocol}.")
        points += [
            "Rank: how many other items score at least as high. Several held-out items of a user stand in one list "
            "among all items, and in a list each among candidates.",
            "Intervals: 95%, mean ± 1.96 s / √users, with users as a sample of those who might have come.",
            f"Seed {self.seed} decides what is drawn. Scored by neuralcf {self.version}; baselines are fitted on the "
            "same training part.",
        ]
        return page.section("Protocol", f"<ul>{''.join(f'<li>{escape(point)}</li>' for point in points)}</ul>")

    def _configuration(self) -> str:
        told = page.stored_json(self.config) if self.config else page.paragraph("The model has no config.json.")
        return page.section("Configuration", told)

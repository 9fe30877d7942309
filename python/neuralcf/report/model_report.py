"""The report on a trained model: training, metrics beside baselines, popularity, calibration, sample lists."""

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
from neuralcf.report.stages import Stages
from neuralcf.report.training import History, training_section

__all__ = ["ModelReport"]


@dataclass(frozen=True)
class ModelReport:
    """The content of the report; `html()` renders the page."""

    name: str
    """Name of the model."""
    sizes: tuple[int, int]
    """Number of users and of items."""
    version: str
    """Version of NeuralCF that made the report."""
    data: str
    """Name of the file of interactions."""
    guarantee: str
    """How the data were split, in a sentence."""
    notes: Sequence[str]
    """What was skipped, for the user to know; part of `guarantee`."""
    seed: int
    """Random seed of all samples."""
    history: History | Stages | None
    comparison: Comparison
    popularity: PopularityShares
    scores: Scores
    lists: Lists
    config: Mapping[str, Any]
    """Content of config.json; empty if there is none."""

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
            f"{self.comparison.rankers[0]} model of {users:,} users and {items:,} items, evaluated on "
            f"{one.held_out:,} held-out interactions of {len(one.users):,} users in {self.data}."
        )

    def _tiles(self) -> list[tuple[str, str]]:
        """Return the headline figures: a metric of each protocol with the best baseline, coverage, calibration."""
        k, tiles = self.popularity.k, []
        for metric, among in zip((f"NDCG@{k}", f"HR@{k}"), self.comparison.evaluations, strict=True):
            (_, model), *baselines = self.comparison.evaluations[among].items()
            best = max(baselines, key=lambda baseline: baseline[1].means[metric], default=None)
            beside = "" if best is None else f"; {best[0]}: {best[1].means[metric]:.3f}"
            tiles.append((f"{model.means[metric]:.3f}", f"{metric} among {among}{beside}"))
        error = 100 * self.scores.calibration.error
        return [
            *tiles,
            (f"{self.popularity.coverage:.1%}", f"of the catalogue is in at least one user's top {k}"),
            (f"{error:.1f} points", "expected calibration error of the probabilities"),
        ]

    def _protocol(self) -> str:
        points = [f"Data: {self.data}.", f"Split: {self.guarantee}."]
        for among, rankers in self.comparison.evaluations.items():
            points.append(f"{among[0].upper()}{among[1:]}: {next(iter(rankers.values())).protocol}.")
        points += [
            "Rank: the number of other items that score at least as high. Among all items, the held-out items of a "
            "user are ranked in one list; among candidates, each in a list of its own.",
            "Intervals: 95%, mean ± 1.96 s / √users, with the users as a sample of a larger population.",
            f"Random seed of all samples: {self.seed}. Scored by neuralcf {self.version}. Baselines are fitted on the "
            "same training set.",
        ]
        return page.section("Protocol", f"<ul>{''.join(f'<li>{escape(point)}</li>' for point in points)}</ul>")

    def _configuration(self) -> str:
        content = page.stored_json(self.config) if self.config else page.paragraph("The model has no config.json.")
        return page.section("Configuration", content)

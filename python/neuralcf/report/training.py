"""The training history of a model, as recorded in its config.json.

Other programs may have written that file, so a history with an invalid record counts as missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from neuralcf.report import page
from neuralcf.report.charts import ACCENT, FAINT, INK, MUTED, legend, panels
from neuralcf.report.stages import Stages

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Epoch", "History", "training_section"]


@dataclass(frozen=True)
class Epoch:
    """Loss and validation metrics of one epoch."""

    stage: str
    """Which model was trained."""
    loss: float
    hr: float | None
    """Validation HR@10; None without validation."""
    ndcg: float | None
    """Validation NDCG@10; None without validation."""


@dataclass(frozen=True)
class History:
    """The epochs of a training run, at least one, and which of them was kept."""

    stages: tuple[tuple[Epoch, ...], ...]
    """The epochs of each stage, in order."""

    best_epoch: int | None
    """Epoch of the kept weights within the last stage, from 1; 0 for that stage's initial weights; None if unknown."""

    loss: str
    """Name of the loss."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> History | None:
        """Read the history from what `read_config` returns; None if there is no valid history."""
        epochs = [_epoch(record) for record in config.get("history", [])]
        known = [epoch for epoch in epochs if epoch is not None]
        if not known or len(known) < len(epochs):
            return None
        stages = tuple(tuple(stage) for _, stage in groupby(known, key=lambda epoch: epoch.stage))
        training = config.get("training", {})
        best = training.get("best_epoch")
        within = isinstance(best, int) and 0 <= best <= len(stages[-1])
        loss = "binary cross-entropy" if training.get("trainer") == "ncf" else "loss"
        return cls(stages, best if within else None, loss)

    @property
    def validated(self) -> bool:
        """Whether any epoch was measured on the validation set; epochs of a refit are not."""
        return any(epoch.hr is not None and epoch.ndcg is not None for stage in self.stages for epoch in stage)

    @property
    def kept_at(self) -> float | None:
        """Position of the kept weights on the axis of epochs, counted from 1 through all stages."""
        if self.best_epoch is None:
            return None
        return sum(len(stage) for stage in self.stages[:-1]) + (self.best_epoch or 0.5)

    def caption(self) -> str:
        """Describe the curves, and which epoch was kept."""
        text = f"Training loss: mean {self.loss} over the pairs of each epoch."
        if self.validated:
            text += (
                " Validation: HR@10 and NDCG@10 of one held-out interaction of each user, ranked among 1 + 99 "
                "candidates."
            )
            if self.stages[-1][0].hr is None:
                text += " The model was then retrained for the best number of epochs with these included."
        else:
            text += " There was no validation set."
        last, staged = self.stages[-1][0].stage, len(self.stages) > 1
        if self.best_epoch == 0:
            text += f" No epoch of {last} ranked better than its initial weights, which were kept (dotted line)."
        elif self.best_epoch is not None:
            text += f" The weights of epoch {self.best_epoch}{f' of {last}' if staged else ''} were kept (dotted line)."
        return text

    def draw(self, figure: Figure) -> None:
        """Draw the loss and, with validation, the metrics on the validation set over all epochs."""
        from matplotlib.ticker import MaxNLocator

        axes = panels(figure, 2 if self.validated else 1)
        self._draw_curve(axes[0], [[epoch.loss for epoch in stage] for stage in self.stages], ACCENT)
        axes[0].set_ylabel("training loss")
        if self.validated:
            for label, name, colour in (("HR@10", "hr", ACCENT), ("NDCG@10", "ndcg", MUTED)):
                values = [[_or_gap(getattr(epoch, name)) for epoch in stage] for stage in self.stages]
                self._draw_curve(axes[1], values, colour, label)
            axes[1].set_ylabel("validation")
            axes[1].set_ylim(bottom=0)
            legend(axes[1])
        for one in axes:
            one.set_xlabel("epoch")
            one.xaxis.set_major_locator(MaxNLocator(integer=True))
            self._mark_stages(one)

    def _draw_curve(self, axes: Axes, values: Sequence[Sequence[float]], colour: str, label: str | None = None) -> None:
        """Draw one line per stage, one after the other."""
        start = 1
        for stage in values:
            numbers = range(start, start + len(stage))
            axes.plot(numbers, stage, color=colour, linewidth=2, marker="o", markersize=3, label=label)
            start, label = start + len(stage), None

    def _mark_stages(self, axes: Axes) -> None:
        """Separate and name the stages, and mark the kept epoch."""
        start = 0
        for stage in self.stages:
            if start:
                axes.axvline(start + 0.5, color=FAINT, linewidth=1.5)
            if len(self.stages) > 1:
                # Vertical, at the lower left: fits a stage of one epoch and stays clear of where the curves start.
                name = stage[0].stage[:12].replace("$", r"\$")
                text = axes.text(start + 0.6, 0.03, name, transform=axes.get_xaxis_transform(), color=INK)
                text.set(rotation=90, horizontalalignment="left", verticalalignment="bottom", fontsize="small")
            start += len(stage)
        if self.kept_at is not None:
            axes.axvline(self.kept_at, color=INK, linewidth=1, linestyle=(0, (1, 2)))


def training_section(history: History | Stages | None) -> str:
    """Render the section; without a history it says so."""
    if isinstance(history, Stages):
        return history.html()
    if history is None:
        return page.section(
            "Training", page.paragraph("The model does not record how it was trained: it has no history of epochs.")
        )
    size = {"wide": (7.4, 2.9), "narrow": (4.0, 4.8)} if history.validated else {}
    return page.section("Training", page.chart("Training", history.draw, **size), page.paragraph(history.caption()))


def _epoch(record: object) -> Epoch | None:
    if not isinstance(record, dict):
        return None
    stage = record.get("stage")
    loss, hr, ndcg = (_number(record.get(name)) for name in ("loss", "validation_hr", "validation_ndcg"))
    if not isinstance(stage, str) or loss is None:
        return None
    return Epoch(stage, loss, hr, ndcg)


def _or_gap(value: float | None) -> float:
    return math.nan if value is None else value


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

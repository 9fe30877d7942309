"""The demo's report: training, the model beside popularity, timings beside torch, sample lists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from neuralcf.experiment import Metric
from neuralcf.report import page
from neuralcf.report.charts import ACCENT, INK, MUTED, legend, panels, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DemoReport", "TasteList", "Timing"]


@dataclass(frozen=True)
class Timing:
    """Milliseconds for the top ten of one user, minima over the repeats."""

    what: str
    """Label of the model in the chart."""
    num_items: int
    scorer_ms: float
    torch_ms: float


@dataclass(frozen=True)
class TasteList:
    """A user's taste, history and recommendations."""

    taste: str
    history: Sequence[str]
    """Titles, latest first."""
    recommended: Sequence[tuple[str, float, bool]]
    """Title, probability, and whether it is of a genre that the user likes; best first."""


@dataclass(frozen=True)
class DemoReport:
    """The content of the report; `html()` renders the page."""

    data: str
    epochs: Sequence[tuple[float, float | None]]
    """Training loss and validation HR@10 (None without validation) of each epoch."""
    best_epoch: int
    """Epoch of the kept weights, from 1."""
    metrics: Sequence[Metric]
    timings: Sequence[Timing]
    lists: Sequence[TasteList]
    largest_difference: float
    """Largest |logit - float64 logit of torch| / max(1, |logit|)."""
    pairs_compared: int
    machine: str
    config: Mapping[str, Any]
    """Content of the model's config.json."""

    def html(self) -> str:
        """Render the page."""
        best, slow = self.metrics[0], self.timings[-1]
        tiles = [
            (f"{best.value:.2f}", f"{best.name} among {best.among}; popularity: {best.popularity:.2f}"),
            (f"{slow.scorer_ms:.2f} ms", f"top ten of {slow.num_items:,} items; torch: {slow.torch_ms:.1f} ms"),
            (f"{slow.torch_ms / slow.scorer_ms:.0f}x", "faster than torch in the same process"),
            (f"{self.largest_difference:.0e}", f"largest difference from torch, {self.pairs_compared:,} pairs"),
        ]
        return page.render(
            "NeuralCF demo",
            "<header><h1>NeuralCF demo</h1>",
            page.paragraph(f"{self.data} NeuMF, trained in PyTorch, exported as safetensors, served from Rust."),
            "</header>",
            page.tiles(tiles),
            page.section(
                "Training", page.chart("Training", self._training_chart), page.paragraph(self._training_caption())
            ),
            page.section(
                "Beside popularity", page.chart("Beside popularity", self._comparison_chart), self._protocols()
            ),
            page.section(
                "Time for the top ten of one user",
                page.chart("Time for the top ten of one user", self._timing_chart),
                page.paragraph(self.machine),
            ),
            page.section(
                "Sample lists",
                page.paragraph(
                    "Each user likes a few genres, which the model does not see. ✓ marks items of these genres."
                ),
                '<div class="lists">',
                *(_list(taste) for taste in self.lists),
                "</div>",
            ),
            page.section("Configuration", page.stored_json(self.config)),
        )

    def _training_caption(self) -> str:
        text = "Mean binary cross-entropy over the pairs of each epoch."
        if self.epochs[self.best_epoch - 1][1] is not None:
            text += f" The weights of epoch {self.best_epoch}, the best on the validation set, were kept."
        return text

    def _protocols(self) -> str:
        head = ("metric", "NeuMF", "popularity", "protocol")
        rows = [(each.name, f"{each.value:.4f}", f"{each.popularity:.4f}", each.protocol) for each in self.metrics]
        return page.table(head, rows)

    def _training_chart(self, figure: "Figure") -> None:
        from matplotlib.ticker import MaxNLocator

        (axes,) = panels(figure)
        numbers = range(1, len(self.epochs) + 1)
        axes.plot(numbers, [loss for loss, _ in self.epochs], color=ACCENT, linewidth=2, label="training loss")
        axes.axvline(self.best_epoch, color=INK, linewidth=1, linestyle=(0, (1, 2)))
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        lines = axes.get_lines()[:1]
        ratios = [ratio for _, ratio in self.epochs if ratio is not None]
        if len(ratios) == len(self.epochs):
            right = style(axes.twinx())
            lines += right.plot(numbers, ratios, color=MUTED, linewidth=2, dashes=(4, 2), label="validation HR@10")
            right.set_ylabel("HR@10")
            right.grid(visible=False)
        legend(axes, handles=lines)

    def _comparison_chart(self, figure: "Figure") -> None:
        (axes,) = panels(figure)
        for offset, colour, label, values in (
            (-0.19, ACCENT, "NeuMF", [metric.value for metric in self.metrics]),
            (0.19, MUTED, "popularity", [metric.popularity for metric in self.metrics]),
        ):
            at = [n + offset for n in range(len(self.metrics))]
            bars = axes.bar(at, values, width=0.34, color=colour, label=label)
            axes.bar_label(bars, fmt="%.2f", color=INK, padding=2)
        labels = [f"{metric.name}\n{metric.among}" for metric in self.metrics]
        axes.set_xticks(range(len(labels)), labels)
        axes.set_ylim(0, 1.15 * max(max(metric.value, metric.popularity) for metric in self.metrics))
        axes.grid(visible=False, axis="x")
        legend(axes)

    def _timing_chart(self, figure: "Figure") -> None:
        (axes,) = panels(figure)
        for offset, colour, label, values in (
            (-0.19, ACCENT, "NeuralCF (Rust)", [t.scorer_ms for t in self.timings]),
            (0.19, MUTED, "torch, eager", [t.torch_ms for t in self.timings]),
        ):
            at = [n + offset for n in range(len(self.timings))]
            bars = axes.barh(at, values, height=0.34, color=colour, label=label)
            axes.bar_label(bars, labels=[f"{value:.3g} ms" for value in values], color=INK, padding=4)
        axes.set_yticks(range(len(self.timings)), [t.what for t in self.timings])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlim(min(t.scorer_ms for t in self.timings) / 3, 12 * max(t.torch_ms for t in self.timings))
        axes.set_xlabel("milliseconds, logarithmic scale")
        axes.grid(visible=False, axis="y")
        legend(axes)


def _list(taste: TasteList) -> str:
    history = ", ".join(escape(title) for title in taste.history)
    return (
        f"<article><h3>{escape(taste.taste)}</h3><p><b>Latest items:</b> {history}</p>"
        f"{page.ranked_list(taste.recommended)}</article>"
    )

"""The demo's report: both models beside popularity, how they were trained, timings beside torch, sample lists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from neuralcf.experiment import Metric
from neuralcf.report import page
from neuralcf.report.charts import ACCENT, INK, MUTED, SERIES, legend, panels, style
from neuralcf.report.stages import Stages

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Contender", "DemoReport", "TasteList", "Timing"]


@dataclass(frozen=True)
class Contender:
    """A model that was trained, and how it ranks the held-out items."""

    preset: str
    seconds: float
    """Time for training and evaluating it."""
    metrics: Sequence[Metric]


@dataclass(frozen=True)
class Timing:
    """Milliseconds for the top ten of one user, minima over the repeats."""

    kind: str
    """`GMF` or `NeuMF`."""
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
    contenders: Sequence[Contender]
    """The model of the preset `fast`, then NeuMF."""
    epochs: Sequence[tuple[float, float | None]]
    """NeuMF's training loss and validation HR@10 (None without validation) of each epoch."""
    best_epoch: int
    """NeuMF's epoch of the kept weights, from 1."""
    timings: Sequence[Timing]
    lists: Sequence[TasteList]
    largest_difference: float
    """Largest |logit - float64 logit of torch| / max(1, |logit|)."""
    pairs_compared: int
    machine: str
    config: Mapping[str, Any]
    """Content of the config.json of the model of `fast`."""

    def html(self) -> str:
        """Render the page."""
        fast, neumf = (each.metrics[0] for each in self.contenders)
        dot, network = self.timings[-2:]
        stages = Stages.of(self.config)
        tiles = [
            (f"{fast.value:.2f}", f"{fast.name} among {fast.among} by fast; popularity: {fast.popularity:.2f}"),
            (f"{neumf.value:.2f}", f"the same by NeuMF, in {self.contenders[1].seconds:.0f} s"),
            (f"{dot.scorer_ms:.2f} ms", f"top ten of {dot.num_items:,} items by GMF; torch: {dot.torch_ms:.1f} ms"),
            (f"{network.scorer_ms:.2f} ms", f"the same by NeuMF; torch: {network.torch_ms:.1f} ms"),
            (f"{self.largest_difference:.0e}", f"largest difference from torch, {self.pairs_compared:,} pairs"),
        ]
        return page.render(
            "NeuralCF demo",
            "<header><h1>NeuralCF demo</h1>",
            page.paragraph(
                f"{self.data} Two models are trained on them: by the preset fast a GMF, which is a dot product "
                "distilled from several teachers, and by gradient descent the paper's NeuMF. Both are exported as "
                "safetensors and served from Rust."
            ),
            "</header>",
            page.tiles(tiles),
            page.section("Side by side", page.chart("Side by side", self._comparison_chart), self._comparison()),
            stages.html() if stages else "",
            page.section(
                "Training NeuMF", page.chart("Training NeuMF", self._training_chart), page.paragraph(self._caption())
            ),
            page.section(
                "Time for the top ten of one user",
                page.chart("Time for the top ten of one user", self._timing_chart),
                page.paragraph(self.machine),
            ),
            page.section(
                "Sample lists",
                page.paragraph(
                    "By fast. Each user likes a few genres, which the model does not see. ✓ marks items of these."
                ),
                '<div class="lists">',
                *(_list(taste) for taste in self.lists),
                "</div>",
            ),
            page.section("Configuration", page.stored_json(self.config)),
        )

    def _caption(self) -> str:
        text = "Mean binary cross-entropy over the pairs of each epoch."
        if self.best_epoch and self.epochs[self.best_epoch - 1][1] is not None:
            text += f" The weights of epoch {self.best_epoch}, the best on the validation set, were kept."
        return text

    def _comparison(self) -> str:
        fast, neumf = self.contenders
        rows = [
            (a.name, f"{a.value:.4f}", f"{b.value:.4f}", f"{a.popularity:.4f}", a.protocol)
            for a, b in zip(fast.metrics, neumf.metrics, strict=True)
        ]
        seconds = ("seconds", f"{fast.seconds:.1f}", f"{neumf.seconds:.1f}", "", "training and evaluation, one thread")
        table = page.table(("metric", "fast", "NeuMF", "popularity", "protocol"), [*rows, seconds])
        return table + page.paragraph(
            "One data set, one seed: a demonstration, not a verdict. The data were made with a taste to find."
        )

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
        fast, neumf = self.contenders
        labelled = [
            ("fast", [metric.value for metric in fast.metrics]),
            ("NeuMF", [metric.value for metric in neumf.metrics]),
            ("popularity", [metric.popularity for metric in fast.metrics]),
        ]
        for n, (label, values) in enumerate(labelled):
            at = [place + 0.27 * (n - 1) for place in range(len(values))]
            bars = axes.bar(at, values, width=0.25, color=SERIES[n], label=label)
            axes.bar_label(bars, fmt="%.2f", color=INK, padding=2)
        axes.set_xticks(range(len(fast.metrics)), [f"{metric.name}\n{metric.among}" for metric in fast.metrics])
        axes.set_ylim(0, 1.15 * max(value for _, values in labelled for value in values))
        axes.grid(visible=False, axis="x")
        legend(axes, ncols=3)

    def _timing_chart(self, figure: "Figure") -> None:
        (axes,) = panels(figure)
        for offset, colour, label, values in (
            (-0.19, ACCENT, "NeuralCF (Rust)", [t.scorer_ms for t in self.timings]),
            (0.19, MUTED, "torch, eager", [t.torch_ms for t in self.timings]),
        ):
            at = [n + offset for n in range(len(self.timings))]
            bars = axes.barh(at, values, height=0.34, color=colour, label=label)
            axes.bar_label(bars, labels=[f"{value:.3g} ms" for value in values], color=INK, padding=4)
        axes.set_yticks(range(len(self.timings)), [f"{t.kind},\n{t.num_items:,} items" for t in self.timings])
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

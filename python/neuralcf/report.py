"""The demo's report: one HTML file with its pictures inside, readable offline, by day and by night, wide and narrow."""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Comparison", "Report", "TasteList", "Timing", "require_matplotlib"]


@dataclass(frozen=True)
class Comparison:
    """A metric of the model beside that of popularity."""

    name: str
    among: str
    """What held-out items are ranked among, in two words."""
    protocol: str
    model: float
    popularity: float


@dataclass(frozen=True)
class Timing:
    """Milliseconds for the top ten of one user, the minimum over the repeats."""

    what: str
    num_items: int
    scorer_ms: float
    torch_ms: float


@dataclass(frozen=True)
class TasteList:
    """What a user likes, has, and is recommended."""

    taste: str
    history: Sequence[str]
    """Titles, the latest first."""
    recommended: Sequence[tuple[str, float, bool]]
    """Title, probability, whether it is of a genre that the user likes; the best first."""


@dataclass(frozen=True)
class Report:
    """What the demo found out; `html()` is the page."""

    data: str
    epochs: Sequence[tuple[float, float | None]]
    """Training loss and validation HR@10 (None without validation) of each epoch."""
    best_epoch: int
    """Which epoch's weights were kept, from 1."""
    comparisons: Sequence[Comparison]
    timings: Sequence[Timing]
    lists: Sequence[TasteList]
    largest_difference: float
    """Largest |logit - float64 logit of torch| / max(1, |logit|)."""
    pairs_compared: int
    machine: str
    config: Mapping[str, Any]
    """What config.json of the model holds."""

    def html(self) -> str:
        """Render the page."""
        best, slow = self.comparisons[0], self.timings[-1]
        tiles = [
            (f"{best.model:.2f}", f"{best.name} among {best.among}, popularity {best.popularity:.2f}"),
            (f"{slow.scorer_ms:.2f} ms", f"a top ten of {slow.num_items:,} items, torch {slow.torch_ms:.1f} ms"),
            (f"{slow.torch_ms / slow.scorer_ms:.0f}x", "faster than torch in the same process"),
            (f"{self.largest_difference:.0e}", f"largest difference from torch, {self.pairs_compared:,} pairs"),
        ]
        body = [
            "<header><h1>NeuralCF demo</h1>",
            f"<p>{escape(self.data)} A NeuMF trained in PyTorch, written as safetensors, served from Rust.</p>",
            "</header>",
            '<section class="tiles">',
            *(f"<div><b>{value}</b><span>{escape(text)}</span></div>" for value, text in tiles),
            "</section>",
            _section("Training", self._training_chart, f"<p>{self._training_caption()}</p>"),
            _section("Against popularity", self._comparison_chart, self._protocols()),
            _section("Time for the top ten of one user", self._timing_chart, f"<p>{escape(self.machine)}</p>"),
            "<section><h2>Lists to read</h2>",
            "<p>Users like a few genres; the model was never told which. A mark means a genre that the user likes.</p>",
            '<div class="lists">',
            *(_list(taste) for taste in self.lists),
            "</div></section>",
            "<section><h2>Configuration</h2><details><summary>config.json of the model</summary>",
            f"<pre>{escape(json.dumps(self.config, indent=2))}</pre></details></section>",
        ]
        return _PAGE.replace("@BODY@", "\n".join(body))

    def _training_caption(self) -> str:
        text = "Mean binary cross-entropy over the pairs of each epoch."
        if self.epochs[self.best_epoch - 1][1] is not None:
            text += f" The weights of epoch {self.best_epoch}, best on validation interactions, were kept."
        return text

    def _protocols(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(c.name)}</td><td>{c.model:.4f}</td><td>{c.popularity:.4f}</td>"
            f"<td>{escape(c.protocol)}</td></tr>"
            for c in self.comparisons
        )
        head = "<tr><th>metric</th><th>NeuMF</th><th>popularity</th><th>protocol</th></tr>"
        return f'<div class="scroll"><table>{head}{rows}</table></div>'

    def _training_chart(self, figure: "Figure") -> None:
        from matplotlib.ticker import MaxNLocator

        axes = _axes(figure)
        numbers = range(1, len(self.epochs) + 1)
        axes.plot(numbers, [loss for loss, _ in self.epochs], color=_ACCENT, linewidth=2, label="training loss")
        axes.axvline(self.best_epoch, color=_INK, linewidth=1, linestyle=(0, (1, 2)))
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        lines = axes.get_lines()[:1]
        ratios = [ratio for _, ratio in self.epochs if ratio is not None]
        if len(ratios) == len(self.epochs):
            right = _style(axes.twinx())
            lines += right.plot(numbers, ratios, color=_MUTED, linewidth=2, dashes=(4, 2), label="validation HR@10")
            right.set_ylabel("HR@10")
            right.grid(visible=False)
        _legend(axes, handles=lines)

    def _comparison_chart(self, figure: "Figure") -> None:
        axes = _axes(figure)
        for offset, colour, label, values in (
            (-0.19, _ACCENT, "NeuMF", [c.model for c in self.comparisons]),
            (0.19, _MUTED, "popularity", [c.popularity for c in self.comparisons]),
        ):
            at = [n + offset for n in range(len(self.comparisons))]
            bars = axes.bar(at, values, width=0.34, color=colour, label=label)
            axes.bar_label(bars, fmt="%.2f", color=_INK, padding=2)
        labels = [f"{c.name}\n{c.among}" for c in self.comparisons]
        axes.set_xticks(range(len(labels)), labels)
        axes.set_ylim(0, 1.15 * max(max(c.model, c.popularity) for c in self.comparisons))
        axes.grid(visible=False, axis="x")
        _legend(axes)

    def _timing_chart(self, figure: "Figure") -> None:
        axes = _axes(figure)
        for offset, colour, label, values in (
            (-0.19, _ACCENT, "NeuralCF (Rust)", [t.scorer_ms for t in self.timings]),
            (0.19, _MUTED, "torch, eager", [t.torch_ms for t in self.timings]),
        ):
            at = [n + offset for n in range(len(self.timings))]
            bars = axes.barh(at, values, height=0.34, color=colour, label=label)
            axes.bar_label(bars, labels=[f"{value:.3g} ms" for value in values], color=_INK, padding=4)
        axes.set_yticks(range(len(self.timings)), [t.what for t in self.timings])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlim(min(t.scorer_ms for t in self.timings) / 3, 12 * max(t.torch_ms for t in self.timings))
        axes.set_xlabel("milliseconds, logarithmic scale")
        axes.grid(visible=False, axis="y")
        _legend(axes)


def require_matplotlib() -> None:
    """Raise an ImportError that tells what to install, before anything slow is done."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError("the report needs matplotlib: pip install 'neuralcf[plot]'") from error


def _section(title: str, draw: Callable[["Figure"], None], caption: str) -> str:
    """A chart drawn twice, for wide and for narrow screens; the page shows one."""
    name = title.split()[0].lower()
    charts = "".join(
        f'<figure class="{width}">{_svg(draw, size, f"{name}-{width}", title)}</figure>'
        for width, size in (("wide", (7.4, 2.9)), ("narrow", (4.0, 3.0)))
    )
    return f"<section><h2>{title}</h2>{charts}{caption}</section>"


def _list(taste: TasteList) -> str:
    rows = "".join(
        f'<li class="{"hit" if liked else "miss"}"><span>{escape(title)}</span>'
        f'<i style="--p:{probability:.4f}"></i><em>{probability:.2f}</em></li>'
        for title, probability, liked in taste.recommended
    )
    history = ", ".join(escape(title) for title in taste.history)
    return (
        f"<article><h3>{escape(taste.taste)}</h3><p><b>Lately:</b> {history}</p>"
        f'<ol aria-label="recommended">{rows}</ol></article>'
    )


# ------------------------------------------------------------------------------------------------------------- charts

# Colours that no chart has, replaced by the page's own, which differ by day and by night.
_INK, _FAINT, _ACCENT, _MUTED = "#010203", "#010204", "#010205", "#010206"
_PAGE_COLOURS = {_INK: "var(--ink)", _FAINT: "var(--faint)", _ACCENT: "var(--accent)", _MUTED: "var(--muted)"}


def _axes(figure: "Figure") -> "Axes":
    return _style(figure.add_subplot())


def _style(axes: "Axes") -> "Axes":
    axes.set_facecolor("none")
    axes.tick_params(colors=_INK, length=0, which="both")
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    axes.grid(color=_FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _legend(axes: "Axes", **options: Any) -> None:
    axes.legend(frameon=False, labelcolor=_INK, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, **options)


def _svg(draw: Callable[["Figure"], None], size: tuple[float, float], name: str, title: str) -> str:
    """Draw to SVG that belongs to the page: its colours, its font, ids of its own."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    figure.patch.set_alpha(0)
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 10}):
        draw(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{title}">', svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font: \1px var(--font)", svg)
    for colour, variable in _PAGE_COLOURS.items():
        svg = svg.replace(colour, variable)
    return svg


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>NeuralCF demo</title>
<style>
:root { --font: system-ui, sans-serif; --paper: #fbfaf8; --card: #ffffff; --ink: #1f2328; --soft: #5d646d;
        --faint: #dcdad5; --accent: #0b7a75; --muted: #b08d57; --miss: #b9bcc0; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181b; --card: #1d2125; --ink: #e7e9eb; --soft: #a2a9b1; --faint: #363c42;
          --accent: #45c4bc; --muted: #d0a968; --miss: #5b626a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
       font: 16px/1.55 var(--font); }
h1 { margin: 0; font-size: 2rem; letter-spacing: -0.02em; }
h2 { margin: 0 0 .75rem; font-size: 1.15rem; }
h3 { margin: 0 0 .35rem; font-size: 1rem; }
header p, section > p, article p { margin: .25rem 0 .75rem; color: var(--soft); }
section { margin-top: 1.5rem; padding: 1.25rem; background: var(--card); border: 1px solid var(--faint);
          border-radius: 10px; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1rem; }
.tiles b { display: block; font-size: 1.7rem; line-height: 1.2; color: var(--accent); }
.tiles span { color: var(--soft); font-size: .875rem; }
figure { margin: 0; }
figure.narrow { display: none; }
figure svg { display: block; width: 100%; max-width: 46rem; height: auto; margin: 0 auto; }
.scroll { overflow-x: auto; }
.scroll table { min-width: 34rem; }
table { width: 100%; border-collapse: collapse; font-size: .875rem; }
th, td { padding: .35rem .6rem .35rem 0; text-align: left; vertical-align: top; border-top: 1px solid var(--faint); }
th { border: 0; color: var(--soft); font-weight: 600; }
td { font-variant-numeric: tabular-nums; }
.lists { display: grid; grid-template-columns: repeat(2, 1fr); gap: 1.75rem; }
article p { font-size: .875rem; }
ol { margin: 0; padding: 0; list-style: none; font-size: .9rem; }
li { display: grid; grid-template-columns: 1rem minmax(0, 11rem) 1fr 2.5rem; gap: .4rem; align-items: center; }
li::before { content: ""; }
li.hit::before { content: "\\2713"; color: var(--accent); }
li i { height: .5rem; border-radius: 4px;
       background: linear-gradient(to right, var(--bar) calc(var(--p) * 100%), var(--faint) 0); --bar: var(--miss); }
li.hit i { --bar: var(--accent); }
li em { font-style: normal; text-align: right; color: var(--soft); font-variant-numeric: tabular-nums; }
pre { overflow-x: auto; font-size: .8rem; }
summary { cursor: pointer; color: var(--soft); }
@media (max-width: 42rem) {
  body { padding: 1.25rem .75rem 3rem; }
  section { padding: 1rem; }
  .tiles, .lists { grid-template-columns: 1fr; }
  .tiles b { font-size: 1.4rem; }
  figure.wide { display: none; }
  figure.narrow { display: block; }
}
</style>
</head>
<body>
@BODY@
</body>
</html>
"""

"""A plot of a run of `curves.py`: recall against time, a panel for each catalogue and k."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benches.peers.record import OURS

COLOURS = {
    OURS: "#c2410c",
    "hnswlib": "#1e3a5f",
    "faiss HNSW": "#5b8db8",
    "faiss IVF-PQ": "#a9c7e4",
    "usearch": "#3f6b4f",
}
EXACT = "#c2410c"
LEAST_MISSED = 3e-4
"""A recall of 1 is drawn here: the axis shows the share that is missed."""


def plot(points: list[Any], caption: str, path: Path) -> None:
    """Draw microseconds against the share of the exact list that is missed; the suffix determines the file type."""
    panels = list(dict.fromkeys((point.catalogue, point.k) for point in points))
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "neuralcf", "font.size": 9}):
        figure = Figure(figsize=(5.5 * columns, 3.1 * lines + 0.9), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(lines, columns, squeeze=False)
        for axis, (name, k) in zip(axes.flat, panels, strict=False):
            draw(axis, [point for point in points if (point.catalogue, point.k) == (name, k)])
            axis.set_title(f"{name} items, top-{k}", loc="left", fontsize=10)
        for axis in list(axes.flat)[len(panels) :]:
            axis.set_visible(False)
        handles = [mpl.lines.Line2D([], [], color=colour, marker="o", markersize=3, label=name)
                   for name, colour in COLOURS.items() if any(point.engine == name for point in points)]  # fmt: skip
        handles.append(mpl.lines.Line2D([], [], color=EXACT, linestyle=":", label=f"{OURS}, exact"))
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
        text = f"{caption}; microseconds a user alone against the share of the exact list found, lower right is better"
        figure.supxlabel(text, x=0.01, ha="left", fontsize=8, color="#555555")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def draw(axes: Any, points: list[Any]) -> None:
    """Draw the curves of one panel, and the exact search as a line across."""
    for name, colour in COLOURS.items():
        curve = sorted((point for point in points if point.engine == name), key=lambda point: point.recall)
        missed = [max(1 - point.recall, LEAST_MISSED) for point in curve]
        axes.plot(missed, [1e6 * point.seconds for point in curve], color=colour, marker="o", markersize=3, linewidth=1)
    exact = next(point for point in points if point.engine == f"{OURS}, exact")
    axes.axhline(1e6 * exact.seconds, color=EXACT, linestyle=":", linewidth=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(0.3, LEAST_MISSED)
    axes.set_xticks([0.1, 0.05, 0.01, 0.001], ["0.9", "0.95", "0.99", "0.999"])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)

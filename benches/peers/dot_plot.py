"""A plot of a run of `dots.py`: one panel per kind of query, bars by engine, logarithmic time."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benches.peers.record import OURS, milliseconds

COLOURS = {
    OURS: "#c2410c",
    "faiss flat": "#1e3a5f",
    "faiss SQ8": "#a9c7e4",
    "usearch exact": "#3f6b4f",
    "implicit": "#8fbf9f",
    "torch": "#b9a5d6",
}


def plot(times: list[Any], caption: str, path: Path) -> None:
    """Draw the mean times; the suffix of `path` determines the file type."""
    panels = list(dict.fromkeys((each.users, each.k) for each in times))
    columns = 2 if len(panels) > 1 else 1
    lines = -(-len(panels) // columns)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "neuralcf", "font.size": 9}):
        figure = Figure(figsize=(9.0 * columns, 3.4 * lines + 0.9), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(lines, columns, squeeze=False).flat
        for axis, (users, k) in zip(axes, sorted(panels), strict=False):
            draw(axis, [each for each in times if (each.users, each.k) == (users, k)])
            axis.set_title(f"top-{k}, {users} user{'s' * (users > 1)}", loc="left", fontsize=10)
        patches = [mpl.patches.Patch(color=colour, label=name) for name, colour in COLOURS.items()
                   if any(each.engine == name for each in times)]  # fmt: skip
        figure.legend(handles=patches, loc="outside upper center", ncols=len(patches), frameon=False)
        text = f"{caption}; milliseconds, log scale, lower is better; faiss SQ8 is approximate"
        figure.supxlabel(text, x=0.01, ha="left", fontsize=8, color="#555555")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def draw(axes: Axes, times: list[Any]) -> None:
    """Draw the bars of one panel, grouped by set and width; NeuralCF's bars show their time."""
    groups = list(dict.fromkeys((each.data, each.factors) for each in times))
    engines = [name for name in COLOURS if any(each.engine == name for each in times)]
    width = 0.86 / len(engines)
    for each in times:
        offset = (engines.index(each.engine) - (len(engines) - 1) / 2) * width
        at = groups.index((each.data, each.factors)) + offset
        axes.bar(at, each.mean * 1e3, width * 0.92, color=COLOURS[each.engine])
        if each.engine == OURS:
            axes.annotate(milliseconds(each.mean), (at, each.mean * 1e3), (0, 2), textcoords="offset points",
                          ha="center", fontsize=7, color=COLOURS[OURS])  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.12)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_xticks(range(len(groups)), [f"{data}\nd = {factors}" for data, factors in groups], fontsize=7)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)

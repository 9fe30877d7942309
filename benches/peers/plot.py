"""A plot of a run: one panel per shape and kind of query, bars by engine, logarithmic time."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benches.peers.record import OURS, Cell, Record, counted, milliseconds

COLOURS = {
    OURS: "#c2410c",
    "torch eager": "#1e3a5f",
    "torch.compile": "#3b6ea5",
    "torch eager, split": "#6f9bc8",
    "torch.compile, split": "#a9c7e4",
    "ONNX Runtime": "#3f6b4f",
    "ONNX Runtime, split": "#8fbf9f",
    "OpenVINO, split": "#b9a5d6",
}


def plot(record: Record, path: Path) -> None:
    """Draw the minima at the largest number of threads; the suffix of `path` determines the file type."""
    threads = max(cell.threads for cell in record.cells)
    cells = [cell for cell in record.cells if cell.threads == threads]
    panels = list(dict.fromkeys((cell.shape, panel(cell)) for cell in cells))
    columns = list(dict.fromkeys(name for _, name in panels))
    shapes = list(dict.fromkeys(shape for shape, _ in panels))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "neuralcf", "font.size": 9}):
        figure = Figure(figsize=(4.6 * len(columns), 3.2 * len(shapes) + 0.9), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(shapes), len(columns), squeeze=False)
        for row, shape in enumerate(shapes):
            for column, name in enumerate(columns):
                draw(axes[row, column], [cell for cell in cells if (cell.shape, panel(cell)) == (shape, name)])
                axes[row, column].set_title(f"{shape}: {name}", loc="left", fontsize=10)
            axes[row, 0].set_ylabel("milliseconds, minimum (log scale)")
        legend(figure, [name for name in COLOURS if any(cell.engine == name for cell in cells)], threads, record)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def panel(cell: Cell) -> str:
    return f"top-10, {counted(cell.size, 'user')}" if cell.kind == "top-10" else "pairs"


def draw(axes: Axes, cells: list[Cell]) -> None:
    """Draw the bars of one panel, grouped by size; NeuralCF's bars show their time."""
    sizes = list(dict.fromkeys(position(cell) for cell in cells))
    engines = [name for name in COLOURS if any(cell.engine == name for cell in cells)]
    width = 0.86 / max(1, len(engines))
    for cell in cells:
        at = sizes.index(position(cell)) + (engines.index(cell.engine) - (len(engines) - 1) / 2) * width
        axes.bar(at, cell.minimum * 1e3, width * 0.92, color=COLOURS[cell.engine])
        if cell.engine == OURS:
            right = (at + width / 2, cell.minimum * 1e3)
            text = milliseconds(cell.minimum)
            axes.annotate(text, right, (0, 2), textcoords="offset points", ha="right", fontsize=7, color=COLOURS[OURS])
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.12)
    axes.set_xlim(-0.75, len(sizes) - 0.5)
    kind = "items" if cells and cells[0].kind == "top-10" else "pairs"
    axes.set_xticks(range(len(sizes)), [f"{size:,}" for size in sizes])
    axes.set_xlabel(kind)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def position(cell: Cell) -> int:
    return cell.items if cell.kind == "top-10" else cell.size


def legend(figure: Figure, names: list[str], threads: int, record: Record) -> None:
    patches = [mpl.patches.Patch(color=COLOURS[name], label=name) for name in names]
    columns = max(3, int(figure.get_figwidth() / 1.7))
    figure.legend(handles=patches, loc="outside upper center", ncols=columns, frameon=False, fontsize=9)
    machine = f"{record.machine['processor']}; {counted(threads, 'thread')}; {record.machine['date']}"
    figure.supxlabel(f"{machine}; lower is better", x=0.01, ha="left", fontsize=8, color="#555555")

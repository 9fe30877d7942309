"""Charts as SVG for embedding in a page, with the page's font and its colours for light and dark mode."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "ACCENT",
    "FAINT",
    "INK",
    "MUTED",
    "SERIES",
    "Draw",
    "legend",
    "panels",
    "require_matplotlib",
    "style",
    "svg",
]

Draw: TypeAlias = Callable[["Figure"], None]
"""Draws onto an empty figure, wide or narrow."""

# Placeholder colours; `svg` replaces them by the page's CSS variables, which differ between light and dark mode.
INK, FAINT, ACCENT, MUTED, THIRD, FOURTH = (f"#01020{n}" for n in range(3, 9))
_PAGE_COLOURS: Final = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    ACCENT: "var(--accent)",
    MUTED: "var(--muted)",
    THIRD: "var(--third)",
    FOURTH: "var(--fourth)",
}
SERIES: Final = (ACCENT, MUTED, THIRD, FOURTH)
"""Colours of a chart's series, in order; the first one is the model's."""


def require_matplotlib() -> None:
    """Check for matplotlib before any slow work.

    Raises:
        ImportError: matplotlib is missing; the message says what to install.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError("the report needs matplotlib: pip install 'neuralcf[plot]'") from error


def panels(figure: Figure, count: int = 1, *, side_by_side: bool = True, **options: Any) -> Sequence[Axes]:
    """Divide a figure into panels: side by side if it is wide and `side_by_side` is true, stacked otherwise."""
    across = side_by_side and figure.get_figwidth() > 5
    rows, columns = (1, count) if across else (count, 1)
    return [style(axes) for axes in figure.subplots(rows, columns, squeeze=False, **options).flat]


def style(axes: Axes) -> Axes:
    """Remove frame, ticks and background, and apply the page's colours."""
    axes.set_facecolor("none")
    axes.tick_params(colors=INK, length=0, which="both")
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.title.set_color(INK)
    axes.grid(color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def legend(axes: Axes, **options: Any) -> None:
    """Place the legend above the axes."""
    placed = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": 2, **options}
    axes.legend(frameon=False, labelcolor=INK, **placed)


def svg(draw: Draw, size: tuple[float, float], name: str, title: str) -> str:
    """Render a chart as an SVG element.

    Args:
        draw: draws the chart.
        size: width and height in inches; the font size is 10 points.
        name: prefix of all ids, unique within the page; letters, digits and hyphens.
        title: what the chart shows, for screen readers.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    figure.patch.set_alpha(0)
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 10}):
        draw(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", drawn)
    label = escape(title)
    drawn = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
        lambda match: f'<svg viewBox="{match[1]}" role="img" aria-label="{label}">',
        drawn,
    )
    drawn = drawn.replace("xlink:href", "href")
    drawn = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font: \1px var(--font)", drawn)
    for colour, variable in _PAGE_COLOURS.items():
        drawn = drawn.replace(colour, variable)
    return drawn

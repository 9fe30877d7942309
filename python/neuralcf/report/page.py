"""The HTML elements of all reports: the page, its sections, and the charts, tables and lists in them.

Every function returns HTML and escapes its arguments, except those documented as HTML.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from neuralcf.report.charts import Draw, svg

__all__ = [
    "Entry",
    "chart",
    "details",
    "paragraph",
    "ranked_list",
    "render",
    "section",
    "stored_json",
    "table",
    "tiles",
]

Entry = tuple[str, float, bool]
"""An item of a ranked list: title, probability, whether it is marked."""


def render(title: str, *parts: str) -> str:
    """Render a complete page; `parts` are HTML."""
    style = files("neuralcf.report").joinpath("page.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            *parts,
            "</body>",
            "</html>\n",
        ]
    )


def section(title: str, *parts: str) -> str:
    """Render a section with a heading; `parts` are HTML."""
    return "\n".join([f"<section><h2>{escape(title)}</h2>", *parts, "</section>"])


def paragraph(text: str) -> str:
    """Render a paragraph."""
    return f"<p>{escape(text)}</p>"


def tiles(values: Iterable[tuple[str, str]]) -> str:
    """Render headline figures: `(figure, caption)` pairs."""
    inner = "\n".join(f"<div><b>{escape(value)}</b><span>{escape(text)}</span></div>" for value, text in values)
    return f'<section class="tiles">\n{inner}\n</section>'


def chart(
    title: str, draw: Draw, *, wide: tuple[float, float] = (7.4, 2.9), narrow: tuple[float, float] = (4.0, 3.0)
) -> str:
    """Render a chart twice, for wide and for narrow screens; the page shows the one that fits.

    Args:
        title: what the chart shows; unique within the page.
        draw: draws the chart.
        wide: width and height in inches for wide screens.
        narrow: width and height in inches for narrow screens.
    """
    name = "-".join("".join(letter if letter.isalnum() else " " for letter in title.lower()).split())
    return "".join(
        f'<figure class="{width}">{svg(draw, size, f"{name}-{width}", title)}</figure>'
        for width, size in (("wide", wide), ("narrow", narrow))
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str] | str]) -> str:
    """Render a table; a row that is a string becomes a subheading for the rows below it."""
    lines = []
    for row in rows:
        if isinstance(row, str):
            lines.append(f'<tr class="about"><th colspan="{len(head)}">{escape(row)}</th></tr>')
        else:
            lines.append(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>")
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return (
        f'<div class="scroll"><table style="--columns: {len(head)}">\n<tr>{names}</tr>\n'
        + "\n".join(lines)
        + "\n</table></div>"
    )


def ranked_list(entries: Iterable[Entry]) -> str:
    """Render a ranked list, each item with its probability as a bar and as a number."""
    rows = "".join(
        f'<li class="{"hit" if marked else "miss"}"><span>{escape(title)}</span>'
        f'<i style="--p:{probability:.4f}"></i><em>{probability:.3f}</em></li>'
        for title, probability, marked in entries
    )
    return f'<ol class="ranked" aria-label="recommended">{rows}</ol>'


def details(summary: str, inner: str) -> str:
    """Render a collapsed section that opens on click; `inner` is HTML."""
    return f"<details><summary>{escape(summary)}</summary>\n{inner}</details>"


def stored_json(config: Mapping[str, Any]) -> str:
    """Render a model's config.json, collapsed."""
    return details("config.json of the model", f"<pre>{escape(json.dumps(config, indent=2))}</pre>")

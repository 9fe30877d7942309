"""Results as text: a table per query during the run, Markdown at the end."""

import textwrap
from collections.abc import Iterator

from benches.peers.record import OURS, Case, Cell, Record, Skipped, counted, milliseconds, significant


def rows(cells: list[Cell]) -> Iterator[tuple[Cell, float, float]]:
    """Yield the cells of one query, fastest first, with the ratios of median and minimum to NeuralCF's."""
    ours = next((cell for cell in cells if cell.engine == OURS), None)
    if ours is None:
        return
    for cell in sorted(cells, key=lambda cell: cell.minimum):
        yield cell, cell.median / ours.median, cell.minimum / ours.minimum


def print_tables(cells: list[Cell], skipped: list[Skipped]) -> None:
    """Print the results of one query."""
    print(f"\n{(cells or skipped)[0].title}: milliseconds")
    print(f"{'':22}{'median':>10}{'minimum':>10}{'ratios to ours':>20}{'calls':>8}")
    for cell, median, minimum in rows(cells):
        times = f"{milliseconds(cell.median):>10}{milliseconds(cell.minimum):>10}"
        print(f"{cell.engine:22}{times}{median:>10.2f}{minimum:>10.2f}{cell.calls:>8}")
    for entry in skipped:
        print(f"{entry.engine:22}skipped: {entry.reason}", flush=True)


def grouped(record: Record) -> dict[Case, list[Cell]]:
    groups: dict[Case, list[Cell]] = {}
    for cell in record.cells:
        groups.setdefault(cell.case, []).append(cell)
    return groups


def table(record: Record, kind: str, threads: int) -> Iterator[str]:
    """Yield the lines of a Markdown table: queries down, engines across, the fastest of each row in bold."""
    engines = list(dict.fromkeys(cell.engine for cell in record.cells))
    yield f"| | {' | '.join(engines)} |"
    yield "|---" * (len(engines) + 1) + "|"
    for case, cells in grouped(record).items():
        if (case.kind, case.threads) != (kind, threads):
            continue
        found = {cell.engine: (cell, ratio) for cell, _, ratio in rows(cells)}
        best = min(cell.minimum for cell in cells)
        texts = []
        for engine in engines:
            if engine not in found:
                texts.append("")
                continue
            cell, ratio = found[engine]
            text = f"{milliseconds(cell.minimum)} ({milliseconds(cell.median)})"
            text = f"**{text}**" if cell.minimum == best else text
            texts.append(text if engine == OURS else f"{text} {significant(ratio)}x")
        yield f"| {case.title} | {' | '.join(texts)} |"


def markdown(record: Record, plot: str) -> str:
    """Format the record of a run."""
    lines = [
        f"# Peers, {record.machine['date']}",
        "",
        f"Printed by `benches/peers/run.py` in {record.minutes:.1f} minutes.",
        "",
    ]
    lines += [f"- {key}: {value}" for key, value in record.machine.items()]
    lines += ["", f"![minimum times by engine]({plot})", ""]
    lines += ["Milliseconds: minimum (median), and the ratio of the minimum to NeuralCF's."]
    for threads in sorted({cell.threads for cell in record.cells}):
        for kind in dict.fromkeys(cell.kind for cell in record.cells):
            lines += ["", f"## {kind}, {counted(threads, 'thread')}", "", *table(record, kind, threads)]
    lines += ["", "## Skipped", ""]
    skipped = [f"- {name}: {reason}" for name, reason in record.missing.items()]
    reasons: dict[tuple[str, str], list[str]] = {}
    for entry in record.skipped:
        reasons.setdefault((entry.title, entry.reason), []).append(entry.engine)
    skipped += [f"- {what}: {'; '.join(engines)}: {reason}" for (what, reason), engines in reasons.items()]
    lines += [textwrap.fill(entry, 120, subsequent_indent="  ") for entry in skipped]
    return "\n".join(lines) + "\n"

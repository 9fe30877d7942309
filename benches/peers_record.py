"""What a run of `peers.py` found: printed, and kept as JSON, as tables and as a plot."""

import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import neuralcf

PACKAGES = ("numpy", "torch", "onnx", "onnxruntime", "openvino")
OURS = "NeuralCF"


@dataclass(frozen=True)
class Case:
    """A question of one size: the top-10 of some users, or some pairs."""

    shape: str
    items: int
    kind: str
    size: int
    """Users of a top-10, or pairs."""
    threads: int

    @property
    def pairs(self) -> int:
        return self.size * (self.items if self.kind == "top-10" else 1)

    @property
    def case(self) -> "Case":
        """The question itself, of what was found for it."""
        return Case(self.shape, self.items, self.kind, self.size, self.threads)

    @property
    def title(self) -> str:
        """The question in words."""
        what = f"top-10 of {self.items:,} items, {counted(self.size, 'user')}"
        what = what if self.kind == "top-10" else counted(self.size, "pair")
        return f"{self.shape}, {what}, {counted(self.threads, 'thread')}"


@dataclass(frozen=True)
class Cell(Case):
    """The time of one engine for one question; seconds."""

    engine: str
    median: float
    minimum: float
    calls: int


@dataclass(frozen=True)
class Left(Case):
    """Why an engine was not timed for a question."""

    engine: str
    reason: str


@dataclass
class Record:
    """A whole run."""

    machine: dict[str, str]
    missing: dict[str, str]
    """Engines that took no part at all, with the reason."""
    minutes: float = 0.0
    cells: list[Cell] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def machine() -> dict[str, str]:
    """Tell what the figures depend on."""
    versions = {"neuralcf": neuralcf.__version__}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "processor": f"{processor()}, {os.cpu_count()} cores, {gib:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, CPython {platform.python_version()}",
        "instruction set": neuralcf._core.machine()["isa"],
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def significant(value: float) -> str:
    """Write a number with three significant digits, or all that stand before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def milliseconds(seconds: float) -> str:
    return significant(seconds * 1e3)


def rows(cells: list[Cell]) -> Iterator[tuple[Cell, float, float]]:
    """Give the cells of one question, the fastest first, with the ratios of medians and minima to ours."""
    ours = next((cell for cell in cells if cell.engine == OURS), None)
    if ours is None:
        return
    for cell in sorted(cells, key=lambda cell: cell.minimum):
        yield cell, cell.median / ours.median, cell.minimum / ours.minimum


def print_tables(cells: list[Cell], left: list[Left]) -> None:
    """Print what was found for one question."""
    print(f"\n{(cells or left)[0].title}: milliseconds")
    print(f"{'':22}{'median':>10}{'minimum':>10}{'ratios to ours':>20}{'calls':>8}")
    for cell, median, minimum in rows(cells):
        times = f"{milliseconds(cell.median):>10}{milliseconds(cell.minimum):>10}"
        print(f"{cell.engine:22}{times}{median:>10.2f}{minimum:>10.2f}{cell.calls:>8}")
    for entry in left:
        print(f"{entry.engine:22}left out: {entry.reason}", flush=True)


def grouped(record: Record) -> dict[Case, list[Cell]]:
    groups: dict[Case, list[Cell]] = {}
    for cell in record.cells:
        groups.setdefault(cell.case, []).append(cell)
    return groups


def table(record: Record, kind: str, threads: int) -> Iterator[str]:
    """Give the lines of a Markdown table: questions down, engines across, the fastest of a row in bold."""
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
    """Tell the whole run."""
    lines = [
        f"# Peers, {record.machine['date']}",
        "",
        f"Printed by `benches/peers.py` in {record.minutes:.1f} minutes.",
        "",
    ]
    lines += [f"- {key}: {value}" for key, value in record.machine.items()]
    lines += ["", f"![minimum times by engine]({plot})", ""]
    lines += ["Milliseconds: minimum (median), and the ratio of the minimum to NeuralCF's."]
    for threads in sorted({cell.threads for cell in record.cells}):
        for kind in dict.fromkeys(cell.kind for cell in record.cells):
            lines += ["", f"## {kind}, {counted(threads, 'thread')}", "", *table(record, kind, threads)]
    lines += ["", "## Left out", ""]
    lines += [f"- {name}: {reason}" for name, reason in record.missing.items()]
    reasons: dict[tuple[str, str], list[str]] = {}
    for entry in record.left:
        reasons.setdefault((entry.title, entry.reason), []).append(entry.engine)
    lines += [f"- {what}: {'; '.join(engines)}: {reason}" for (what, reason), engines in reasons.items()]
    return "\n".join(lines) + "\n"


def save(record: Record, folder: str) -> list[Path]:
    """Write the figures, the tables and the plot; give their paths."""
    from peers_plot import plot

    stem = f"{record.machine['date']}-peers"
    paths = [Path(folder) / f"{stem}{suffix}" for suffix in (".json", ".md", ".svg")]
    data: dict[str, Any] = asdict(record)
    paths[0].write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    plot(record, paths[2])
    paths[1].write_text(markdown(record, paths[2].name), encoding="utf-8")
    return paths

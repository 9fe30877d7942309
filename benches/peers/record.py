"""The record of a run: queries, times, skipped engines with the reason, and the machine."""

import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import neuralcf

PACKAGES = ("numpy", "torch", "onnx", "onnxruntime", "openvino")
OURS = "NeuralCF"


@dataclass(frozen=True)
class Case:
    """A query of one size: the top-10 of some users, or some pairs."""

    shape: str
    items: int
    kind: str
    size: int
    """Number of users of a top-10, or of pairs."""
    threads: int

    @property
    def pairs(self) -> int:
        return self.size * (self.items if self.kind == "top-10" else 1)

    @property
    def case(self) -> "Case":
        """The query alone, without its result."""
        return Case(self.shape, self.items, self.kind, self.size, self.threads)

    @property
    def title(self) -> str:
        """The query in words."""
        what = f"top-10 of {self.items:,} items, {counted(self.size, 'user')}"
        what = what if self.kind == "top-10" else counted(self.size, "pair")
        return f"{self.shape}, {what}, {counted(self.threads, 'thread')}"


@dataclass(frozen=True)
class Cell(Case):
    """The times of one engine for one query, in seconds."""

    engine: str
    median: float
    minimum: float
    calls: int


@dataclass(frozen=True)
class Skipped(Case):
    """The reason why an engine was not timed for a query."""

    engine: str
    reason: str


@dataclass
class Record:
    """All results of a run."""

    machine: dict[str, str]
    missing: dict[str, str]
    """Engines that did not take part at all, with the reason."""
    minutes: float = 0.0
    cells: list[Cell] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def machine(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Describe the machine and the versions that the figures depend on: ours, and those of packages."""
    versions = {"neuralcf": neuralcf.__version__}
    for name in packages:
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


class Recorded(Protocol):
    """All results of a run: a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    machine: dict[str, str]


def save(record: Recorded, folder: str, name: str, text: Callable[[str], str], draw: Callable[[Path], None]) -> None:
    """Write the figures, the text, given the name of the plot, and the plot of a run to a folder; print their paths."""
    paths = [Path(folder) / f"{record.machine['date']}-{name}{suffix}" for suffix in (".json", ".md", ".svg")]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    paths[0].write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
    paths[1].write_text(text(paths[2].name), encoding="utf-8")
    draw(paths[2])
    print(*paths, sep="\n")


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def significant(value: float) -> str:
    """Format a number with three significant digits, or with all digits before the decimal point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def milliseconds(seconds: float) -> str:
    return significant(seconds * 1e3)

"""`neuralcf doctor`: show what this machine offers and what NeuralCF uses. Look here first if performance surprises."""

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from neuralcf._core import __version__, machine
from neuralcf.cli.options import Commands, add_command, add_json
from neuralcf.errors import ArgumentError

__all__ = ["add_parser", "cgroup_quota"]

_OPTIONAL = ("torch", "scipy", "matplotlib", "tqdm")
_SETTINGS = ("NEURALCF_ISA", "NEURALCF_NUM_THREADS")


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "doctor",
        _run,
        summary="show what this machine offers and what NeuralCF uses",
        example="neuralcf doctor",
    )
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    facts = _examine()
    print(json.dumps(facts) if options.json else _text(facts))


def _examine() -> dict[str, Any]:
    """Collect the facts as plain JSON values, without running a benchmark."""
    core, problem = _machine()
    return {
        "problem": problem,
        "instruction_set": {
            "chosen": core["isa"],
            "supported": core["supported"],
            "cpu_features": core["cpu_features"],
        },
        "threads": {
            "chosen": core["threads"],
            "cpus": os.cpu_count(),
            "affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
            "cgroup_quota": cgroup_quota(),
        },
        "settings": {name: os.environ.get(name) for name in _SETTINGS},
        "versions": {
            "neuralcf": __version__,
            "python": platform.python_version(),
            "numpy": _installed("numpy"),
            **{name: _installed(name) for name in _OPTIONAL},
        },
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}, {sys.implementation.name}",
    }


def _machine() -> tuple[dict[str, Any], str | None]:
    """Return the core's facts, and what is wrong with the settings; the facts then ignore these settings."""
    try:
        return machine(), None
    except ArgumentError as error:
        settings = {name: os.environ.pop(name) for name in _SETTINGS if name in os.environ}
        try:
            return machine(), f"{error}; everything else is shown as if these variables were unset"
        finally:
            os.environ.update(settings)


def _text(facts: dict[str, Any]) -> str:
    """Format the facts for the terminal."""
    isa, threads = facts["instruction_set"], facts["threads"]
    features = [name for name, has in isa["cpu_features"].items() if has]
    quota = threads["cgroup_quota"]
    limits = [
        f"{threads['cpus']} in the machine",
        f"{threads['affinity']} by affinity" if threads["affinity"] is not None else "affinity unknown on this system",
        f"{quota:g} by cgroup quota" if quota is not None else "no cgroup quota",
    ]
    rows = [
        *([("PROBLEM", facts["problem"])] if facts["problem"] else []),
        ("instruction set", f"{isa['chosen']} (supported: {', '.join(isa['supported'])})"),
        ("CPU features", ", ".join(features) or "none that NeuralCF uses"),
        ("threads", f"{threads['chosen']} ({', '.join(limits)})"),
        *((name, value if value is not None else "not set") for name, value in facts["settings"].items()),
        *((name, value or "not installed") for name, value in facts["versions"].items()),
        ("platform", facts["platform"]),
    ]
    return "\n".join(f"{name:<22}{value}" for name, value in rows)


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """Read how many CPUs the cgroup (v1 or v2) of this process may use; None if there is no limit."""
    quotas = []
    for line in _content(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            base, v2 = root / "sys/fs/cgroup", True
        elif "cpu" in controllers.split(","):
            base, v2 = root / "sys/fs/cgroup/cpu", False
        else:
            continue
        inner = base / group.lstrip("/")
        for directory in [inner, *inner.parents][: len(inner.parts) - len(base.parts) + 1]:  # any level may set a limit
            if v2:
                fields = _content(directory / "cpu.max").split()
            else:
                fields = [_content(directory / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
            if len(fields) == 2 and fields[0].isdecimal() and fields[1].isdecimal():
                quotas.append(int(fields[0]) / int(fields[1]))
    return min(quotas, default=None)


def _content(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _installed(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None

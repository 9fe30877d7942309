"""The same weights in NeuralCF and in its alternatives, interleaved in one run.

    python -m benches.peers.run                             # all cores, all cases; under ten minutes on two cores
    python -m benches.peers.run --threads 1 --shapes A --items 3706 100000
    python -m benches.peers.run --record benches/record         # also writes figures, tables and a plot

Every answer is checked against float64 NumPy before it is timed: probabilities within 1e-5, and each item of a top-10
at least as good as the tenth best up to 4e-5 of max(1, |logit|). Engines that are not installed, or would take too long
or too much memory, are skipped with the reason. The engines take turns in an order that changes from round to round, so
that other load on the machine affects all of them. A turn begins with a pause, for threads that spin after their work,
and a warm-up call that does not count.
"""

import argparse
import gc
import os
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benches.peers.engines import Engine, Indices, Model, available
from benches.peers.record import Case, Cell, Record, Skipped, machine, save
from benches.peers.reference import Reference, WrongAnswerError
from benches.peers.tables import markdown, print_tables
from benches.shapes import SHAPES, random_tensors

USERS, K = 20_000, 10
TOP_K_USERS = (1, 64)
PAIRS = (1, 100, 10_000, 1_000_000)
PAIRS_ITEMS = 100_000
ROUNDS, PAUSE = 5, 0.03
FEWEST_CALLS = 2
"""Minimum number of calls, for an engine whose calls exceed its time."""
LONG = 5.0
"""Seconds; a first call that takes longer is not repeated to estimate the time of a warm call."""
NOT_BY_DEFAULT = {"torch.compile"}
"""Compiles for each model and size, which takes longer than everything else; enable it with --engines."""


@dataclass
class Entrant:
    """An engine with a model, and its speed in the previous case."""

    engine: Engine
    seconds_a_pair: float = 0.0
    samples: list[float] = field(default_factory=list)


class SkippedError(Exception):
    """The reason why an engine does not take part in a case."""


def cases_of(shape: str, items: int, threads: int, options: argparse.Namespace) -> Iterator[Case]:
    for users in TOP_K_USERS:
        yield Case(shape, items, "top-10", users, threads)
    if items == options.pairs_items:
        for pairs in PAIRS:
            yield Case(shape, items, "pairs", pairs, threads)


def query(case: Case) -> tuple[Indices, Indices]:
    rng = np.random.default_rng(1)
    if case.kind == "top-10":
        return rng.integers(0, USERS, max(TOP_K_USERS))[: case.size], np.empty(0, dtype=np.int64)
    return rng.integers(0, USERS, case.size), rng.integers(0, case.items, case.size)


def call_of(engine: Engine, case: Case, users: Indices, items: Indices) -> Callable[[], Any]:
    if case.kind == "top-10":
        return lambda: engine.top_k(users, K)
    return lambda: engine.score(users, items)


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def over(options: argparse.Namespace) -> str:
    return f"the {options.minutes:g} minutes of --minutes are over"


def admit(entrant: Entrant, case: Case, model: Model, reference: Reference, options: argparse.Namespace) -> float:
    """Check an engine's answer; return the seconds of a call, or raise SkippedError."""
    engine = entrant.engine
    if time.monotonic() > options.end:
        raise SkippedError(over(options))
    predicted = entrant.seconds_a_pair * case.pairs if case.kind == "top-10" else 0.0
    if predicted > options.patience:
        raise SkippedError(f"a call would take some {predicted:.0f} s, more than --patience {options.patience:g}")
    if engine.naive:
        needed = model.activations() * (case.items if case.kind == "top-10" else case.size)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if needed > memory / 2:
            raise SkippedError(
                f"its activations could take {needed / 2**30:.0f} GiB, more than half of this machine's memory"
            )
    users, items = query(case)
    call = call_of(engine, case, users, items)
    started = time.perf_counter()
    answer = call()
    seconds = time.perf_counter() - started
    if case.kind == "top-10":
        reference.check_top_k(users, *answer)
    else:
        reference.check_scores(users, items, answer)
    return seconds if seconds > LONG else timed(call)  # the first call also compiles


def take_turn(entrant: Entrant, call: Callable[[], object], seconds: float, estimate: float) -> None:
    """Call repeatedly for some seconds, at least once."""
    time.sleep(PAUSE)
    if estimate < seconds:
        call()
    end = time.perf_counter() + seconds
    while True:
        entrant.samples.append(timed(call))
        if time.perf_counter() + entrant.samples[-1] > end:
            return


def race(entrants: dict[str, Entrant], estimates: dict[str, float], case: Case, cell_seconds: float) -> list[Cell]:
    """Time all admitted engines in turns; an engine whose calls are longer than a turn has fewer turns."""
    users, items = query(case)
    order = random.Random(0)
    turn = cell_seconds / ROUNDS
    for round_ in range(ROUNDS):
        names = list(estimates)
        order.shuffle(names)
        for name in names:
            turns = min(ROUNDS, max(FEWEST_CALLS, int(cell_seconds / estimates[name])))
            if round_ < turns:
                take_turn(entrants[name], call_of(entrants[name].engine, case, users, items), turn, estimates[name])
    cells = []
    for name in estimates:
        samples, entrants[name].samples = entrants[name].samples, []
        entrants[name].seconds_a_pair = min(samples) / case.pairs
        cells.append(Cell(**vars(case), engine=name, median=statistics.median(samples), minimum=min(samples),
                          calls=len(samples)))  # fmt: skip
    return cells


def build(classes: list[type[Engine]], model: Model, threads: int) -> tuple[dict[str, Entrant], dict[str, str]]:
    entrants, failed = {}, {}
    for engine in classes:
        try:
            entrants[engine.name] = Entrant(engine(model, threads))
        except Exception as error:  # anything that a framework raises is a reason to skip it
            failed[engine.name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return entrants, failed


def run_case(
    case: Case, entrants: dict[str, Entrant], model: Model, reference: Reference, options: argparse.Namespace
) -> tuple[list[Cell], list[Skipped]]:
    estimates, skipped = {}, []
    for name, entrant in entrants.items():
        try:
            estimates[name] = admit(entrant, case, model, reference, options)
        except WrongAnswerError as error:
            if name == "NeuralCF":
                raise
            skipped.append(Skipped(**vars(case), engine=name, reason=f"wrong: {error}"))
        except Exception as error:
            reason = (
                str(error) if isinstance(error, SkippedError) else f"{type(error).__name__}: {error}".splitlines()[0]
            )
            skipped.append(Skipped(**vars(case), engine=name, reason=reason))
    return race(entrants, estimates, case, options.cell_seconds), skipped


def skip(cases: Iterable[Case], reason: str) -> list[Skipped]:
    return [Skipped(**vars(case), engine="all engines", reason=reason) for case in cases]


def run_model(shape: str, items: int, classes: list[type[Engine]], options: argparse.Namespace, record: Record) -> None:
    model = Model(random_tensors(SHAPES[shape], USERS, items))
    reference = Reference(model)
    for threads in options.threads:
        entrants, failed = build(classes, model, threads)
        for case in cases_of(shape, items, threads, options):
            if time.monotonic() > options.end:
                record.skipped += skip([case], over(options))
                continue
            cells, skipped = run_case(case, entrants, model, reference, options)
            record.cells += cells
            record.skipped += skipped + [
                Skipped(**vars(case), engine=name, reason=reason) for name, reason in failed.items()
            ]
            print_tables(cells, skipped)
        del entrants
        gc.collect()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument(
        "--threads", nargs="+", type=int, default=[everything], help="threads per engine (default: %(default)s)"
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--items", nargs="+", type=int, default=[3_706, 100_000, 1_000_000])
    parser.add_argument("--pairs-items", type=int, default=PAIRS_ITEMS, help="size of the catalogue for pairs")
    parser.add_argument("--engines", nargs="+", metavar="NAME", help="engines by name, such as 'torch eager', or 'all'")
    parser.add_argument(
        "--seconds", type=float, default=210, help="total time of measurements, about (default: %(default)s)"
    )
    parser.add_argument(
        "--minutes", type=float, default=9, help="time limit, after which no call starts (default: %(default)s)"
    )
    parser.add_argument("--patience", type=float, default=12, help="limit of a call, in seconds (default: %(default)s)")
    parser.add_argument("--record", metavar="DIR", help="write figures, tables and a plot to this directory")
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> tuple[list[type[Engine]], dict[str, str]]:
    """Return the engines to run, and the reasons for skipping others."""
    classes, missing = available()
    names = [engine.name for engine in classes]
    wanted = options.engines or [name for name in names if name not in NOT_BY_DEFAULT]
    wanted = names if wanted == ["all"] else ["NeuralCF", *wanted]
    unknown = set(wanted) - set(names)
    if unknown and not missing:
        raise SystemExit(f"--engines: expected some of {', '.join(names)}; got {', '.join(sorted(unknown))}")
    missing |= {name: "not requested" for name in names if name not in wanted}
    return [engine for engine in classes if engine.name in wanted], missing


def main() -> None:
    options = arguments()
    classes, missing = chosen(options)
    record = Record(machine(), missing)
    cases = [case for shape in options.shapes for items in options.items for threads in options.threads
             for case in cases_of(shape, items, threads, options)]  # fmt: skip
    options.cell_seconds = options.seconds / max(1, len(cases) * len(classes))
    options.end = time.monotonic() + 60 * options.minutes
    print(*(f"{key}: {value}" for key, value in record.machine.items()), sep="\n")
    print(*(f"{name} is skipped: {reason}" for name, reason in missing.items()), sep="\n")
    for shape in options.shapes:
        for items in options.items:
            if time.monotonic() < options.end:
                run_model(shape, items, classes, options, record)
                continue
            print(f"{shape}, {items:,} items: skipped: {over(options)}")
            for threads in options.threads:
                record.skipped += skip(cases_of(shape, items, threads, options), over(options))
    record.minutes = (time.monotonic() - options.end) / 60 + options.minutes
    print(f"\n{record.minutes:.1f} minutes")
    if options.record:
        from benches.peers.plot import plot  # needs matplotlib

        save(record, options.record, "peers", lambda plotted: markdown(record, plotted), lambda to: plot(record, to))


if __name__ == "__main__":
    main()

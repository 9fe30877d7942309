"""Recall and time of approximate search, beside the exact search and beside other libraries' indexes.

    python -m benches.index.curves                               # all catalogues, k 10 and 100; an hour
    python -m benches.index.curves --catalogues 'A, trained, 100k' --k 10
    python -m benches.index.curves --record benches/record       # also writes figures, a table and a plot

Recall is the share of the exact list that is found, in the mean over 1,000 users who had no part in building or
calibrating the index (other libraries' indexes know no users). Times are seconds of CPU time on one core: for one user,
the mean over users of each one's minimum over the rounds, all searches taking turns in random order; for 64 users, a
64th of the minimum of one call. The items of NeuralCF's lists carry their exact scores: checked here, bit for bit.

Trained catalogues need the data beside the checkout. Packages that are not installed are skipped.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from benches.index.catalogues import CATALOGUES, Catalogue, catalogue
from benches.index.rivals import PACKAGES, RIVALS, Rival
from benches.peers.dots import one_by_one, together
from benches.peers.engines import Floats, Indices
from benches.peers.record import OURS, machine, save, significant
from neuralcf import Scorer, UserVectors

RECALLS = (0.9, 0.95, 0.99, 0.999)
TIMED, BATCH = 64, 64
"""Users who are asked for one by one, and users of a batch."""
EXACT = f"{OURS}, exact"
Made = TypeVar("Made")


@dataclass(frozen=True)
class Point:
    """A search with one effort. `seconds` are for a user alone, `together` for each of 64 users in one call."""

    catalogue: str
    items: int
    k: int
    engine: str
    effort: str
    recall: float
    seconds: float
    together: float


@dataclass(frozen=True)
class Built:
    """The building of an index: seconds on all cores, CPU seconds, and bytes where the library tells."""

    catalogue: str
    engine: str
    seconds: float
    cpu_seconds: float
    detail: str


@dataclass
class CurveRecord:
    """All results of a run."""

    machine: dict[str, str]
    missing: dict[str, str]
    built: list[Built] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)


@dataclass(frozen=True)
class Search:
    """A search of one engine with one effort, for rows of the fresh users."""

    engine: str
    effort: str
    call: Callable[[Indices, int], Indices]

    @property
    def name(self) -> str:
        return f"{self.engine} {self.effort}"

    def top_k(self, rows: Indices, k: int) -> Indices:
        return self.call(rows, k)


def rows_of(users: UserVectors, rows: Indices) -> UserVectors:
    return UserVectors(*(None if table is None else table[rows] for table in users))


def built(
    record: CurveRecord, name: str, engine: str, build: Callable[[], Made], detail: Callable[[Made], str]
) -> Made:
    """Build an index, and note what it took."""
    seconds, cpu = time.perf_counter(), time.process_time()
    made = build()
    seconds, cpu = time.perf_counter() - seconds, time.process_time() - cpu
    record.built.append(Built(name, engine, seconds, cpu, detail(made)))
    print(f"{name}: {engine} built in {seconds:.1f} s ({cpu:.1f} CPU s), {record.built[-1].detail}", flush=True)
    return made


def ours(scorer: Scorer, fresh: UserVectors) -> list[Search]:
    def exact(rows: Indices, k: int) -> Indices:
        return scorer.top_k(rows_of(fresh, rows), k, threads=1).ids

    def approximate(recall: float) -> Callable[[Indices, int], Indices]:
        return lambda rows, k: scorer.top_k(rows_of(fresh, rows), k, search="approximate", recall=recall, threads=1).ids

    near = [Search(OURS, f"recall {recall}", approximate(recall)) for recall in RECALLS]
    return [Search(EXACT, "", exact), *near]


def check_scores(scorer: Scorer, fresh: UserVectors) -> None:
    """Check that scores of the approximate search are those of the exact one, bit for bit."""
    users = rows_of(fresh, np.arange(TIMED))
    near = scorer.top_k(users, 10, search="approximate", logits=True)
    for row, (ids, scores) in enumerate(zip(near.ids, near.scores, strict=True)):
        same = scorer.score_batch(rows_of(fresh, np.full(len(ids), row)), ids, logits=True)
        if same.tobytes() != scores.tobytes():
            raise SystemExit("an approximate search gave other scores than score_batch")


def rivals(record: CurveRecord, data: Catalogue) -> list[Search]:
    """Build the indexes of other libraries, which take vectors alone."""
    searches: list[Search] = []
    items, users = data.vectors, data.fresh.gmf
    if items is None or users is None:
        return searches
    for rival in RIVALS:
        try:
            index = built(record, data.name, rival.name, lambda make=rival: make(items), lambda _: "")
        except ImportError as error:
            record.missing[rival.name] = f"not installed: {error}"
            continue
        searches += [Search(rival.name, str(effort), with_effort(index, users, effort)) for effort in rival.efforts]
    return searches


def with_effort(index: Rival, users: Floats, effort: int) -> Callable[[Indices, int], Indices]:
    return lambda rows, k: index.search(users[rows], k, effort)


def run(data: Catalogue, options: argparse.Namespace, record: CurveRecord) -> None:
    """Measure all searches of one catalogue."""
    threads = os.cpu_count()
    scorer = Scorer.from_tensors(data.tensors, threads=threads)
    scorer = built(
        record, data.name, OURS, lambda: scorer.build_index(threads=threads),
        lambda made: f"{made.index.lists:,} lists, {made.index.nbytes / 2**20:.0f} MiB",
    )  # fmt: skip
    check_scores(scorer, data.fresh)
    others = [] if options.alone else rivals(record, data)
    rows = np.arange(len(next(table for table in data.fresh if table is not None)))
    for k in options.k:
        best = scorer.top_k(data.fresh, k).ids
        searches, recalls = [], {}
        for search in ours(scorer, data.fresh) + others:
            found = search.top_k(rows, k)
            shares = [np.isin(own, right).mean() for own, right in zip(found, best, strict=True)]
            recalls[search.name] = float(np.mean(shares))
            searches.append(search)
        timed = rows[:TIMED]
        alone, batch = one_by_one(searches, timed, k, options.rounds), together(searches, timed, k, options.rounds)
        for search in searches:
            seconds, each = float(np.mean(alone[search.name])), batch[search.name][0] / BATCH
            point = Point(data.name, data.items, k, search.engine, search.effort, recalls[search.name], seconds, each)
            record.points.append(point)
            print(f"{data.name}, top-{k}: {search.name}: recall {point.recall:.4f}, {1e6 * seconds:,.0f} us alone, "
                  f"{1e6 * each:,.0f} us of 64", flush=True)  # fmt: skip


def seconds_for(points: list[Point], recall: float, which: str) -> float | None:
    """The least time that reached this recall."""
    return min((getattr(point, which) for point in points if point.recall >= recall), default=None)


def markdown(record: CurveRecord, plot: str) -> str:
    """Format the record of a run: the time for a recall of 0.99 that was measured, and what was promised."""
    lines = [f"# Approximate search, {record.machine['date']}", "", "Printed by `benches/index/curves.py`.", ""]
    lines += [f"- {key}: {value}" for key, value in record.machine.items()]
    lines += [f"- {name} is skipped: {reason}" for name, reason in record.missing.items()]
    lines += ["", f"![recall and time]({plot})", "", "## Microseconds for a measured recall of 0.99 or more", ""]
    lines += ["One core, CPU time: a user alone / each of 64 users in one call. `-`: no effort reached it.", ""]
    engines = list(dict.fromkeys(point.engine for point in record.points))
    lines += [f"| | {' | '.join(engines)} |", "|---" * (len(engines) + 1) + "|"]
    queries = list(dict.fromkeys((point.catalogue, point.k) for point in record.points))
    for name, k in queries:
        cells = []
        for engine in engines:
            of = [p for p in record.points if (p.catalogue, p.k, p.engine) == (name, k, engine)]
            times = [seconds_for(of, 0.99, which) for which in ("seconds", "together")]
            cells.append(" / ".join("-" if each is None else significant(1e6 * each) for each in times) if of else "")
        lines.append(f"| {name}, top-{k} | {' | '.join(cells)} |")
    lines += ["", "## Promised and measured", "", "Recall on 1,000 fresh users, and microseconds of a user alone.", ""]
    lines += [f"| | exact | {' | '.join(f'promised {recall}' for recall in RECALLS)} |", "|---" * 6 + "|"]
    for name, k in queries:
        of = [p for p in record.points if (p.catalogue, p.k) == (name, k) and p.engine in (OURS, EXACT)]
        cells = [significant(1e6 * p.seconds) if p.engine == EXACT else
                 f"{p.recall:.4f}, {significant(1e6 * p.seconds)}" for p in of]  # fmt: skip
        lines.append(f"| {name}, top-{k} | {' | '.join(cells)} |")
    lines += ["", "## Building", "", "| | index | seconds | CPU seconds | |", "|---|---|---|---|---|"]
    lines += [
        f"| {b.catalogue} | {b.engine} | {b.seconds:.0f} | {b.cpu_seconds:.0f} | {b.detail} |" for b in record.built
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catalogues", nargs="+", choices=CATALOGUES, default=list(CATALOGUES))
    parser.add_argument("--k", nargs="+", type=int, default=[10, 100])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", action="store_true", help="without other libraries")
    parser.add_argument("--record", metavar="DIR", help="write figures, tables and a plot to this directory")
    options = parser.parse_args()
    record = CurveRecord(machine(PACKAGES), {})
    for name in options.catalogues:
        try:
            data = catalogue(name, CATALOGUES[name]())
        except FileNotFoundError as error:
            record.missing[f"the catalogue {name}"] = f"no such file: {error.filename}"
            continue
        run(data, options, record)
    print(*(f"{name} is skipped: {reason}" for name, reason in record.missing.items()), sep="\n")
    if options.record:
        from benches.index.plot import plot  # needs matplotlib

        caption = f"{record.machine['processor']}, one core; {record.machine['date']}"
        save(record, options.record, "index", lambda plotted: markdown(record, plotted),
             lambda to: plot(record.points, caption, to))  # fmt: skip


if __name__ == "__main__":
    main()

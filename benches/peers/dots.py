"""Dot products beside faiss, usearch, implicit and torch: the same vectors, one core, one run.

    python -m benches.peers.dots                                # trained and random vectors, up to a million items
    python -m benches.peers.dots --sets gowalla --factors 64 256 --k 10
    python -m benches.peers.dots --record benches/record        # also writes figures, a table and a plot

Sets: `gowalla` and `ml-1m` are iALS factors, trained here (they need the data beside the checkout); `gowalla-1m` has in
addition mixtures of two of Gowalla's items each, with noise, up to a million items (only the fewest and the most
factors); `random` is Gaussian, 100,000 items. Packages that are not installed are skipped.

Every answer is checked before it is timed: each item's dot product in float64 at least the k-th best, up to 4e-5 of
max(1, |dot product|). Approximate engines only have their share of the best items reported. Engines take turns, user by
user in random order; each user's minimum over the rounds counts, in seconds of CPU time. One user: mean and median over
the users of these minima. 64 users: the minimum over the rounds of one call.
"""

import argparse
import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from benches.peers.dot_engines import ENGINES, PACKAGES, DotEngine
from benches.peers.engines import Floats, Indices
from benches.peers.record import OURS, machine, milliseconds, save, significant
from benches.peers.reference import LOGIT

BATCH, ONE_BY_ONE = 64, 32
"""Users of a batch, and users who are asked for one by one."""
MILLION, RANDOM = 1_000_000, 100_000


@dataclass(frozen=True)
class Time:
    """The time of an engine for one query, in seconds of CPU time."""

    data: str
    factors: int
    items: int
    users: int
    k: int
    engine: str
    mean: float
    median: float
    recall: float
    """The share of the best items that were found."""


@dataclass
class DotRecord:
    """All results of a run."""

    machine: dict[str, str]
    missing: dict[str, str]
    times: list[Time] = field(default_factory=list)


def trained(name: str, factors: int) -> tuple[Floats, Floats]:
    """Train iALS factors of a data set."""
    from benches.training.datasets import gowalla, movielens_1m
    from neuralcf.baselines import IALS

    model = IALS({"gowalla": gowalla, "ml-1m": movielens_1m}[name]().train, factors=factors)
    users, items = (np.ascontiguousarray(each, np.float32) for each in (model.user_vectors, model.item_vectors))
    return users, items


def spread(items: Floats, count: int) -> Floats:
    """Add mixtures of two items each, with 30 % noise, up to `count` items."""
    rng = np.random.default_rng(0)
    more = count - len(items)
    share = rng.random((more, 1), dtype=np.float32)
    mixed = share * items[rng.integers(0, len(items), more)] + (1 - share) * items[rng.integers(0, len(items), more)]
    scale = 0.3 * np.linalg.norm(mixed, axis=1, keepdims=True) / np.sqrt(items.shape[1])
    mixed += scale * rng.standard_normal(mixed.shape, dtype=np.float32)
    return np.concatenate([items, mixed])


def vectors(name: str, factors: int) -> tuple[Floats, Floats]:
    """Give the vectors of users and items of a set."""
    if name == "random":
        rng = np.random.default_rng(0)
        users, items = (rng.standard_normal((rows, factors), dtype=np.float32) for rows in (1000, RANDOM))
        return users / factors, items
    users, items = trained(name.removesuffix("-1m") if name == "gowalla-1m" else name, factors)
    return users, spread(items, MILLION) if name == "gowalla-1m" else items


def recall(users: Floats, items: Floats, ids: Indices, exact: bool, name: str) -> float:
    """Check lists [B, k]; return the share of items that are among the best in float64, up to ties."""
    found = 0
    for user, own in zip(users.astype(np.float64), ids, strict=True):
        logits = items @ user
        best = float(np.partition(logits, -len(own))[-len(own)])
        right = logits[own] >= best - LOGIT * max(1, abs(best))
        if exact and not (right.all() and len(set(own.tolist())) == len(own)):
            raise SystemExit(f"{name}: wrong: {(~right).sum()} of {len(own)} items are not among the best")
        found += int(right.sum())
    return found / ids.size


def cpu_seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def one_by_one(engines: list[DotEngine], users: Indices, k: int, rounds: int) -> dict[str, list[float]]:
    """Give each user's minimum over the rounds, by engine."""
    best = {engine.name: [float("inf")] * len(users) for engine in engines}
    order = random.Random(0)
    for _ in range(rounds):
        for at, user in enumerate(users):
            for engine in order.sample(engines, len(engines)):
                one = np.array([user])
                engine.top_k(one, k)  # with its data in the caches, as far as they fit
                best[engine.name][at] = min(best[engine.name][at], cpu_seconds(lambda e=engine, u=one: e.top_k(u, k)))
    return best


def together(engines: list[DotEngine], users: Indices, k: int, rounds: int) -> dict[str, list[float]]:
    """Give the minimum of one call for all users over the rounds, by engine."""
    best = {engine.name: [float("inf")] for engine in engines}
    order = random.Random(0)
    for _ in range(rounds):
        for engine in order.sample(engines, len(engines)):
            seconds = cpu_seconds(lambda e=engine: e.top_k(users, k))
            best[engine.name][0] = min(best[engine.name][0], seconds)
    return best


def run_set(name: str, factors: int, options: argparse.Namespace, record: DotRecord) -> None:
    """Time all engines on one set of vectors."""
    try:
        users, items = vectors(name, factors)
    except FileNotFoundError as error:
        record.missing[f"the set {name}"] = f"no such file: {error.filename}"
        return
    engines: list[DotEngine] = []
    for engine in ENGINES:
        try:
            engines.append(engine(users, items))
        except ImportError as error:
            record.missing[engine.name] = f"not installed: {error}"
    chosen = np.random.default_rng(1).choice(len(users), BATCH, replace=False)
    for k in options.k:
        for count, timed in ((1, one_by_one), (BATCH, together)):
            few = chosen[: ONE_BY_ONE if count == 1 else BATCH]
            recalls = {
                engine.name: recall(users[few[:8]], items, engine.top_k(few[:8], k), engine.exact, engine.name)
                for engine in engines
            }
            for engine, seconds in timed(engines, few, k, options.rounds).items():
                mean, median = statistics.fmean(seconds), statistics.median(seconds)
                record.times.append(Time(name, factors, len(items), count, k, engine, mean, median, recalls[engine]))
            print(*list(rows(record))[-1:], sep="\n", flush=True)
    del engines
    gc.collect()


def rows(record: DotRecord) -> Iterator[str]:
    """Yield the rows of a Markdown table: a query each, the engines across."""
    names = [engine.name for engine in ENGINES if any(each.engine == engine.name for each in record.times)]
    yield f"| | {' | '.join(names)} |"
    yield "|---" * (len(names) + 1) + "|"
    queries = dict.fromkeys((each.data, each.factors, each.items, each.users, each.k) for each in record.times)
    for query in queries:
        times = {each.engine: each for each in record.times
                 if (each.data, each.factors, each.items, each.users, each.k) == query}  # fmt: skip
        data, factors, items, users, k = query
        cells = []
        for name in names:
            each = times[name]
            text = milliseconds(each.mean) if users > 1 else f"{milliseconds(each.mean)} ({milliseconds(each.median)})"
            text += "" if name == OURS else f" {significant(each.mean / times[OURS].mean)}x"
            cells.append(text if each.recall == 1 else f"{text} recall {each.recall:.3f}")
        users_text = "1 user" if users == 1 else f"{users} users"
        yield f"| {data}, d = {factors}, {items:,} items, {users_text}, top-{k} | {' | '.join(cells)} |"


def markdown(record: DotRecord, plot: str) -> str:
    """Format the record of a run."""
    lines = [f"# Dot products, {record.machine['date']}", "", "Printed by `benches/peers/dots.py`.", ""]
    lines += [f"- {key}: {value}" for key, value in record.machine.items()]
    lines += [f"- {name} is skipped: {reason}" for name, reason in record.missing.items()]
    lines += ["", f"![times by engine]({plot})", ""]
    lines += ["Milliseconds of CPU time, one core. One user: mean (median) over users of their minima. Ratios to",
              "NeuralCF; above 1, NeuralCF is faster.", ""]  # fmt: skip
    return "\n".join([*lines, *rows(record)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sets = ["gowalla", "ml-1m", "random", "gowalla-1m"]
    parser.add_argument("--sets", nargs="+", choices=sets, default=sets)
    parser.add_argument("--factors", nargs="+", type=int, default=[64, 128, 192, 256])
    parser.add_argument("--k", nargs="+", type=int, default=[10, 100])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--record", metavar="DIR", help="write figures, a table and a plot to this directory")
    options = parser.parse_args()
    record = DotRecord(machine(PACKAGES), {})
    for name in options.sets:
        few = {min(options.factors), max(options.factors)} if name == "gowalla-1m" else options.factors
        for factors in sorted(few):
            run_set(name, factors, options, record)
    print(*(f"{name} is skipped: {reason}" for name, reason in record.missing.items()), sep="\n")
    print(*rows(record), sep="\n")
    if options.record:
        from benches.peers.dot_plot import plot  # needs matplotlib

        caption = f"{record.machine['processor']}, one core; {record.machine['date']}"
        save(record, options.record, "dots", lambda plotted: markdown(record, plotted),
             lambda to: plot(record.times, caption, to))  # fmt: skip


if __name__ == "__main__":
    main()

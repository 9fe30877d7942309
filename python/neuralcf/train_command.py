"""What `neuralcf train` reads and prints."""

from __future__ import annotations

from typing import Any

from neuralcf.data import Split, given, hold_out
from neuralcf.data.readers.interactions import ReadReport, read_interactions
from neuralcf.data.readers.source import read_source
from neuralcf.errors import ArgumentError
from neuralcf.experiment import Run

__all__ = ["print_outcome", "read_split"]


def read_split(
    data: str, reading: dict[str, Any], *, held_out: str | None, how: str | None, seed: int
) -> tuple[Split, dict[str, Any]]:
    """Read the data and split them; tell what was read.

    Args:
        data: a file of interactions, or X for the files X.train.rating and the two beside it.
        reading: further arguments of `read_interactions`.
        held_out: a file of held-out interactions.
        how: a rule of `hold_out`.
        seed: decides a random split.

    Returns:
        The split, and what config.json is to tell of the data, from which `neuralcf evaluate` makes the split again.

    Raises:
        ArgumentError: data that cannot be read or split; more than one way to split them.
        OSError: a file cannot be read.
    """
    source, reports = read_source(data, **reading)
    if isinstance(source, Split):
        if held_out is not None or how is not None:
            raise ArgumentError(f"{data}: expected neither --split nor --held-out: these files are a split already")
        split: Split = source
    elif held_out is not None:
        test, report = read_interactions(held_out, **reading)
        reports.append(report)
        split = given(source, test)
    else:
        split = hold_out(source, seed, how or "auto")
    for report in reports:
        _print_report(report)
    train = split.train
    print(f"{len(train):,} interactions of {train.num_users:,} users with {train.num_items:,} items to train on")
    if isinstance(source, Split) or held_out is not None:
        return split, {"fingerprint": train.fingerprint(), "split": "given"}
    return split, {"fingerprint": source.fingerprint(), "split": how or "auto"}


def _print_report(report: ReadReport) -> None:
    separated = f", separated by {report.delimiter!r}" if report.delimiter else ""
    print(f"{report.source}: {report.rows:,} rows, columns {', '.join(report.columns)}{separated}")
    bad = f", {report.bad:,} bad, such as {report.problems[0]}" if report.bad else ""
    print(f"  left out: {report.below_threshold:,} below the least rating, {report.duplicates:,} repeated{bad}")


def print_outcome(trained: Run, k: int = 10) -> None:
    """Print which epoch was kept, how long it took, and how the held-out items rank at cut-off `k`."""
    config, history = trained.config, trained.result.history
    why = "best on validation interactions" if config.validation else "the last, without validation"
    if config.refit:
        why += ", and trained once more on these too"
    seconds = sum(record.seconds for record in history)
    print(f"{config.model}: epoch {trained.result.best_epoch} kept, {why}; {len(history)} epochs in {seconds:.1f} s")
    if not trained.metrics:
        print("  nothing was held out to measure it by")
        return
    print(f"  {trained.split.guarantee.partition(';')[0]}")
    print(
        f"  {'':12} {config.model:>8} {'popularity':>11}   held-out items of {trained.metrics[0].users:,} users, among"
    )
    for metric in trained.metrics:
        if metric.name in (f"HR@{k}", f"NDCG@{k}"):
            print(f"  {metric.name:12} {metric.value:8.4f} {metric.popularity:11.4f}   {metric.protocol}")

"""What `neuralcf evaluate` and `neuralcf compare` do: make the split again, rank, print tables or JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import Ids, Scorer, open_model
from neuralcf.baselines import BASELINES
from neuralcf.data import Dataset, GivenSplit, Split, given, hold_out
from neuralcf.data.csr import Rows, rows_from_pairs
from neuralcf.data.dataset import ExternalIds
from neuralcf.errors import ArgumentError, ModelFormatError
from neuralcf.evaluation.protocols import Ranker, candidates_of, evaluate_candidates, evaluate_full
from neuralcf.evaluation.result import Evaluation
from neuralcf.evaluation.significance import Difference, interval
from neuralcf.format.config import read_config

__all__ = [
    "Questions",
    "comparison_json",
    "comparison_text",
    "evaluate_model",
    "evaluate_or_load",
    "evaluation_json",
    "evaluation_text",
    "open_with_split",
]


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What is to be evaluated on, and how."""

    data: str
    """A file of interactions, or X for the files X.train.rating and the two beside it."""
    reading: dict[str, Any]
    """Further arguments of `read_interactions`."""
    held_out: str | None = None
    """A file of held-out interactions; None makes the split again that the model was trained on."""
    protocol: str = "full"
    """`full` or `1+99`."""
    cutoffs: Sequence[int] = (5, 10, 20)
    """k."""
    seed: int = 0
    """Decides the drawn candidates."""

    def ask(self, ranker: Ranker, split: Split) -> Evaluation:
        """Evaluate a ranker on a split."""
        if self.protocol == "full":
            evaluation = evaluate_full(ranker, split, self.cutoffs, lists=True)
        else:
            candidates, origin = candidates_of(split, seed=self.seed)
            held = split.users, split.items
            evaluation = evaluate_candidates(ranker, *held, *candidates, self.cutoffs, origin=origin)
        ids, users = split.train.user_ids, np.asarray(evaluation.users)
        return replace(evaluation, users=ids[users] if isinstance(ids, np.ndarray) else [ids[user] for user in users])


def evaluate_model(path: str, questions: Questions, baselines: Sequence[str] = ()) -> dict[str, Evaluation]:
    """Evaluate a model, under its path, and baselines fitted on the same training part, under their names.

    Raises:
        ArgumentError: data that are not those of the model, or nothing to rank.
        ModelFormatError, OSError: files that cannot be read.
    """
    scorer, split = open_with_split(path, questions)
    evaluations = {path: questions.ask(scorer, split)}
    return evaluations | {name: questions.ask(BASELINES[name](split.train), split) for name in baselines}


def open_with_split(path: str, questions: Questions) -> tuple[Scorer, Split]:
    """Open a model and split the data, in its dense indices and with all its ids; errors as for `evaluate_model`."""
    scorer, user_ids, item_ids = open_model(path)
    return scorer, _in_model_indices(_split(path, questions), scorer, user_ids, item_ids)


def evaluate_or_load(paths: tuple[str, str], questions: Questions | None) -> tuple[Evaluation, Evaluation]:
    """Get two evaluations to compare: per-user values from .npz files, or models and baselines to evaluate.

    Raises:
        ArgumentError: a model without data, or a baseline without a model beside it.
    """
    models = [path for path in paths if path not in BASELINES and not path.endswith(".npz")]
    names = [path for path in paths if path in BASELINES]
    evaluations = {path: Evaluation.load(path) for path in paths if path.endswith(".npz")}
    if (models or names) and questions is None:
        raise ArgumentError(f"{(models + names)[0]}: expected DATA to evaluate it on, or per-user values in .npz files")
    if names and not models:
        raise ArgumentError(f"{names[0]}: expected a model beside a baseline, whose split it takes")
    for path in models:
        assert questions is not None
        evaluations |= evaluate_model(path, questions, names)
    return evaluations[paths[0]], evaluations[paths[1]]


def _split(path: str, questions: Questions) -> Split:
    """Read the data and split them as the model was trained, or as the files are."""
    from neuralcf.data.readers.interactions import read_interactions
    from neuralcf.data.readers.source import read_source

    dataset, _ = read_source(questions.data, **questions.reading)
    if isinstance(dataset, GivenSplit):
        return dataset
    if questions.held_out is not None:
        return given(dataset, read_interactions(questions.held_out, **questions.reading)[0])
    config = read_config(path)
    data, seed = config.get("data", {}), config.get("training", {}).get("seed")
    fingerprint, rule = data.get("fingerprint"), data.get("split", "auto")
    for key, value, fits, expected in (
        ("training: seed", seed, seed is None or (type(seed) is int and seed >= 0), "an integer of at least 0"),
        ("data: split", rule, isinstance(rule, str), "a string"),
    ):
        if not fits:
            raise ModelFormatError(f"{Path(path) / 'config.json'}: {key}: expected {expected}, got {value!r}")
    if fingerprint is None or seed is None:
        raise ArgumentError(
            f"{path}: the model does not tell what it was trained on; pass what is held out as --held-out"
        )
    if rule == "given":
        raise ArgumentError(f"{path}: what is held out was given in a file when it was trained; pass it as --held-out")
    if dataset.fingerprint() != fingerprint:
        raise ArgumentError(
            f"{questions.data}: expected the interactions that {path} was trained on, read with the same options, "
            f"got others ({len(dataset):,}); pass what is held out as --held-out"
        )
    return hold_out(dataset, seed, rule)


def _in_model_indices(split: Split, scorer: Scorer, user_ids: Ids | None, item_ids: Ids | None) -> Split:
    """Give the split in the dense indices of the model, without what the model does not know.

    The ids of a model that was saved without are 0, 1, ...
    """
    train = split.train
    users, all_users = _places("user", train.user_ids, user_ids, scorer.num_users)
    items, all_items = _places("item", train.item_ids, item_ids, scorer.num_items)
    known = (users[train.users] >= 0) & (items[train.items] >= 0)
    kept = train.take(known)
    mapped = Dataset(users[kept.users], items[kept.items], kept.timestamps, all_users, all_items)
    held = (users[split.users] >= 0) & (items[split.items] >= 0)
    guarantee = split.guarantee
    if not held.all():
        left_out = held.size - int(held.sum())
        note = f"{left_out:,} held-out pairs of users or with items that the model does not know are left out"
        print(f"neuralcf: {note}", file=sys.stderr)
        guarantee += f"; {note}"
    pairs = users[split.users[held]], items[split.items[held]]
    if not isinstance(split, GivenSplit) or split.candidates is None:
        return Split(mapped, *pairs, guarantee)
    return GivenSplit(mapped, *pairs, guarantee, _candidates(split.candidates, held, items))


def _candidates(rows: Rows, held: NDArray[np.bool_], items: NDArray[np.int64]) -> Rows:
    indptr, indices = rows
    row = np.repeat(np.arange(held.size), np.diff(indptr))
    kept = held[row] & (items[indices] >= 0)
    number = np.cumsum(held) - 1  # of the row among those that are kept
    return rows_from_pairs(number[row[kept]], items[indices[kept]], int(held.sum()), int(items.max()) + 1)


def _places(
    what: str, ours: ExternalIds, stored: Ids | None, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64] | list[str]]:
    """Give the model's index of each of our ids, -1 where it has none, and all ids of the model."""
    kind = "int64" if isinstance(ours, np.ndarray) else "str"
    expected = "int64" if stored is None else stored.kind
    if kind != expected:
        raise ArgumentError(f"{what}s: expected ids of the model's type, {expected}, got {kind}")
    if stored is not None:
        return stored.find(ours), stored.take(np.arange(count))
    indices = np.asarray(ours)
    return np.where((indices >= 0) & (indices < count), indices, -1), np.arange(count)


def evaluation_json(evaluations: dict[str, Evaluation]) -> dict[str, Any]:
    """Give every number with its protocol; an interval that is undefined is null."""
    results = {}
    for name, evaluation in evaluations.items():
        means: dict[str, Any] = {
            metric: {key: _finite(value) for key, value in asdict(interval(values)).items()}
            for metric, values in evaluation.per_user.items()
        }
        means |= {metric: {"mean": value} for metric, value in evaluation.overall.items()}
        results[name] = {metric: {**value, "protocol": evaluation.protocol} for metric, value in means.items()}
    one = next(iter(evaluations.values()))
    return {
        "users": len(one.users),
        "held_out": one.held_out,
        "fingerprint": one.fingerprint,
        "interval": "95%, normal approximation over users",
        "results": results,
    }


def evaluation_text(evaluations: dict[str, Evaluation]) -> str:
    """Make a table: a metric a line, a ranker a column, mean +- half the 95% interval, the protocol at the end."""
    one = next(iter(evaluations.values()))
    names = [Path(name).name or name for name in evaluations]
    width = max(16, *(len(name) + 2 for name in names))
    lines = [
        f"{one.held_out:,} held-out items of {len(one.users):,} users; +- is the 95% interval of the mean over users",
        f"{'':12}" + "".join(f"{name:>{width}}" for name in names) + "   ranked among",
    ]
    for metric in one.means:
        cells = []
        for evaluation in evaluations.values():
            text = f"{evaluation.means[metric]:.4f}"
            if metric in evaluation.per_user:
                bounds = interval(evaluation.per_user[metric])
                text += f" +-{bounds.high - bounds.mean:.4f}"
            else:
                text += " " * 8
            cells.append(f"{text:>{width}}")
        lines.append(f"{metric:12}{''.join(cells)}   {one.protocol}")
    return "\n".join(lines)


def comparison_text(differences: Sequence[Difference], a: Evaluation) -> str:
    """Make a table of A, B and their difference with its interval and p."""
    lines = [
        f"{a.held_out:,} held-out items of the same {len(a.users):,} users",
        f"{'':12}{'A':>9}{'B':>9}{'A - B':>10}{'95% interval':>22}{'p':>9}   ranked among",
    ]
    for each in differences:
        text = f"{each.metric:12}{each.a:9.4f}{each.b:9.4f}{each.a - each.b:+10.4f}"
        if each.difference is None or each.p is None:
            text += " " * 31
        else:
            bounds = f"{each.difference.low:+.4f} to {each.difference.high:+.4f}"
            text += f"{bounds:>22}{each.p:9.4f}"
        lines.append(f"{text}   {a.protocol}")
    return "\n".join([*lines, "p: two-sided sign-flip permutation test on per-user differences, 10,000 flips"])


def comparison_json(differences: Sequence[Difference], a: Evaluation) -> dict[str, Any]:
    """Give every difference with its protocol; an interval that is undefined is null."""
    rows = []
    for each in differences:
        row = asdict(each)
        if each.difference is not None:
            row["difference"] = {key: _finite(value) for key, value in row["difference"].items()}
        rows.append({**row, "protocol": a.protocol})
    test = "sign-flip permutation, two-sided, 10,000 flips"
    return {"users": len(a.users), "held_out": a.held_out, "fingerprint": a.fingerprint, "test": test, "metrics": rows}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None

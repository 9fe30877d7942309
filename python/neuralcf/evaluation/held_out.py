"""Evaluate models on held-out interactions: reproduce a model's split, and evaluate the model and baselines on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import Ids, Scorer, open_model
from neuralcf.baselines import BASELINES
from neuralcf.data import Dataset, GivenSplit, Split, hold_out
from neuralcf.data.csr import CSR, csr_from_pairs
from neuralcf.data.dataset import ExternalIds, is_integer, with_text_ids
from neuralcf.errors import ArgumentError, ModelFormatError, argument
from neuralcf.evaluation.protocols import Ranker, Relevance, candidates_of, evaluate_candidates, evaluate_full
from neuralcf.evaluation.result import Evaluation
from neuralcf.format.config import read_config

__all__ = [
    "EvaluationSetup",
    "OpenedModel",
    "evaluate_model",
    "evaluate_or_load",
    "open_with_split",
]


@dataclass(frozen=True, kw_only=True)
class EvaluationSetup:
    """The data to evaluate on, and how."""

    data: str | Sequence[str]
    """A file of interactions, several, or the prefix X of X.train.rating and its two companion files."""
    reading: dict[str, Any]
    """Keyword arguments of `read_interactions`."""
    held_out: str | None = None
    """A file of held-out interactions; None reproduces the split that the model was trained with."""
    protocol: str = "full"
    """`full` or `1+99`."""
    relevance: Relevance = "binary"
    """What a held-out item is worth in NDCG, as for `evaluate_full`."""
    cutoffs: Sequence[int] = (5, 10, 20)
    """The cut-offs k."""
    seed: int = 0
    """Random seed of the sampled candidates."""

    @cached_property
    def source(self) -> tuple[Dataset | GivenSplit, bool]:
        """The data, or the split if it was made elsewhere; and whether all ids are from text, which told their types.

        Read once for all models, because a pipe can be read once.
        """
        from neuralcf.data.readers.source import given_files, read_source  # needs pyarrow; .npz files do not

        source, reports = read_source(self.data, **self.reading)
        if self.held_out is not None and not isinstance(source, GivenSplit):
            source, report = given_files(source, reports[0], self.held_out, self.reading)
            reports.append(report)
        return source, all(report.delimiter is not None for report in reports)

    def evaluate(self, ranker: Ranker, split: Split) -> Evaluation:
        """Evaluate a ranker on a split."""
        if self.protocol == "full":
            evaluation = evaluate_full(ranker, split, self.cutoffs, lists=True, relevance=self.relevance)
        elif self.relevance != "binary":
            raise ArgumentError(
                f"{argument('relevance')}: expected binary with the protocol {self.protocol}, where each held-out item "
                f"has a list of its own, got {self.relevance}"
            )
        else:
            candidates, origin = candidates_of(split, seed=self.seed)
            held = split.users, split.items
            evaluation = evaluate_candidates(ranker, *held, *candidates, self.cutoffs, origin=origin)
        ids, users = split.train.user_ids, np.asarray(evaluation.users)
        return replace(evaluation, users=ids[users] if isinstance(ids, np.ndarray) else [ids[user] for user in users])


class OpenedModel(NamedTuple):
    """A model and the split to evaluate it on."""

    scorer: Scorer
    split: Split
    """In the model's dense indices and with all its ids."""
    notes: list[str]
    """What was skipped, for the user to know."""


def evaluate_model(
    path: str, setup: EvaluationSetup, baselines: Sequence[str] = ()
) -> tuple[dict[str, Evaluation], list[str]]:
    """Evaluate a model, and baselines fitted on the same training set.

    Returns:
        The evaluations, keyed by the model's path and the baselines' names, and the notes of `OpenedModel`.

    Raises:
        ArgumentError: data other than the model's, or no held-out items to rank.
        ModelFormatError, OSError: a file cannot be read.
    """
    scorer, split, notes = open_with_split(path, setup)
    evaluations = {path: setup.evaluate(scorer, split)}
    evaluations |= {name: setup.evaluate(BASELINES[name](split.train), split) for name in baselines}
    return evaluations, notes


def open_with_split(path: str, setup: EvaluationSetup) -> OpenedModel:
    """Open a model and split the data to evaluate it on.

    Raises:
        As `evaluate_model`.
    """
    scorer, user_ids, item_ids = open_model(path)
    _, guessed = setup.source
    split = _split(path, setup, user_ids, item_ids)
    return OpenedModel(scorer, *_in_model_indices(split, scorer, user_ids, item_ids, guessed=guessed))


def evaluate_or_load(
    paths: tuple[str, str], setup: EvaluationSetup | None
) -> tuple[tuple[Evaluation, Evaluation], list[str]]:
    """Return two evaluations to compare: load per-user metrics from .npz files, evaluate models and baselines.

    Returns:
        The two evaluations, and the notes of `OpenedModel`.

    Raises:
        ArgumentError: a model or a baseline without `setup`, or a baseline without a model, whose split it uses.
    """
    models = [path for path in paths if path not in BASELINES and not path.endswith(".npz")]
    names = [path for path in paths if path in BASELINES]
    evaluations = {path: Evaluation.load(path) for path in paths if path.endswith(".npz")}
    if (models or names) and setup is None:
        raise ArgumentError(
            f"{(models + names)[0]}: expected DATA to evaluate it on, or .npz files of per-user metrics instead"
        )
    if names and not models:
        raise ArgumentError(f"{names[0]}: expected a model beside a baseline, which uses the model's split")
    notes: list[str] = []
    for path in models:
        assert setup is not None
        measured, skipped = evaluate_model(path, setup, names)
        evaluations |= measured
        notes += skipped
    return (evaluations[paths[0]], evaluations[paths[1]]), notes


def _split(path: str, setup: EvaluationSetup, user_ids: Ids | None, item_ids: Ids | None) -> Split:
    """Split the data as the files are split, or else as for the model's training."""
    dataset, guessed = setup.source
    if isinstance(dataset, GivenSplit):
        return dataset
    for side, ids in (("user", user_ids), ("item", item_ids)):
        if guessed and ids is not None and ids.kind == "str":
            dataset = with_text_ids(dataset, side)
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
            f"{path}: the model does not record the data it was trained on; pass the held-out file as "
            f"{argument('held_out')}"
        )
    if rule == "given":
        raise ArgumentError(
            f"{path}: the model was trained with a held-out file; pass the same file as {argument('held_out')}"
        )
    if dataset.fingerprint() != fingerprint:
        raise ArgumentError(
            f"{setup.data}: expected the interactions that {path} was trained on, read with the same options, "
            f"got other data ({len(dataset):,} interactions); to evaluate on it, pass the held-out file "
            f"as {argument('held_out')}"
        )
    return hold_out(dataset, seed, rule)


def _in_model_indices(
    split: Split, scorer: Scorer, user_ids: Ids | None, item_ids: Ids | None, *, guessed: bool
) -> tuple[Split, list[str]]:
    """Map a split to the model's dense indices, without users and items that are not in the model; note what it skips.

    A model saved without ids has the ids 0, 1, ... If the types of the data's ids were `guessed` from text, they are
    those of the model.
    """
    train = split.train
    users, all_users = _places("user", train.user_ids, user_ids, scorer.num_users, guessed)
    items, all_items = _places("item", train.item_ids, item_ids, scorer.num_items, guessed)
    mapped = train.reindexed(users, items, all_users, all_items)
    held = (users[split.users] >= 0) & (items[split.items] >= 0)
    guarantee, notes = split.guarantee, []
    left_out = held.size - int(held.sum()) + (split.left_out if isinstance(split, GivenSplit) else 0)
    if left_out:
        note = f"skipped {left_out:,} held-out pairs whose user or item is not in the model"
        notes.append(note)
        guarantee += f"; {note}"
    pairs = users[split.users[held]], items[split.items[held]]
    weights = None if split.weights is None else split.weights[held]
    if not isinstance(split, GivenSplit) or split.candidates is None:
        return Split(mapped, *pairs, guarantee, weights=weights), notes
    candidates = _candidates(split.candidates, held, items)
    return GivenSplit(mapped, *pairs, guarantee, candidates, weights=weights), notes


def _candidates(rows: CSR, held: NDArray[np.bool_], items: NDArray[np.int64]) -> CSR:
    indptr, indices = rows
    row = np.repeat(np.arange(held.size), np.diff(indptr))
    kept = held[row] & (items[indices] >= 0)
    number = np.cumsum(held) - 1  # of each row, among the kept rows
    return csr_from_pairs(number[row[kept]], items[indices[kept]], int(held.sum()), int(items.max()) + 1)


def _places(
    what: str, ours: ExternalIds, stored: Ids | None, count: int, guessed: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64] | list[str]]:
    """Return the model's index of each of our ids (-1 if it is not in the model), and all ids of the model."""
    kind = "int64" if isinstance(ours, np.ndarray) else "str"
    expected = "int64" if stored is None else stored.kind
    if kind != expected and guessed:
        return _places_of_guessed(ours, stored, count)
    if kind != expected:
        example = 0 if stored is None else stored.take(np.zeros(1, np.int64))[0]
        hint = f"pass {argument('text_ids', True)} to read all ids as text" if kind == "int64" else "make them integers"
        raise ArgumentError(
            f"{what}s: expected ids of the model's type, {expected}, such as {example!s}, got {kind}, such as "
            f"{ours[0]!s}; {hint}"
        )
    if stored is not None:
        return stored.find(ours), stored.take(np.arange(count))
    indices = np.asarray(ours)
    return np.where((indices >= 0) & (indices < count), indices, -1), np.arange(count)


def _places_of_guessed(
    ours: ExternalIds, stored: Ids | None, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64] | list[str]]:
    """As `_places`, for ids of the other type than the model's: text that is no integer is not in the model."""
    if not isinstance(ours, list):
        return _places("", list(map(str, ours.tolist())), stored, count, guessed=False)
    whole = np.array([is_integer(text) for text in ours], np.bool_)
    numbers = np.array([int(text) for text in ours if is_integer(text)], np.int64)
    found, ids = _places("", numbers, stored, count, guessed=False)
    places = np.full(len(ours), -1)
    places[whole] = found
    return places, ids

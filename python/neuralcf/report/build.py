"""Build the report on a model: reproduce its split, evaluate it beside baselines, collect lists and titles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import Scorer, __version__
from neuralcf.baselines import BASELINES
from neuralcf.data import Split
from neuralcf.data.csr import take_rows
from neuralcf.data.dataset import parse_id
from neuralcf.data.readers.titles import read_titles
from neuralcf.errors import ArgumentError, UnknownUserError
from neuralcf.evaluation.held_out import EvaluationSetup, open_with_split
from neuralcf.evaluation.protocols import Ranker, candidates_for
from neuralcf.evaluation.result import Evaluation
from neuralcf.format.config import read_config
from neuralcf.report.calibration import Scores
from neuralcf.report.comparison import Comparison
from neuralcf.report.lists import Lists, UserList
from neuralcf.report.model_report import ModelReport
from neuralcf.report.popularity import PopularityShares, popularity_groups, shares
from neuralcf.report.stages import Stages
from neuralcf.report.training import History

__all__ = ["report"]

_KINDS: Final = {"gmf": "GMF", "mlp": "MLP", "neumf": "NeuMF"}
_USUAL_NEGATIVES: Final = 4
_SHOWN: Final = 12
"""How many items of a history are shown."""


def report(
    path: str,
    setup: EvaluationSetup,
    *,
    baselines: Sequence[str] = ("popularity",),
    users: int | Sequence[str] = 6,
    items: dict[str, Any] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> ModelReport:
    """Evaluate a model by both protocols, whatever `setup.protocol` says, and collect what it recommends.

    Args:
        path: the model.
        setup: the data, the cut-offs, and the seed of all random samples.
        baselines: names of `BASELINES` to evaluate beside the model.
        users: whose lists to show: a number of users to sample from those with held-out items, or ids as typed.
        items: the arguments of `read_titles` except the ids, or None.
        progress: called with a text before each step that takes a while.

    Raises:
        ArgumentError: data other than the model's, no held-out items to rank, or a file without a title for any item.
        UnknownUserError: a user is not in the model.
        ModelFormatError, OSError: a file cannot be read.
    """
    scorer, split, notes = open_with_split(path, setup)
    if split.users.size == 0:
        raise ArgumentError(f"{setup.data}: expected held-out users and items that are in {path}, got none")
    shown = _chosen(users, split, setup.seed)
    titles = None if items is None else read_titles(item_ids=split.train.item_ids, **items)
    config = read_config(path)

    rankers: dict[str, Ranker] = {_KINDS[scorer.kind]: scorer}
    for name in baselines:
        progress(f"fitting {name}")
        rankers[name] = BASELINES[name](split.train)
    evaluations: dict[str, dict[str, Evaluation]] = {}
    for protocol in ("full", "1+99"):
        progress(f"ranking held-out items, {protocol}")
        chosen = replace(setup, protocol=protocol)
        measured = {name: chosen.evaluate(ranker, split) for name, ranker in rankers.items()}
        evaluations[_among(protocol, measured)] = measured

    k = 10 if 10 in setup.cutoffs else max(setup.cutoffs)
    return ModelReport(
        name=Path(path).resolve().name,
        sizes=(scorer.num_users, scorer.num_items),
        version=__version__,
        data=Path(setup.data if isinstance(setup.data, str) else setup.data[0]).name,
        guarantee=split.guarantee,
        notes=notes,
        seed=setup.seed,
        history=Stages.of(config) or History.of(config),
        comparison=Comparison(evaluations, k),
        popularity=_popularity(scorer, split, evaluations["all items"], k),
        scores=_scores(scorer, split, config, setup.seed),
        lists=Lists(
            users=_lists(scorer, split, shown, k, titles or {}),
            sampled=isinstance(users, int),
            latest_first=split.train.timestamps is not None,
            untitled=None if titles is None else scorer.num_items - len(titles),
            k=k,
        ),
        config=config,
    )


def _among(protocol: str, measured: dict[str, Evaluation]) -> str:
    """Name in two words what held-out items were ranked among."""
    return "all items" if protocol == "full" else next(iter(measured.values())).protocol.partition(" candidates")[0]


def _chosen(users: int | Sequence[str], split: Split, seed: int) -> NDArray[np.int64]:
    """Return the indices of the users whose lists are shown, int64."""
    if isinstance(users, int):
        if users < 0:
            raise ArgumentError(f"--users: expected an integer of at least 0, got {users}")
        evaluated = np.unique(split.users)
        chosen = np.random.default_rng(seed).choice(evaluated, min(users, evaluated.size), replace=False)
        return np.sort(chosen)
    ids = split.train.user_ids
    kind = "int64" if isinstance(ids, np.ndarray) else "str"
    place = {user: n for n, user in enumerate(ids.tolist() if isinstance(ids, np.ndarray) else ids)}
    wanted = [parse_id(text, kind) for text in users]
    unknown = [user for user in wanted if user not in place]
    if unknown:
        raise UnknownUserError(f"--user: not in the model: {', '.join(map(repr, unknown))}")
    return np.array([place[user] for user in wanted], dtype=np.int64)


def _popularity(scorer: Scorer, split: Split, evaluations: dict[str, Evaluation], k: int) -> PopularityShares:
    """Compare the popularity of what users with held-out items have with that of what they are recommended."""
    users, user_items = np.unique(split.users), split.train.user_items()
    best = scorer.top_k(users, k, exclude=take_rows(split.train.known_items(), users)).ids
    group_of = popularity_groups(np.bincount(user_items[1], minlength=scorer.num_items))
    return PopularityShares(
        recommended=shares(best[best >= 0], group_of),
        known=shares(take_rows(user_items, users)[1].astype(np.int64), group_of),
        held_out=shares(split.items, group_of),
        evaluations=evaluations,
        k=k,
    )


def _scores(scorer: Scorer, split: Split, config: dict[str, Any], seed: int) -> Scores:
    """Score the held-out pairs, and for each as many sampled negatives as in training."""
    stored = config.get("training", {}).get("negatives")
    recorded = stored if isinstance(stored, int) and stored >= 1 else None
    negatives = recorded or _USUAL_NEGATIVES
    indptr, sampled = candidates_for(split, count=negatives, seed=seed)
    if sampled.size == 0:
        raise ArgumentError(
            "expected negatives to sample for the users with held-out items, got none: they have every item"
        )
    return Scores(
        held_out=scorer.score_batch(split.users, split.items),
        sampled=scorer.score_batch(np.repeat(split.users, np.diff(indptr)), sampled),
        negatives=negatives,
        recorded=recorded is not None,
    )


def _lists(
    scorer: Scorer, split: Split, users: NDArray[np.int64], k: int, titles: dict[int | str, str]
) -> list[UserList]:
    """Return each user's history and recommendations, and the ranks of the held-out items."""
    item_ids, train, known = split.train.item_ids, split.train, split.train.known_items()

    def title(item: int) -> str:
        item_id = item_ids[item] if isinstance(item_ids, list) else int(item_ids[item])
        return titles.get(item_id, str(item_id))

    lists = []
    for user in users.tolist():
        mine = np.flatnonzero(train.users == user)
        if train.timestamps is not None:
            mine = mine[np.argsort(train.timestamps[mine], kind="stable")][::-1]
        exclude = take_rows(known, np.array([user]))
        ids, probabilities = scorer.top_k(np.array([user]), k, exclude=exclude)
        held = split.items[split.users == user]
        ranks = scorer.rank_of(np.full(held.size, user), held, exclude=take_rows(known, np.full(held.size, user)))
        best = [
            (title(item), probability, item in held)
            for item, probability in zip(ids[0].tolist(), probabilities[0].tolist(), strict=True)
            if item >= 0
        ]
        lists.append(
            UserList(
                user=str(train.user_ids[user]),
                history=[title(item) for item in train.items[mine[:_SHOWN]].tolist()],
                known=np.unique(train.items[mine]).size,
                recommended=best,
                held_out=[(title(item), rank + 1) for item, rank in zip(held.tolist(), ranks.tolist(), strict=True)],
            )
        )
    return lists

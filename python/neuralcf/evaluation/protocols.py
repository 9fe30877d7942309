"""Two evaluation protocols: full-catalogue ranking and sampled candidates.

Full        Rank the held-out items of a user, all in one list, among the whole catalogue except the user's training
            items.
Candidates  Rank each held-out item, in a list of its own, among items without an interaction of the user: 99 sampled
            ones in He et al., WWW 2017, section 4.1. A user's metric is the mean over these lists. Cheap and common,
            but dependent on the sample. Krichene and Rendle, "On sampled metrics for item recommendation", KDD 2020,
            show that the two protocols may order models differently.

A rank counts the other items that score at least as high. Ties count against the held-out item, so that a model that
gives every item the same score gains nothing. `neuralcf.baselines.base` ranks by the same rule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.csr import CSR, csr_from_pairs, take_rows
from neuralcf.data.negatives import draw_candidates
from neuralcf.data.split import GivenSplit, Split
from neuralcf.errors import ArgumentError, argument
from neuralcf.evaluation.metrics import (
    auc,
    average_precision,
    coverage,
    hit_ratio,
    ndcg,
    novelty,
    precision,
    recall,
    reciprocal_rank,
)
from neuralcf.evaluation.result import Evaluation
from neuralcf.results import TopK
from neuralcf.seeds import Stream, derive

__all__ = [
    "Ranker",
    "Relevance",
    "candidates_for",
    "candidates_of",
    "draw_candidates",
    "evaluate_candidates",
    "evaluate_full",
]

FULL_PROTOCOL = "the whole catalogue without the user's training items; ties count against"
FULL_PROTOCOL_WITH_DISLIKES = FULL_PROTOCOL.replace("items;", "items and dislikes;")


Relevance: TypeAlias = Literal["binary", "weights"]
"""What a held-out item is worth in NDCG: all the same, or their weights."""


class Ranker(Protocol):
    """What can be evaluated: a `Scorer`, a `Baseline`, or anything with the same methods."""

    @property
    def num_items(self) -> int:
        """Number of items, I."""

    def rank_of(
        self,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        *,
        exclude: CSR | None = None,
        allow: tuple[NDArray[np.int64], NDArray[np.integer[Any]]] | None = None,
    ) -> NDArray[np.int64]:
        """As `Scorer.rank_of`."""

    def top_k(self, users: NDArray[np.int64], k: int, *, exclude: CSR | None = None) -> TopK:
        """As `Scorer.top_k`."""


def evaluate_full(
    ranker: Ranker,
    split: Split,
    k: int | Sequence[int] = 10,
    *,
    lists: bool = False,
    relevance: Relevance = "binary",
) -> Evaluation:
    """Rank each held-out item among the whole catalogue without the user's training items.

    Args:
        ranker: the model, or a baseline.
        split: training set and held-out pairs, any number per user.
        k: one or several cut-offs.
        lists: whether to compute coverage and novelty too, at the cost of one `top_k` call.
        relevance: what a held-out item is worth in NDCG: all the same, or their `weights`. All other metrics only ask
            whether an item is held out.

    Raises:
        ArgumentError: nothing is held out, or k is below 1; relevance by weights, and the split has none.
        OutOfRangeError: users or items of the split are not in the model.
    """
    cutoffs = _cutoffs(k)
    users, list_of = _distinct(split.users)
    user_items, known = split.train.user_items(), split.train.known_items()
    ranks = ranker.rank_of(split.users, split.items, exclude=take_rows(known, split.users))
    per_user = _rank_metrics(ranks, cutoffs, list_of, ranker.num_items - np.diff(known[0])[users])
    graded = [] if relevance == "binary" else [_gains(split)]
    for gains in graded:
        per_user |= {f"NDCG@{cutoff}": ndcg(ranks, cutoff, list_of, gains) for cutoff in cutoffs}
    overall: dict[str, float] = {}
    if lists:
        best = ranker.top_k(users, max(cutoffs), exclude=take_rows(known, users)).ids
        popularity = np.bincount(user_items[1], minlength=split.train.num_items)
        present = int(np.count_nonzero(np.diff(user_items[0])))
        for cutoff in cutoffs:
            per_user[f"Novelty@{cutoff}"] = novelty(best[:, :cutoff], popularity, present)
            overall[f"Coverage@{cutoff}"] = coverage(best[:, :cutoff], ranker.num_items)
    protocol = FULL_PROTOCOL if split.train.dislikes is None else FULL_PROTOCOL_WITH_DISLIKES
    if graded:
        protocol += "; NDCG graded by the weights of held-out items"
    fingerprint = _fingerprint(protocol, split.users, split.items, *known, *(each.view(np.int32) for each in graded))
    return Evaluation(users, per_user, overall, split.users.size, protocol, fingerprint)


def evaluate_candidates(
    ranker: Ranker,
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    candidates_indptr: NDArray[np.int64],
    candidates_indices: NDArray[np.integer[Any]],
    k: int | Sequence[int] = 10,
    *,
    origin: str = "given",
) -> Evaluation:
    """Rank each held-out item among the candidates of its row.

    Args:
        ranker: the model, or a baseline.
        users: int64 [m].
        items: int64 [m], the held-out items.
        candidates_indptr: int64 [m + 1].
        candidates_indices: int [nnz], items in any order. Duplicates within a row count once; the held-out item itself
            does not count.
            A held-out item without candidates is left out, unless none has any.
        k: one or several cut-offs.
        origin: where the candidates come from, in a word or two for the protocol.

    Raises:
        OutOfRangeError: users or items that are not in the model.
        ArgumentError: arrays whose lengths do not match, nothing held out, or k below 1.
        TypeError: indices that are not integers.
    """
    cutoffs = _cutoffs(k)
    distinct, list_of = _distinct(users)
    if users.shape != items.shape or candidates_indptr.shape != (users.size + 1,):
        raise ArgumentError(
            "candidates_indptr: expected one entry more than users and items, got lengths "
            f"{candidates_indptr.size}, {users.size} and {items.size}"
        )
    ranks = ranker.rank_of(users, items, allow=(candidates_indptr, candidates_indices))
    row = np.repeat(np.arange(users.size), np.diff(candidates_indptr))
    indices = np.asarray(candidates_indices, dtype=np.int64)
    others = indices != items[row]
    counted = csr_from_pairs(row[others], indices[others], users.size, ranker.num_items)
    some = np.flatnonzero(np.diff(counted[0]))
    alone = users.size - some.size
    if alone and some.size:  # alone, an item is always first
        users, items, ranks, counted = users[some], items[some], ranks[some], take_rows(counted, some)
        distinct, list_of = _distinct(users)
    each = _rank_metrics(ranks, cutoffs, np.arange(users.size), np.diff(counted[0]) + 1)
    of_user = np.bincount(list_of)
    per_user = {name: np.bincount(list_of, weights=values) / of_user for name, values in each.items()}
    protocol = _candidates_protocol(counted[0], origin)
    if alone and some.size:
        protocol += f"; {alone} without any candidate left out"
    fingerprint = _fingerprint(protocol, users, items, *counted)
    return Evaluation(distinct, per_user, {}, users.size, protocol, fingerprint)


def candidates_for(split: Split, *, count: int = 99, seed: int = 0) -> CSR:
    """Sample `count` candidates for each held-out item: items that its user neither has, dislikes, nor has held out.

    Returns:
        As `draw_candidates`.
    """
    train = split.train
    indptr, known = train.known_items()
    users = np.concatenate([np.repeat(np.arange(train.num_users), np.diff(indptr)), split.users])
    taken = csr_from_pairs(users, np.concatenate([known, split.items]), train.num_users, train.num_items)
    stream = derive(seed, Stream.TEST_CANDIDATES)
    return draw_candidates(taken, train.num_items, split.users, split.items, count=count, seed=stream)


def candidates_of(split: Split, *, seed: int = 0) -> tuple[CSR, str]:
    """Return the candidates of each held-out item, those of the split or sampled ones, and their origin in words."""
    if isinstance(split, GivenSplit) and split.candidates is not None:
        return split.candidates, "given"
    return candidates_for(split, seed=seed), f"drawn with seed {seed}"


def _cutoffs(k: int | Sequence[int]) -> list[int]:
    cutoffs = sorted({k} if isinstance(k, int) else set(k))
    if not cutoffs or cutoffs[0] < 1:
        raise ArgumentError(f"k: expected integers >= 1, got {k!r}")
    return cutoffs


def _gains(split: Split) -> NDArray[np.float32]:
    if split.weights is None:
        raise ArgumentError(
            f"{argument('relevance')}: expected held-out items with weights, got data without any; pass "
            f"{argument('weight=')} or {argument('event_weights')} for the column that has them"
        )
    return split.weights


def _distinct(users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if users.size == 0:
        raise ArgumentError("users: expected held-out items to rank, got none")
    distinct, position = np.unique(users, return_inverse=True)
    return distinct, position.reshape(-1)


def _rank_metrics(
    ranks: NDArray[np.int64], cutoffs: Sequence[int], lists: NDArray[np.int64], sizes: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    metrics = {
        "HR": hit_ratio,
        "NDCG": ndcg,
        "Recall": recall,
        "MRR": reciprocal_rank,
        "Precision": precision,
        "MAP": average_precision,
    }
    values = {f"{name}@{k}": metric(ranks, k, lists) for name, metric in metrics.items() for k in cutoffs}
    return {**values, "AUC": auc(ranks, sizes, lists)}


def _candidates_protocol(indptr: NDArray[np.int64], origin: str) -> str:
    lengths = np.diff(indptr)
    least, most = int(lengths.min()), int(lengths.max())
    count = str(most) if least == most else f"{least} to {most}"
    return f"1 + {count} candidates for each held-out item, {origin}; ties count against"


def _fingerprint(protocol: str, *arrays: NDArray[np.integer[Any]]) -> str:
    digest = hashlib.sha256(protocol.encode())
    for array in arrays:
        digest.update(b" %d " % array.size)
        digest.update(array.astype("<i8").tobytes())
    return digest.hexdigest()

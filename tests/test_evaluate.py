"""Metrics and protocols against brute force."""

from pathlib import Path

import numpy as np
import pytest

from neuralcf import ArgumentError, Scorer
from neuralcf.data import Dataset, draw_candidates, leave_last_out, planted_taste
from neuralcf.evaluate import Evaluation, evaluate_candidates, evaluate_full, popularity_ranks
from neuralcf.metrics import hit_ratio, ndcg

ML_1M = Path(__file__).parent.parent.parent / "shared" / "data" / "ml-1m"


def coarse_scorer(num_users, num_items):
    """A GMF with few distinct scores, so that ties are everywhere."""
    rng = np.random.default_rng(0)
    tensors = {
        "gmf.user_embedding.weight": rng.integers(-1, 2, (num_users, 2)),
        "gmf.item_embedding.weight": rng.integers(-1, 2, (num_items, 2)),
        "output.weight": np.ones((1, 2)),
        "output.bias": np.zeros(1),
    }
    tensors = {name: value.astype(np.float32) for name, value in tensors.items()}
    logits = tensors["gmf.user_embedding.weight"] @ tensors["gmf.item_embedding.weight"].T  # [U, I], exact
    return Scorer.from_tensors(tensors), logits


@pytest.fixture(scope="module")
def split():
    return leave_last_out(planted_taste(60, 50, interactions_per_user=8).dataset)


def brute_force(scores, split, candidates=None):
    """Ranks by the definition: other allowed items that score at least as high."""
    ranks = []
    for n, (user, item) in enumerate(zip(split.users, split.items, strict=True)):
        if candidates is None:
            allowed = set(range(split.train.num_items)) - set(split.train.items[split.train.users == user].tolist())
        else:
            allowed = set(candidates[1][candidates[0][n] : candidates[0][n + 1]].tolist())
        ranks.append(sum(scores[user, other] >= scores[user, item] for other in allowed - {int(item)}))
    return np.array(ranks)


def with_repetitions(candidates, items):
    """The same rows, each with its held-out item and its first candidate once more, unsorted."""
    indptr, indices = candidates
    rows = [[*indices[a:b], item, indices[a]] for a, b, item in zip(indptr, indptr[1:], items, strict=False)]
    return np.cumsum([0, *map(len, rows)]), np.concatenate(rows).astype(np.int32)


def test_metrics_of_ranks_known_by_thought():
    ranks = np.array([0, 1, 9, 10])
    assert hit_ratio(ranks, 10) == 0.75
    assert ndcg(ranks, 10) == pytest.approx((1 + 1 / np.log2(3) + 1 / np.log2(11)) / 4)
    assert (hit_ratio(ranks, 1), ndcg(ranks, 1)) == (0.25, 0.25)


@pytest.mark.parametrize("ranks", [np.array([], dtype=int), np.array([-1]), np.array([1.0]), np.array([[1]])])
def test_metrics_refuse_what_is_no_rank(ranks):
    for metric in (hit_ratio, ndcg):
        with pytest.raises(ArgumentError, match="rank"):
            metric(ranks, 10)
        with pytest.raises(ArgumentError, match="k:"):
            metric(np.array([1]), 0)


def test_full_protocol_against_brute_force(split):
    scorer, logits = coarse_scorer(split.train.num_users, split.train.num_items)
    ranks = brute_force(logits, split)
    got = evaluate_full(scorer, split, k=20)
    assert got == Evaluation(hit_ratio(ranks, 20), ndcg(ranks, 20), 20, len(split.users), got.protocol)
    assert 0 < got.hr < 1


def test_candidates_protocol_against_brute_force(split):
    scorer, logits = coarse_scorer(split.train.num_users, split.train.num_items)
    drawn = draw_candidates(split.train.known(), split.train.num_items, split.users, split.items, count=20)
    ranks = brute_force(logits, split, drawn)
    for candidates in (drawn, with_repetitions(drawn, split.items)):
        got = evaluate_candidates(scorer, split.users, split.items, *candidates, k=5)
        assert (got.hr, got.ndcg) == (hit_ratio(ranks, 5), ndcg(ranks, 5))
        assert 0 < got.hr < 1
    assert "1 + 20" in evaluate_candidates(scorer, split.users, split.items, *drawn).protocol


def test_popularity_follows_the_same_rule(split):
    counts = np.bincount(split.train.items, minlength=split.train.num_items)
    scores = np.broadcast_to(counts, (split.train.num_users, counts.size))
    assert popularity_ranks(split.train, split.users, split.items).tolist() == brute_force(scores, split).tolist()
    drawn = draw_candidates(split.train.known(), split.train.num_items, split.users, split.items, count=20)
    for candidates in (drawn, with_repetitions(drawn, split.items)):
        ranks = popularity_ranks(split.train, split.users, split.items, candidates=candidates)
        assert ranks.tolist() == brute_force(scores, split, drawn).tolist()


@pytest.mark.skipif(not ML_1M.is_dir(), reason=f"no MovieLens-1M at {ML_1M}")
def test_popularity_on_the_papers_own_candidates():
    pairs = np.loadtxt(ML_1M / "ml-1m.train.rating.gz", dtype=np.int64, usecols=(0, 1))
    held = np.loadtxt(ML_1M / "ml-1m.test.rating", dtype=np.int64, usecols=(0, 1))
    negatives = np.loadtxt(ML_1M / "ml-1m.test.negative.gz", dtype=np.int32, usecols=range(1, 100))
    train = Dataset(pairs[:, 0], pairs[:, 1], None, np.arange(6040), np.arange(3706))
    candidates = (np.arange(6041, dtype=np.int64) * 99, negatives.ravel())
    ranks = popularity_ranks(train, held[:, 0], held[:, 1], candidates=candidates)
    assert hit_ratio(ranks, 10) == pytest.approx(0.4531, abs=0.002)
    assert ndcg(ranks, 10) == pytest.approx(0.2541, abs=0.002)

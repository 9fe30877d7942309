"""Protocols against brute force: training items masked, ties against, duplicates dropped, several held-out items."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import DATA
from neuralcf import ArgumentError, Scorer
from neuralcf.baselines import Popularity
from neuralcf.data import Dataset, given, hold_out, leave_last_out, planted_taste, renumbered
from neuralcf.data.split import Split, without_untrained
from neuralcf.evaluation.metrics import hit_ratio, ndcg, recall, reciprocal_rank
from neuralcf.evaluation.protocols import candidates_for, evaluate_candidates, evaluate_full
from neuralcf.evaluation.result import Evaluation

METRICS = {"HR": hit_ratio, "NDCG": ndcg, "Recall": recall, "MRR": reciprocal_rank}


def coarse_scorer(num_users, num_items):
    """Return a GMF with few distinct scores, hence many ties, and its logits [U, I]."""
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


def split_of(held_out):
    """Hold out the last `held_out` interactions of some users."""
    dataset = planted_taste(60, 50, interactions_per_user=8).dataset
    users, items = [], []
    train = dataset
    for _ in range(held_out):
        last = leave_last_out(train)
        some = last.users % 5 > 0
        train = last.train
        users.append(last.users[some])
        items.append(last.items[some])
    users, items = np.concatenate(users), np.concatenate(items)
    order = np.argsort(users, kind="stable")
    return Split(train, users[order], items[order], "test")


@pytest.fixture(scope="module", params=[1, 3])
def split(request):
    return split_of(request.param)


def brute_force(scores, split, candidates=None):
    """Rank by definition: count the other allowed items that score at least as high."""
    ranks = []
    for n, (user, item) in enumerate(zip(split.users, split.items, strict=True)):
        if candidates is None:
            allowed = set(range(split.train.num_items)) - set(split.train.items[split.train.users == user].tolist())
        else:
            allowed = set(candidates[1][candidates[0][n] : candidates[0][n + 1]].tolist())
        ranks.append(sum(scores[user, other] >= scores[user, item] for other in allowed - {int(item)}))
    return np.array(ranks)


def with_repetitions(candidates, items):
    """Return the rows, unsorted, each with its held-out item and a duplicate of its first candidate appended."""
    indptr, indices = candidates
    rows = [[*indices[a:b], item, indices[a]] for a, b, item in zip(indptr, indptr[1:], items, strict=False)]
    return np.cumsum([0, *map(len, rows)]), np.concatenate(rows).astype(np.int32)


def test_full_protocol(split):
    scorer, logits = coarse_scorer(split.train.num_users, split.train.num_items)
    ranks, users = brute_force(logits, split), np.unique(split.users)
    got = evaluate_full(scorer, split, k=(20, 5), lists=True)
    assert got.users.tolist() == users.tolist()
    assert got.held_out == len(split.items)
    assert "whole catalogue without the user's training items" in got.protocol
    for name, metric in METRICS.items():
        for k in (5, 20):
            expected = [
                metric(ranks[split.users == user], k, np.zeros((split.users == user).sum(), int)) for user in users
            ]
            assert got.per_user[f"{name}@{k}"].tolist() == pytest.approx(np.concatenate(expected).tolist())
    assert 0 < got.means["HR@20"] < 1
    assert got.means["HR@5"] == got.hr

    known = np.zeros(logits.shape, bool)
    known[split.train.users, split.train.items] = True
    best = np.argsort(np.where(known, np.inf, -logits)[users], axis=1, kind="stable")[:, :20]
    surprise = np.log2(split.train.num_users / np.maximum(known.sum(axis=0), 1))
    assert got.per_user["Novelty@20"] == pytest.approx(surprise[best].mean(axis=1))
    assert got.overall == {f"Coverage@{k}": len(np.unique(best[:, :k])) / logits.shape[1] for k in (5, 20)}


def test_candidates_protocol(split):
    """Each held-out item has its own list; a user's metric is the mean over them."""
    scorer, logits = coarse_scorer(split.train.num_users, split.train.num_items)
    drawn = candidates_for(split, count=20)
    ranks = brute_force(logits, split, drawn)
    users = np.unique(split.users)
    evaluations = [
        evaluate_candidates(ranker, split.users, split.items, *candidates, (5, 7))
        for ranker in (scorer,)
        for candidates in (drawn, with_repetitions(drawn, split.items))
    ]
    for got in evaluations:
        for name, metric in METRICS.items():
            values = metric(ranks, 5)
            expected = [values[split.users == user].mean() for user in users]
            assert got.per_user[f"{name}@5"].tolist() == pytest.approx(expected)
        assert 0 < got.hr < 1
        assert got.protocol == "1 + 20 candidates for each held-out item, given; ties count against"
    assert evaluations[0].fingerprint == evaluations[1].fingerprint  # the same setup


def test_candidates_are_neither_training_nor_held_out_items(split):
    indptr, indices = candidates_for(split, count=45)
    for n, user in enumerate(split.users):
        row = indices[indptr[n] : indptr[n + 1]].tolist()
        known = split.train.items[split.train.users == user]
        assert not set(row) & {*known.tolist(), *split.items[split.users == user].tolist()}
        assert len(row) == min(45, 50 - len(set(known.tolist())) - (split.users == user).sum())


def test_a_constant_model_gains_nothing():
    split = split_of(1)
    scorer = Scorer.from_tensors(
        {
            "gmf.user_embedding.weight": np.zeros((60, 1), np.float32),
            "gmf.item_embedding.weight": np.zeros((50, 1), np.float32),
            "output.weight": np.ones((1, 1), np.float32),
            "output.bias": np.zeros(1, np.float32),
        }
    )
    assert set(evaluate_full(scorer, split).means.values()) == {0.0}
    assert evaluate_candidates(scorer, split.users, split.items, *candidates_for(split, count=20)).hr == 0


def test_the_fingerprint_depends_on_the_setup():
    split = split_of(1)
    scorer, _ = coarse_scorer(60, 50)
    other_items = replace(split, items=np.roll(split.items, 1))
    less_train = replace(split, train=split.train.take(np.arange(1, len(split.train))))
    prints = [evaluate_full(scorer, each).fingerprint for each in (split, other_items, less_train)]
    for seed in (0, 1):
        rows = candidates_for(split, count=20, seed=seed)
        prints.append(evaluate_candidates(scorer, split.users, split.items, *rows).fingerprint)
    assert len(set(prints)) == len(prints)
    assert evaluate_full(Popularity(split.train), split, 3).fingerprint == prints[0]


def test_wrong_arguments_are_rejected():
    split = split_of(1)
    scorer, _ = coarse_scorer(60, 50)
    for k in (0, [], [5, -1]):
        with pytest.raises(ArgumentError, match="k: expected"):
            evaluate_full(scorer, split, k)
    with pytest.raises(ArgumentError, match="expected held-out items to rank, got none"):
        evaluate_full(scorer, replace(split, users=split.users[:0], items=split.items[:0]))
    indptr, indices = candidates_for(split, count=20)
    for ranker in (scorer, Popularity(split.train)):
        with pytest.raises(ArgumentError, match="one entry more than users and items"):
            evaluate_candidates(ranker, split.users, split.items, indptr[:-1], indices)


@pytest.mark.parametrize("ids", [np.array([9, -4, 7]), ["u", "ü", ""]])
def test_per_user_metrics_survive_saving(tmp_path, ids):
    values = {"HR@5": np.array([1.0, 0, 1]), "NDCG@5": np.array([0.5, 0, 1])}
    saved = Evaluation(ids, values, {"Coverage@5": 0.25}, 4, "the protocol", "f" * 64)
    saved.save(tmp_path / "values")
    back = Evaluation.load(tmp_path / "values")
    assert list(back.users) == list(ids)
    assert back.means == saved.means
    assert (back.held_out, back.protocol, back.fingerprint) == (4, "the protocol", "f" * 64)


def test_a_file_without_an_evaluation_is_rejected(tmp_path):
    path = tmp_path / "values.npz"
    for content in (b"", b"HR@5", b"PK\x03\x04 torn"):
        path.write_bytes(content)
        with pytest.raises(ArgumentError, match=r"values.npz: expected a file written by `Evaluation.save`"):
            Evaluation.load(path)
    for arrays in ({"x": np.ones(1)}, {"users": np.arange(2), "per_user/HR@5": np.ones(3)}):
        np.savez(path, **arrays)
        with pytest.raises(ArgumentError, match=r"values.npz: expected"):
            Evaluation.load(path)


@pytest.mark.skipif(not (DATA / "ml-1m").is_dir(), reason=f"no MovieLens-1M at {DATA}")
def test_the_papers_own_candidates():
    """The authors' weights and popularity; for 156 users the held-out item is among its own 99 candidates."""
    train = np.loadtxt(DATA / "ml-1m/ml-1m.train.rating.gz", dtype=np.int64, usecols=(0, 1))
    held = np.loadtxt(DATA / "ml-1m/ml-1m.test.rating", dtype=np.int64, usecols=(0, 1))
    negatives = np.loadtxt(DATA / "ml-1m/ml-1m.test.negative.gz", dtype=np.int32, usecols=range(1, 100))
    candidates = (np.arange(6041, dtype=np.int64) * 99, negatives.ravel())
    dataset = Dataset(train[:, 0], train[:, 1], None, np.arange(6040), np.arange(3706))
    scorer = Scorer.load(DATA / "ncf-weights/neumf8_init.safetensors")
    ours, popular = (
        evaluate_candidates(ranker, held[:, 0], held[:, 1], *candidates) for ranker in (scorer, Popularity(dataset))
    )
    assert (ours.hr, ours.ndcg) == pytest.approx((0.671026, 0.396939), abs=2e-6)
    assert (popular.hr, popular.ndcg) == pytest.approx((0.4531, 0.2541), abs=0.002)
    assert ours.protocol.startswith("1 + 95 to 99 candidates") or ours.protocol.startswith("1 + 98 to 99 candidates")


def test_weights_are_the_relevance_where_asked():
    """The gains follow the held-out pairs through every step of a split."""
    rng = np.random.default_rng(3)
    pairs = rng.permutation(12 * 20)[:150]
    users, items, weights = pairs // 20, pairs % 20, rng.integers(1, 9, 150)
    times = rng.permutation(150)
    dataset = Dataset.from_ids(users, items, times, weights=weights)
    weight_of = {
        (dataset.user_ids[u], dataset.item_ids[i]): w
        for u, i, w in zip(dataset.users, dataset.items, weights, strict=True)
    }
    split = hold_out(dataset, 0, "share:0.4")
    renamed = renumbered(hold_out(dataset, 0, "time:0.3"), np.array([11, 3]), np.array([19, 0, 5]))
    files = given(split.train, Dataset.from_ids([0, 1, 50], [7, 8, 9], weights=[2, 3, 4]))
    for each in (
        split,
        renamed,
        hold_out(dataset, 0, "last"),
        hold_out(dataset, 0, "random"),
        without_untrained(renamed),
    ):
        ids = zip(each.train.user_ids[each.users], each.train.item_ids[each.items], strict=True)
        assert each.weights.tolist() == [weight_of[pair] for pair in ids]
    assert files.weights.tolist() == [2, 3][: files.users.size]

    ranker = Popularity(split.train)
    binary, graded = (evaluate_full(ranker, split, 5, relevance=how) for how in ("binary", "weights"))
    assert graded.protocol == binary.protocol + "; NDCG graded by the weights of held-out items"
    assert graded.fingerprint != binary.fingerprint
    assert {name for name in graded.per_user if (graded.per_user[name] != binary.per_user[name]).any()} == {"NDCG@5"}
    equal = replace(split, weights=np.full(split.users.size, 3, np.float32))
    assert evaluate_full(ranker, equal, 5, relevance="weights").ndcg == pytest.approx(binary.ndcg, abs=1e-12)
    with pytest.raises(ArgumentError, match="relevance: expected held-out items with weights, got data without any"):
        evaluate_full(ranker, replace(split, weights=None), 5, relevance="weights")

"""From teachers to one GMF: each step against its formula, then the whole, stopped and resumed, and at the edges."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

import neuralcf
from neuralcf import ArgumentError, Scorer
from neuralcf.baselines import Popularity
from neuralcf.baselines.base import Histories
from neuralcf.data import Dataset, hold_out, planted_taste
from neuralcf.data.csr import csr_from_pairs
from neuralcf.evaluation import evaluate_full
from neuralcf.training import DistillConfig, TrainConfig, configure, train
from neuralcf.training.best_items import best_items
from neuralcf.training.cut import cut_by_svd
from neuralcf.training.cut_by_least_squares import cut_by_least_squares, leading
from neuralcf.training.lists_kept import lists_kept
from neuralcf.training.probability import NEGATIVES, fit_logit
from neuralcf.training.search import keep_back, ndcg_at_20, search_ease, search_ials
from neuralcf.training.teachers import Factors, ItemWeights, TeacherSum, with_estimated_users
from neuralcf.training.trainers import distill

SMALL = DistillConfig(factors=12, ials_factors=8, history_factors=8, history_epochs=3)


class Known:
    """Scores that are given."""

    def __init__(self, scores):
        self.given = scores.astype(np.float32)

    def scores(self, users):
        return self.given[users]

    def fold_in_scores(self, _):
        return None


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks of users, the last one not full."""
    monkeypatch.setattr("neuralcf.training.teachers._BLOCK_CELLS", 100)


@pytest.fixture(scope="module")
def dataset():
    return planted_taste(120, 60, seed=3).dataset


def logits_of(model):
    users, items = model.gmf.user_embedding.num_embeddings, model.gmf.item_embedding.num_embeddings
    with torch.inference_mode():
        pairs = (torch.from_numpy(index.ravel()) for index in np.indices((users, items)))
        return model(*pairs).reshape(users, items).numpy()


def test_a_sum_is_that_of_standardised_scores():
    rng = np.random.default_rng(0)
    one, other = 100 * rng.standard_normal((20, 9)), rng.standard_normal((20, 9)) + 5
    total = TeacherSum([(Known(one), 1.0), (Known(other), 0.5), (Known(np.ones((20, 9))), 1.0)], np.arange(20), seed=0)
    expected = one / one.std() + 0.5 * other / other.std()
    np.testing.assert_allclose(total.scores(np.array([3, 0])), expected[[3, 0]], rtol=1e-5)


@pytest.mark.parametrize("rank", [3, 40])
@pytest.mark.parametrize(("num_users", "num_items"), [(30, 9), (9, 30)])
def test_a_cut_is_the_truncated_svd_of_centred_scores(num_users, num_items, rank):
    """Also of more factors than users or items; a user who does not count gets the item biases."""
    scores = np.random.default_rng(0).standard_normal((num_users, num_items)) + np.arange(num_items)
    users = np.arange(1, num_users)
    sizes = {"num_users": num_users, "num_items": num_items}
    factors, share = cut_by_svd(Known(scores), users, **sizes, rank=rank, seed=0)
    centred = (scores - scores.mean(axis=1, keepdims=True))[1:]
    biases = centred.mean(axis=0)
    left, values, right = np.linalg.svd(centred - biases, full_matrices=False)
    expected = (left[:, :rank] * values[:rank]) @ right[:rank] + biases
    np.testing.assert_allclose(factors.scores(users), expected, atol=1e-4)
    np.testing.assert_allclose(factors.scores(np.array([0]))[0], biases, atol=1e-4)
    assert share == pytest.approx((values[:rank] ** 2).sum() / (values**2).sum(), abs=1e-4)


def test_lists_kept_is_the_share_of_the_best_unknown_items():
    rng = np.random.default_rng(0)
    ours, theirs = (rng.standard_normal((50, 45)).astype(np.float32) for _ in range(2))
    owned = rng.random((50, 45)) < 0.3
    owned[0, 0], owned[0, 1:] = False, True  # a list of one
    owned[1, :-3] = True  # lists of three
    users, items = np.nonzero(owned)
    own = csr_from_pairs(users, items, 50, 45)

    def best(scores, user):
        return set(np.argsort(-np.where(owned[user], -np.inf, scores[user]))[: min(20, (~owned[user]).sum())])

    lists = [(best(ours, user), best(theirs, user)) for user in range(50)]
    expected = np.mean([len(one & other) / len(one) for one, other in lists])
    assert lists_kept(Known(ours), Known(theirs), own, np.arange(50), seed=0) == pytest.approx(expected)
    assert lists_kept(Known(ours), Known(2 * ours), own, np.arange(50), seed=0) == 1


@pytest.mark.parametrize("factors", [4, 60])
def test_the_cut_that_keeps_more_of_the_lists_is_taken(dataset, monkeypatch, factors):
    kept, settings = [], DistillConfig(teachers="ials + ease", factors=factors, ials_factors=60, search=False)

    def recorded(*args):
        kept.append(lists_kept(*args))
        return kept[-1]

    monkeypatch.setattr(distill, "lists_kept", recorded)
    result = train(dataset, TrainConfig(settings, validation=False))
    assert result.chosen["lists_kept"] == max(kept)
    assert len(kept) == (1 if kept[0] >= 0.9 else 2)
    assert (kept[0] >= 0.9) == (factors == 60)  # few factors lose lists


def test_factors_become_a_gmf_whose_logits_are_scaled_scores():
    rng, state = np.random.default_rng(0), torch.get_rng_state()
    factors = Factors(*(rng.standard_normal(shape).astype(np.float32) for shape in ((5, 3), (7, 3), 7)))
    model = factors.to_gmf(scale=0.3, bias=-2.0)
    np.testing.assert_allclose(logits_of(model), 0.3 * factors.scores(np.arange(5)) - 2, rtol=1e-4, atol=1e-5)
    assert torch.equal(torch.get_rng_state(), state)


def test_logits_are_calibrated():
    """Scores drawn so that the chance of a positive is known: log odds 3 s - 2 at NEGATIVES for each positive."""
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(200_000)
    positive = rng.random(scores.size) < 1 / (1 + np.exp(2 - 3 * scores))
    drawn = rng.choice(scores[~positive], NEGATIVES * positive.sum())
    shift = np.log(positive.sum() * NEGATIVES / (~positive).sum())  # the odds change with the share of negatives
    scale, bias = fit_logit(7 * scores[positive] + 100, 7 * drawn + 100)
    assert scale == pytest.approx(3 / 7, rel=0.03)
    assert bias + 100 * scale == pytest.approx(-2 - shift, abs=0.05)
    for worst in ((np.ones(3), np.zeros(5)), (np.zeros(3), np.ones(5)), (np.zeros(1), np.zeros(1))):
        scale, bias = fit_logit(*worst)  # apart, the wrong way round, all alike
        assert scale > 0
        assert np.isfinite([scale, bias]).all()


def test_what_is_kept_back_is_new_and_the_latest(dataset):
    left, users, (indptr, items) = keep_back(dataset, seed=0)
    rows = np.repeat(users, np.diff(indptr))
    assert (np.diff(indptr) >= 1).all()
    assert not np.isin(rows * 60 + items, left.users * 60 + left.items).any()
    assert len(left) + rows.size == len(dataset)  # each pair once in these data
    for user in users[:10]:
        kept = dataset.timestamps[(dataset.users == user) & np.isin(dataset.items, items[rows == user])]
        assert kept.min() >= left.timestamps[left.users == user].max()


def test_ndcg_by_thought():
    """One hit at place 1 and one at place 3 of two, the known item left out; another user's single one at place 2."""
    scores = np.array([[9, 5, 4, 3, 0], [0, 1, 2, 3, 9.0]])
    known = np.array([0, 1, 2]), np.array([0, 4], np.int32)
    held = np.array([0, 2, 3]), np.array([1, 3, 2], np.int32)
    expected = ((1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3)) + 1 / np.log2(3)) / 2
    assert ndcg_at_20(Known(scores), 5, known, np.arange(2), held) == pytest.approx(expected)


def test_search_gives_its_trials_best_first(dataset):
    chosen, trials = search_ials(dataset, seed=0)
    assert chosen is trials[0]
    assert len(trials) == len({(trial.unobserved, trial.l2) for trial in trials}) >= 12
    assert [trial.ndcg for trial in trials] == sorted((trial.ndcg for trial in trials), reverse=True)
    assert search_ials(Dataset(np.arange(3), np.arange(3), None, np.arange(3), np.arange(3)), seed=0) is None


def test_a_wide_search_halves_l2_then_doubles_unobserved(dataset):
    chosen, tried = search_ials(dataset, seed=0, width=16)
    trials = {(trial.unobserved, trial.l2): trial.ndcg for trial in tried}
    halved = sorted((l2 for unobserved, l2 in trials if unobserved == 7), reverse=True)
    assert all(l2 == 2 * half for l2, half in pairwise(halved))
    doubled = sorted(unobserved for unobserved, l2 in trials if l2 == chosen.l2)
    assert len(trials) == len(halved) + len(doubled) - 1
    assert doubled == [7, 14, 28][: len(doubled)]
    assert trials[chosen.unobserved, chosen.l2] >= 0.98**5 * max(trials.values())
    assert [trial.ndcg for trial in tried] == sorted(trials.values(), reverse=True)


def test_the_whole_is_better_than_popularity_and_served_by_the_engine(dataset):
    split = hold_out(dataset)
    config = TrainConfig(SMALL, threads=1)
    result = train(split.train, config)
    assert [record.stage for record in result.history if record.validation_hr is not None] == [
        *("ials", "ease", "history", "sum", "gmf")
    ]
    assert result.model.gmf.user_embedding.weight.shape == (120, 12)
    scorer = Scorer.from_tensors({name: weight.numpy() for name, weight in result.model.state_dict().items()})
    ours, popular = (evaluate_full(ranker, split).means["NDCG@10"] for ranker in (scorer, Popularity(split.train)))
    assert ours > 1.3 * popular
    assert 0.05 < scorer.score_batch(split.users, split.items).mean() < 0.95
    assert {"ials_unobserved", "ials_l2", "variance_kept"} <= result.chosen.keys()


class StoppedError(Exception):
    pass


def stop_at_every_other_stage(monkeypatch):
    stages, teach = iter(range(100)), distill._Distilling._train

    def stopping(*arguments):
        if next(stages) % 2:
            raise StoppedError
        return teach(*arguments)

    monkeypatch.setattr(distill._Distilling, "_train", stopping)


def test_a_run_that_stops_anywhere_ends_in_the_same_bits(dataset, tmp_path, monkeypatch):
    config = TrainConfig(
        DistillConfig(**{**vars(SMALL), "teachers": "ials + ease + 0.5 history + 0.5 history"}), refit=True
    )
    expected = train(dataset, config)
    stop_at_every_other_stage(monkeypatch)
    for _ in range(7):
        with pytest.raises(StoppedError):
            train(dataset, config, run=tmp_path, resume=True)
    resumed = train(dataset, config, run=tmp_path, resume=True)
    assert resumed.chosen == expected.chosen
    for name, weight in expected.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
    told = [(record.stage, record.epoch, record.loss, record.validation_hr) for record in resumed.history]
    assert told == [(record.stage, record.epoch, record.loss, record.validation_hr) for record in expected.history]
    assert {"history 2", "history 2 refit", "gmf refit"} <= {record.stage for record in expected.history}


@pytest.mark.parametrize("dense_items", [10_000, 0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (3, 3)])
def test_tiny_data_with_strangers(shape, dense_items, tmp_path):
    """Each user has every item but the last; a user and an item have no interaction at all."""
    users, items = (index.ravel() for index in np.indices(shape))
    data = Dataset(users, items, None, np.arange(shape[0] + 1), np.arange(shape[1] + 1))
    settings = DistillConfig(**{**vars(SMALL), "dense_items": dense_items})
    result = train(data, TrainConfig(settings, validation=shape[1] > 1, threads=1))
    assert np.isfinite(logits_of(result.model)).all()
    neuralcf.export(result.model, tmp_path / "model")
    assert Scorer.load(tmp_path / "model").num_items == shape[1] + 1


@pytest.mark.parametrize("count", [1, 5, 9, 99])
def test_best_items_are_those_of_a_stable_sort(count, monkeypatch):
    """With ties and what is left out; by groups and, where they are too few, without."""
    monkeypatch.setattr("neuralcf.training.best_items._GROUP", 4)
    scores = np.random.default_rng(0).integers(0, 30, (20, 47)).astype(np.float32)
    scores[3], scores[4, 5:] = 1, -np.inf
    items, values = best_items(scores, count)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    assert np.array_equal(items, order)
    assert np.array_equal(values, np.take_along_axis(scores, order, axis=1))


def test_a_cut_by_least_squares_solves_its_loss():
    """With as many steps as factors each half-sweep is exact: the loss of the docstring, solved densely, row by row."""
    rng = np.random.default_rng(0)
    scores, own = rng.standard_normal((12, 9)), rng.random((12, 9)) < 0.3
    own[2] = False
    own[3, :8] = True
    pairs = np.nonzero(own)
    rows = csr_from_pairs(*pairs, 12, 9)
    start = tuple(rng.standard_normal((size, 3)).astype(np.float32) for size in (12, 9))
    settings = {"listed": 4, "unobserved": 3.0, "l2": 0.01}
    cut = cut_by_least_squares(Known(scores), rows, start, **settings, sweeps=2, steps=9)

    wanted = np.where(own, 1.0, np.nan)
    for user in np.flatnonzero(own.any(axis=1)):
        best = [item for item in np.argsort(-scores[user]) if not own[user, item]][:5]
        t = scores[user, best]
        wanted[user, best[:4]] = (0.4 + 0.6 * (t - t[-1]) / max(t[0] - t[-1], 1e-9))[:4]
    counts, a0 = ~np.isnan(wanted), 3.0 * own.sum() / own.size

    def solved(counts, wanted, fixed):
        vectors = np.zeros((len(counts), 3))
        for row, have in enumerate(counts):
            if have.any():
                l2 = 0.01 * (have.sum() + a0 * len(fixed))
                left = (fixed.T * have) @ fixed + a0 * fixed.T @ fixed + l2 * np.eye(3)
                vectors[row] = np.linalg.solve(left, fixed[have].T @ wanted[row, have])
        return vectors

    q = start[1].astype(float)
    for _ in range(2):
        p = solved(counts, wanted, q)
        q = solved(counts.T, wanted.T, p)
    p = solved(counts, wanted, q)
    np.testing.assert_allclose(cut.scores(np.arange(12)), p @ q.T, atol=1e-4)


def test_many_interactions_halve_the_width_of_a_teacher():
    config = DistillConfig(large_teachers="ials(1024) + ials", ials_factors=200, most_work=1_000_000)
    wide, plain = config.terms(large=True)
    assert [config.width(wide, interactions) for interactions in (976, 977, 1954, 10**9)] == [1024, 512, 256, 200]
    assert config.width(plain, 10**9) == 200


def test_leading_directions_keep_all_there_is():
    rng = np.random.default_rng(0)
    p, q = (rng.standard_normal((size, 2)) @ rng.standard_normal((2, 5)) for size in (8, 6))
    left, right = leading(p.astype(np.float32), q.astype(np.float32), 4)  # both together have rank 4
    assert left.shape == (8, 4)
    np.testing.assert_allclose(left @ right.T, p @ q.T, atol=1e-4)


def test_a_large_catalogue_is_cut_by_least_squares(dataset, tmp_path, monkeypatch):
    """Stopped and resumed like a small one."""
    split = hold_out(dataset)
    settings = DistillConfig(
        large_teachers="ials + 0.5 ials(12) + 0.5 graph", large_factors=10, ials_factors=8, dense_items=0, listed=10
    )
    expected = train(split.train, TrainConfig(settings, refit=True, threads=1))
    assert [record.stage for record in expected.history[:5]] == ["ials", "ials(12)", "graph", "sum", "gmf"]
    assert all(record.validation_hr is not None for record in expected.history[:5])
    assert expected.model.gmf.item_embedding.weight.shape == (60, 10)
    scorer = Scorer.from_tensors({name: weight.numpy() for name, weight in expected.model.state_dict().items()})
    ours, popular = (evaluate_full(ranker, split).means["NDCG@10"] for ranker in (scorer, Popularity(split.train)))
    assert ours > 1.3 * popular

    stop_at_every_other_stage(monkeypatch)
    for _ in range(5):
        with pytest.raises(StoppedError):
            train(split.train, TrainConfig(settings, refit=True, threads=1), run=tmp_path, resume=True)
    resumed = train(split.train, TrainConfig(settings, refit=True, threads=1), run=tmp_path, resume=True)
    assert resumed.chosen == expected.chosen
    for name, weight in expected.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_sums_are_read_and_wrong_ones_refused():
    terms = DistillConfig(teachers="ials+.5 history + 2*history+ials(64)").terms(large=False)
    assert [(term.stage, term.number, term.weight, term.width) for term in terms] == [
        ("ials", 0, 1.0, None),
        ("history", 0, 0.5, None),
        ("history 2", 1, 2.0, None),
        ("ials(64)", 1, 1.0, 64),
    ]
    assert [term.kind for term in DistillConfig().terms(large=True)] == ["ials", "graph"]
    with pytest.raises(ArgumentError, match="large_teachers: expected a sum of ials, graph"):
        DistillConfig(large_teachers="ials + ease")
    with pytest.raises(ArgumentError, match="large_teachers: expected ials among them"):
        DistillConfig(large_teachers="graph")
    for wrong in ("", "ials +", "slim", "0 ials", "-1 ials", "ials(0)", "graph(3)"):
        with pytest.raises(ArgumentError, match="teachers: expected a sum of ials, ease, history, logistic, mf, graph"):
            DistillConfig(teachers=wrong)
    with pytest.raises(ArgumentError, match="factors: expected at least 2"):
        DistillConfig(factors=1)


def test_what_is_told_chooses_the_trainer():
    assert configure() == configure(preset="fast")
    assert configure(options={"seed": 4}).trainer == configure().trainer
    assert configure(settings=["history_epochs=5"]).trainer.history_epochs == 5
    assert configure(options={"epochs": 2}).trainer.name == "ncf"
    assert configure(preset="best").refit
    with pytest.raises(ArgumentError, match="preset: expected one of fast, best, paper-8"):
        configure(preset="slow")


def test_item_weights_sum_over_the_history():
    weights = np.arange(9, dtype=np.float32).reshape(3, 3)
    teacher = ItemWeights(Histories((np.array([0, 2, 2]), np.array([0, 2], np.int32)), 3, None), weights)
    assert teacher.scores(np.array([1, 0])).tolist() == [[0, 0, 0], [6, 8, 10]]


def test_equal_weights_are_no_weights_and_others_are_used(dataset):
    config, models = TrainConfig(SMALL), []
    for weights in (None, np.full(len(dataset), 4.0), np.arange(1, len(dataset) + 1)):
        models.append(logits_of(train(replace(dataset, weights=weights), config, progress=False).model))
    assert models[0].tobytes() == models[1].tobytes()
    assert np.corrcoef(models[0].ravel(), models[2].ravel())[0, 1] < 0.999


def test_every_teacher_of_a_sum_is_trained_and_stored_and_tells_of_new_users(dataset, tmp_path, monkeypatch):
    """With the two that the presets may leave out; stopped and resumed."""
    few = {"history_epochs": 2, "logistic_epochs": 3, "mf_epochs": 2, "mf_factors": 4}
    config = TrainConfig(replace(SMALL, teachers="ials + logistic + mf + 0.5 logistic", **few))
    expected = train(dataset, config, progress=False)
    stages = [record.stage for record in expected.history]
    assert stages == ["ials", *["logistic"] * 3, "mf", *["logistic 2"] * 3, "sum", "gmf"]
    assert expected.fold_in is not None
    stop_at_every_other_stage(monkeypatch)
    for _ in range(3):
        with pytest.raises(StoppedError):
            train(dataset, config, run=tmp_path, resume=True, progress=False)
    resumed = train(dataset, config, run=tmp_path, resume=True, progress=False)
    assert logits_of(resumed.model).tobytes() == logits_of(expected.model).tobytes()


def test_vectors_of_users_are_estimated_where_histories_do_not_tell_them():
    """Exactly where they are a linear function of n^-.5 times the sum of their items' vectors."""
    rng = np.random.default_rng(0)
    matrix, q, turn = rng.random((60, 9)) < 0.4, rng.standard_normal((9, 3)), rng.standard_normal((3, 3))
    matrix[:2] = [[False] * 9, [True] * 9]
    sums = matrix @ q / np.sqrt(np.maximum(matrix.sum(axis=1, keepdims=True), 1))
    users, items = np.nonzero(matrix)
    rows = csr_from_pairs(users, items, 60, 9)
    p = (sums @ turn + 2).astype(np.float32)
    factors = with_estimated_users(Factors(p, q.astype(np.float32), np.zeros(9, np.float32)), rows)
    (encoder,) = factors.fold_in.encoders
    estimated = factors.fold_in.bias + (matrix @ encoder.items) / np.sqrt(np.maximum(matrix.sum(axis=1)[:, None], 1))
    np.testing.assert_allclose(estimated[1:], p[1:], atol=0.1)  # the ridge shrinks a little


def test_ease_takes_what_its_search_found(dataset):
    chosen, trials = search_ease(dataset, 0)
    assert chosen is trials[0]
    assert [trial.ndcg for trial in trials] == sorted((trial.ndcg for trial in trials), reverse=True)
    assert len({(trial.l2, trial.row_exponent) for trial in trials}) == 6
    few = train(dataset, TrainConfig(replace(SMALL, teachers="ease")), progress=False)
    assert few.chosen["ease_l2"] in (50, 100, 200, 400, 800)
    given = TrainConfig(replace(SMALL, teachers="ease", search=False))
    assert "ease_l2" not in train(dataset, given, progress=False).chosen
    assert search_ease(Dataset.from_ids(np.arange(5), np.arange(5)), 0) is None

"""New users get what training would have given them: each teacher, their sum cut and calibrated, the whole."""

import numpy as np
import pytest

import neuralcf
from neuralcf import Scorer
from neuralcf.baselines import EASE, IALS
from neuralcf.baselines.base import Histories
from neuralcf.data import Dataset, planted_taste
from neuralcf.data.csr import take_rows
from neuralcf.training import DistillConfig, TrainConfig, train
from neuralcf.training.cut import cut_by_svd
from neuralcf.training.fold_in import FoldIn, LinearEncoder, half_step
from neuralcf.training.student import Student
from neuralcf.training.teachers import Factors, ItemWeights, TeacherSum
from neuralcf.training.trainers.history_encoder import HistoryEncoderConfig, train_history_encoder

NO_BIASES = np.zeros(60, np.float32)


@pytest.fixture(scope="module")
def dataset():
    """The last user and the last item have no interactions."""
    data = planted_taste(120, 60, seed=3).dataset
    kept = (data.users < 119) & (data.items < 59)
    return data.take(kept)


def served(factors, scale=1.0):
    """A scorer of the GMF of the factors, with their fold-in."""
    weights = factors.to_gmf(scale=scale, bias=0.5).state_dict()
    history = Student(factors).history_tensors(scale=scale)
    return Scorer.from_tensors({name: weight.numpy() for name, weight in weights.items()}, history=history)


def half_step_users(ials, rows, l2):
    """Solve (H'H + a0 Q'Q + l2 (n + a0 I) I) p = H'1 for each user, in float64."""
    q = ials.item_vectors.astype(np.float64)
    vectors = np.zeros((rows[0].size - 1, q.shape[1]))
    for user, n in enumerate(np.diff(rows[0])):
        h = q[rows[1][rows[0][user] : rows[0][user + 1]]]
        ridge = l2 * (n + ials.a0 * len(q)) * np.eye(q.shape[1])
        vectors[user] = np.linalg.solve(h.T @ h + ials.a0 * q.T @ q + ridge, h.sum(axis=0))
    return vectors.astype(np.float32)


def exact_teachers(dataset):
    """EASE, iALS whose users were solved for last, and a history encoder without vectors of their own."""
    rows = dataset.user_items()
    ials = IALS(dataset, factors=12, l2=0.02)
    fold_in = half_step(ials.item_vectors, a0=ials.a0, l2=0.02)
    rng = np.random.default_rng(0)
    y, q = rng.standard_normal((2, 60, 5)).astype(np.float32)
    c, b = rng.standard_normal(5).astype(np.float32), rng.standard_normal(60).astype(np.float32)
    sums = np.stack([y[rows[1][a:z]].sum(axis=0) for a, z in zip(rows[0][:-1], rows[0][1:], strict=True)])
    encoded = c + sums / np.sqrt(np.maximum(np.diff(rows[0]), 1))[:, None].astype(np.float32)
    return {
        "ease": ItemWeights(Histories(rows, 60, None), np.asarray(EASE(dataset, l2=20.0).weights, np.float32)),
        "ials": Factors(half_step_users(ials, rows, 0.02), ials.item_vectors, NO_BIASES, fold_in),
        "history": Factors(encoded, q, b, FoldIn(c, (LinearEncoder(y, 0.5),))),
    }


@pytest.mark.parametrize("names", [("ease",), ("ials",), ("history",), ("ease", "ials", "history", "ease")])
@pytest.mark.parametrize("rank", [7, 60])
def test_a_user_of_the_training_set_is_folded_in_to_the_trained_scores(dataset, names, rank):
    """Cut and uncut, calibrated, with several teachers of both kinds; also the user without a history."""
    teachers, users = exact_teachers(dataset), np.arange(119)
    total = TeacherSum(
        [(teachers[name], weight) for name, weight in zip(names, (1, 2, 0.5, 1), strict=False)], users, 0
    )
    factors, _ = cut_by_svd(total, users, num_users=120, num_items=60, rank=rank, seed=0)
    scorer, everyone = served(factors, scale=0.3), np.arange(120)
    folded = scorer.fold_in(dataset.user_items())
    trained = scorer.user_vectors(everyone)
    np.testing.assert_allclose(folded.gmf, trained.gmf, rtol=1e-4, atol=2e-4 * np.abs(trained.gmf).max())
    assert folded.gmf[119].tolist() == trained.gmf[119].tolist()
    assert np.array_equal(scorer.top_k(folded, 3).ids[119], scorer.top_k(119, 3).ids)


def test_the_own_vectors_of_the_history_encoder_are_estimated(dataset):
    """Much nearer to the trained users than without the estimate, and defined for a single user."""
    rows = dataset.user_items()
    trained = train_history_encoder(dataset, HistoryEncoderConfig(factors=8, epochs=20))
    scorer = served(trained)
    (encoder,) = trained.fold_in.encoders
    folded = scorer.fold_in(rows).gmf[:119, :8]
    error = np.square(folded - trained.user_vectors[:119]).mean()
    assert error < 0.8 * np.square(trained.user_vectors[:119] - trained.user_vectors[:119].mean(axis=0)).mean()
    assert encoder.exponent == 0.5
    alone = Dataset(np.zeros(2, np.int64), np.arange(2), None, np.arange(1), np.arange(3))
    single = train_history_encoder(alone, HistoryEncoderConfig(factors=4, epochs=2))
    np.testing.assert_allclose(served(single).fold_in(alone.user_items()).gmf[0, :4], single.user_vectors[0], rtol=1e-4)


def test_a_trained_model_serves_users_it_has_not_seen(dataset, tmp_path):
    """Their held-out items rank nearly as high as with the users in the training set, and far above chance."""
    rng = np.random.default_rng(0)
    hidden = np.sort(rng.choice(119, 24, replace=False))
    theirs = np.flatnonzero(np.isin(dataset.users, hidden))
    shuffled = rng.permutation(theirs)
    users, first = np.unique(dataset.users[shuffled], return_index=True)
    held = shuffled[first]
    known = dataset.take(np.setdiff1d(np.arange(len(dataset)), held))
    config = TrainConfig(DistillConfig(factors=12, ials_factors=8, history_factors=8, history_epochs=10))
    ranks = {}
    for name, data in (("trained in", known), ("folded in", known.take(~np.isin(known.users, hidden)))):
        result = train(data, config)
        neuralcf.export(result.model, tmp_path / name, seen=data.user_items(), history=result.fold_in)
        scorer = Scorer.load(tmp_path / name)
        histories = take_rows(known.user_items(), users)
        vectors = users if name == "trained in" else scorer.fold_in(histories)
        ranks[name] = scorer.rank_of(vectors, dataset.items[held], exclude=histories)
    means = {name: rank.mean() for name, rank in ranks.items()}
    assert means["folded in"] < 1.3 * means["trained in"] + 2, means
    assert means["folded in"] < 0.7 * 59 / 2, means

"""The logistic history encoder: its loss against the definition, its training on data known by thought."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from matrices import dataset_of, two_tastes
from neuralcf import DivergedError
from neuralcf.training.trainers.logistic_encoder import LogisticEncoderConfig, dropped_loss, train_logistic_encoder


def test_the_loss_is_its_definition():
    """Cell by cell; its gradient is 0 at what was kept, and at others the share sigmoid(s) less (1 - sigmoid(s))."""
    rng = np.random.default_rng(0)
    scores, history = rng.standard_normal((5, 7)), rng.random((5, 7)) < 0.6
    kept = history & (rng.random((5, 7)) < 0.5)
    weights = np.where(history & ~kept, rng.uniform(0.5, 2, (5, 7)), 0)
    weights[4] = 0  # nothing was dropped: nothing to predict
    expected, gradient, sigmoid = 0.0, np.zeros((5, 7)), 1 / (1 + np.exp(-scores))
    for user in range(5):
        share = 8 / 7 * weights[user].sum()
        for item in np.flatnonzero(~kept[user]):
            s, w = scores[user, item], weights[user, item]
            expected += w * np.log1p(np.exp(-s)) + share * np.log1p(np.exp(s))
            gradient[user, item] = share * sigmoid[user, item] - w * (1 - sigmoid[user, item])
    at = torch.from_numpy(scores).requires_grad_()
    loss = dropped_loss(at, torch.from_numpy(kept), torch.from_numpy(weights), 8)
    loss.backward()
    assert loss.item() == pytest.approx(expected)
    np.testing.assert_allclose(at.grad.numpy(), gradient, atol=1e-12)
    assert not gradient[4].any()


def test_learns_two_tastes_in_equal_bits_for_a_seed_and_tells_how_histories_become_vectors():
    matrix, losses, state = two_tastes(), [], torch.get_rng_state()
    config = LogisticEncoderConfig(factors=8, epochs=40, steps=4, batch_users=10, learning_rate=0.02)
    model, again, other = (
        train_logistic_encoder(dataset_of(matrix), config, seed=seed, after_epoch=lambda *at: losses.append(at))
        for seed in (1, 1, 2)
    )
    assert [epoch for epoch, _ in losses[:40]] == list(range(1, 41))
    assert losses[39][1] < 0.8 * losses[0][1]
    lacking = np.flatnonzero((matrix.sum(axis=1) > 0) & (matrix.sum(axis=1) < 8))
    best = np.where(matrix, -np.inf, model.scores(np.arange(40)))[lacking].argmax(axis=1)
    assert ((best + lacking) % 2 == 0).all()  # the best new item is of the user's own taste
    assert model.user_vectors.tobytes() == again.user_vectors.tobytes() != other.user_vectors.tobytes()
    assert torch.equal(torch.get_rng_state(), state)
    (encoder,), lengths = model.fold_in.encoders, np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    expected = model.fold_in.bias + lengths**-0.5 * (matrix @ encoder.items)
    np.testing.assert_allclose(model.user_vectors, expected, atol=1e-5)


def test_equal_weights_of_interactions_are_none_and_others_change_what_is_learned():
    plain = dataset_of(two_tastes())
    config = LogisticEncoderConfig(factors=4, epochs=2)
    drawn = np.random.default_rng(3).uniform(0.2, 3, len(plain))
    none, equal, other = (
        train_logistic_encoder(replace(plain, weights=weights), config).item_biases
        for weights in (None, np.full(len(plain), 4), drawn)
    )
    assert none.tobytes() == equal.tobytes() != other.tobytes()


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1)])
def test_tiny_data(shape):
    config = LogisticEncoderConfig(factors=2, epochs=2)
    scores = train_logistic_encoder(dataset_of(np.ones(shape)), config).scores(np.arange(shape[0]))
    assert scores.shape == shape
    assert np.isfinite(scores).all()


def test_a_loss_without_end_is_told():
    config = LogisticEncoderConfig(factors=2, epochs=9, learning_rate=1e30)
    with pytest.raises(DivergedError, match=r"logistic history encoder, epoch \d: expected a finite loss"):
        train_logistic_encoder(dataset_of(two_tastes()), config)

"""The history encoder: its loss and logits against their definitions, its training on data known by thought."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from matrices import dataset_of, two_tastes
from neuralcf import DivergedError
from neuralcf.seeds import Stream, derive
from neuralcf.training.losses import softmax_cross_entropy
from neuralcf.training.trainers.history_encoder import (
    HistoryEncoderConfig,
    leave_one_out_logits,
    train_history_encoder,
)


def test_softmax_gradient_is_that_of_its_derivation():
    """P - 1 at a single positive and p at the others; n p - positives where there are n; 0 where there are none."""
    logits = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    positives = torch.zeros(3, 7, dtype=torch.float64)
    positives[0, 2] = positives[1, 1] = positives[1, 5] = 1
    loss = softmax_cross_entropy(logits, positives)
    p = torch.softmax(logits.detach(), dim=1)
    assert loss.item() == pytest.approx(-(p[0, 2].log() + p[1, 1].log() + p[1, 5].log()).item())
    loss.backward()
    expected = p * torch.tensor([[1.0], [2.0], [0.0]]) - positives
    assert expected[0, 2] == p[0, 2] - 1
    torch.testing.assert_close(logits.grad, expected)
    assert torch.autograd.gradcheck(lambda at: softmax_cross_entropy(at, positives), logits)


def test_weights_of_interactions_are_counts_in_the_loss_and_shares_in_the_history():
    """The gradient of c at the start, by float64 from the definition; equal weights give the bits of none."""
    matrix = two_tastes()
    plain = dataset_of(matrix)
    drawn = np.random.default_rng(3).uniform(0.2, 3, len(plain)).astype(np.float32)
    config, losses = HistoryEncoderConfig(factors=4, epochs=1, batch_users=1000, steps=1), {}
    for name, weights in (("none", None), ("equal", np.full(len(plain), 4)), ("drawn", drawn)):
        train = replace(plain, weights=weights)
        factors = train_history_encoder(
            train, config, seed=1, after_epoch=lambda _, loss, to=name: losses.update({to: loss})
        )
        if name == "none":
            expected = factors
        elif name == "equal":
            assert factors.user_vectors.tobytes() == expected.user_vectors.tobytes()
            assert factors.item_vectors.tobytes() == expected.item_vectors.tobytes()
    # The first loss is measured before the first step, on vectors that do not depend on weights.
    rng = np.random.default_rng(derive(1, Stream.INITIALISATION))
    q, y = (rng.standard_normal((16, 4), dtype=np.float32).astype(float) * 0.05 for _ in range(2))
    own = np.zeros((40, 4))
    own[:39] = rng.standard_normal((39, 4), dtype=np.float32) * 0.05
    w = np.zeros(matrix.shape)
    w[np.nonzero(matrix)] = drawn / drawn.mean()
    total, bias = 0.0, np.log1p(w.sum(axis=0))
    for user in range(39):
        x = np.sqrt(w[user] / w[user].sum())
        logits = (own[user] + x @ y) @ q.T + bias - x * (y * q).sum(axis=1)
        total -= w[user] @ (logits - np.log(np.exp(logits).sum()))
    assert losses["drawn"] == pytest.approx(total / w.sum(), rel=1e-5)
    assert losses["drawn"] != pytest.approx(losses["none"], rel=1e-3)


def test_no_item_vouches_for_itself():
    """At an item of the history the logit is that of the history without it; elsewhere that of the whole history."""
    rng = np.random.default_rng(0)
    history = (rng.random((4, 6)) < 0.5).astype(float)
    history[3] = 0
    own, shared, y, q, bias = (rng.standard_normal(shape) for shape in ((4, 3), 3, (6, 3), (6, 3), 6))
    expected = np.empty((4, 6))
    for user, have in enumerate(history):
        for item in range(6):
            others = have * (np.arange(6) != item)
            encoded = own[user] + shared + max(1, have.sum()) ** -0.5 * others @ y
            expected[user, item] = encoded @ q[item] + bias[item]
    got = leave_one_out_logits(*(torch.from_numpy(each) for each in (own, shared, y, q, bias, history)))
    np.testing.assert_allclose(got.numpy(), expected)


def test_learns_two_tastes_in_equal_bits_for_a_seed():
    matrix, losses, state = two_tastes(), [], torch.get_rng_state()
    config = HistoryEncoderConfig(factors=8, epochs=30, steps=4, batch_users=10)
    model, again, other = (
        train_history_encoder(dataset_of(matrix), config, seed=seed, after_epoch=lambda *at: losses.append(at))
        for seed in (1, 1, 2)
    )
    assert [epoch for epoch, _ in losses[:30]] == list(range(1, 31))
    assert losses[29][1] < losses[0][1] < 1.02 * np.log(16)
    lacking = np.flatnonzero((matrix.sum(axis=1) > 0) & (matrix.sum(axis=1) < 8))
    best = np.where(matrix, -np.inf, model.scores(np.arange(40)))[lacking].argmax(axis=1)
    assert lacking.size > 30
    assert ((best + lacking) % 2 == 0).all()  # the best new item is of the user's own taste
    assert model.user_vectors.tobytes() == again.user_vectors.tobytes() != other.user_vectors.tobytes()
    assert np.isfinite(model.scores(np.array([39]))).all()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1)])
def test_tiny_data(shape):
    scores = train_history_encoder(dataset_of(np.ones(shape)), HistoryEncoderConfig(factors=2, epochs=2)).scores(
        np.arange(shape[0])
    )
    assert scores.shape == shape
    assert np.isfinite(scores).all()


def test_a_loss_without_end_is_told():
    config = HistoryEncoderConfig(factors=2, epochs=9, learning_rate=1e30)
    with pytest.raises(DivergedError, match=r"history encoder, epoch \d: expected a finite loss"):
        train_history_encoder(dataset_of(two_tastes()), config)

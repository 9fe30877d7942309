"""Losses and their gradients against their formulas in float64 NumPy."""

import numpy as np
import torch

from neuralcf.training.losses import bce_with_logits, bpr, sampled_softmax_cross_entropy, softmax_cross_entropy


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_softmax_gradient_is_p_minus_1_for_the_target_and_p_for_the_others():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 3, (4, 7))
    target = np.array([2, 0, 6, 3])
    logits = torch.tensor(scores, requires_grad=True)
    one_hot = np.eye(7)[target]
    softmax_cross_entropy(logits, torch.tensor(one_hot)).backward()
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(logits.grad.numpy(), p - one_hot, atol=1e-12)


def test_bpr_and_its_gradient():
    rng = np.random.default_rng(1)
    positive, negative = rng.normal(0, 5, 6), rng.normal(0, 5, (3, 6))
    tensors = [torch.tensor(values, requires_grad=True) for values in (positive, negative)]
    loss = bpr(*tensors)
    loss.backward()
    difference = positive - negative
    np.testing.assert_allclose(loss.item(), -np.log(sigmoid(difference)).mean(), rtol=1e-6)
    wrong = sigmoid(-difference) / difference.size
    np.testing.assert_allclose(tensors[0].grad.numpy(), -wrong.sum(axis=0), atol=1e-8)
    np.testing.assert_allclose(tensors[1].grad.numpy(), wrong, atol=1e-8)
    extreme = bpr(torch.tensor([1e4, -1e4]), torch.tensor([[-1e4, 1e4]]))
    assert extreme.item() == 1e4


def test_binary_cross_entropy():
    rng = np.random.default_rng(2)
    z, y = rng.normal(0, 4, 50), rng.integers(0, 2, 50).astype(float)
    expected = -(y * np.log(sigmoid(z)) + (1 - y) * np.log(1 - sigmoid(z))).mean()
    np.testing.assert_allclose(bce_with_logits(torch.tensor(z), torch.tensor(y)).item(), expected, rtol=1e-12)


def sampled_loss(logits, positives, samples, correction):
    """The sampled loss of dense logits [B, I], float64, and its gradient."""
    leaf = torch.tensor(logits, requires_grad=True)
    rows, items = (torch.from_numpy(places) for places in np.nonzero(positives))
    known = torch.from_numpy(positives[:, samples] > 0)
    loss = sampled_softmax_cross_entropy(leaf[rows, items], rows, leaf[:, samples], torch.tensor(correction), known)
    loss.backward()
    return loss.item(), leaf.grad.numpy()


def test_sampling_every_item_once_gives_the_full_softmax():
    rng = np.random.default_rng(3)
    logits, positives = rng.normal(0, 30, (5, 40)), (rng.random((5, 40)) < 0.2).astype(float)
    positives[:, 7] = 1
    full = torch.tensor(logits, requires_grad=True)
    loss = softmax_cross_entropy(full, torch.tensor(positives))
    loss.backward()
    sampled, gradient = sampled_loss(logits, positives, rng.permutation(40), np.zeros(40))
    np.testing.assert_allclose(sampled, loss.item(), rtol=1e-12)
    np.testing.assert_allclose(gradient, full.grad.numpy(), atol=1e-12)


def test_the_correction_makes_the_partition_function_right_on_average_for_any_proposals():
    rng = np.random.default_rng(4)
    logits, positives = rng.normal(0, 1, (1, 12)), np.zeros((1, 12))
    positives[0, [1, 5]] = 1
    proposals = rng.dirichlet(np.ones(12))
    own = logits[0, [1, 5]].sum()
    partition = []
    for _ in range(4000):
        samples = rng.choice(12, 6, p=proposals)
        loss, _ = sampled_loss(logits, positives, samples, np.log(6 * proposals[samples]))
        partition.append(np.exp((loss + own) / 2))  # loss = 2 log Z - own
    error = np.std(partition) / np.sqrt(len(partition))
    assert abs(np.mean(partition) - np.exp(logits).sum()) < 4 * error
    uncorrected = np.exp(logits[0, [1, 5]]).sum() + 6 * (proposals * np.exp(logits[0]))[positives[0] == 0].sum()
    assert abs(uncorrected - np.exp(logits).sum()) > 20 * error  # what it would be on average

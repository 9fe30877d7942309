"""The gradient of binary cross-entropy by hand, against autograd."""

import pytest
import torch

from neuralcf import GMF, MLP, NeuMF
from neuralcf.data import planted_taste
from neuralcf.training import NCFConfig, TrainConfig, train
from neuralcf.training.gradients import accumulate_bce_gradient, flatten
from neuralcf.training.losses import bce_with_logits
from neuralcf.training.trainers import ncf

MODELS = {
    "gmf": lambda: GMF(30, 20, 5),
    "mlp": lambda: MLP(30, 20, (7, 6, 4), user_width=3),
    "one layer": lambda: MLP(30, 20, (6, 4)),
    "neumf": lambda: NeuMF(30, 20, 5, (8, 6, 4, 3)),
}


def drawn(model, *, dtype):
    """Large weights, so that each ReLU is open for some pairs; users and items that occur several times."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    users, items = (torch.randint(n, (200,), generator=generator, dtype=dtype) for n in (30, 20))
    labels = (torch.rand(200, generator=generator) < 0.3).float()
    return users, items, labels, torch.rand(200, generator=generator)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_is_that_of_autograd(name, weighted, dtype):
    model = MODELS[name]()
    *batch, weights = drawn(model, dtype=dtype)
    weights = weights if weighted else None
    loss = bce_with_logits(model(*batch[:2]), batch[2], weights)
    loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    flat = flatten(model)
    assert torch.equal(accumulate_bce_gradient(model, *batch, weights), loss.detach())
    assert flat.grad.count_nonzero() > 0.5 * flat.numel()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6)
    accumulate_bce_gradient(model, *batch, weights)  # it adds
    torch.testing.assert_close(model.output.weight.grad, 2 * expected["output.weight"], rtol=1e-4, atol=1e-6)


def test_a_step_of_the_vector_is_one_of_all_parameters():
    one, other = MODELS["neumf"](), MODELS["neumf"]()
    batch = drawn(one, dtype=torch.int64)[:3]
    other.load_state_dict(one.state_dict())
    flat = flatten(one)
    for model, optimiser in ((one, torch.optim.Adam([flat])), (other, torch.optim.Adam(other.parameters()))):
        bce_with_logits(model(*batch[:2]), batch[2]).backward()  # autograd fills the same gradients
        optimiser.step()
    for name, weight in other.state_dict().items():
        assert torch.equal(one.state_dict()[name], weight), name


@pytest.mark.parametrize("model", ["gmf", "mlp", "neumf"])
def test_training_by_hand_and_by_autograd_agree(model, monkeypatch):
    dataset = planted_taste(40, 30, interactions_per_user=8, seed=0).dataset
    config = TrainConfig(NCFConfig(model=model, epochs=3, batch_size=64, layers=(8, 6, 4)), validation=False)
    by_hand = train(dataset, config)

    def autograd(model, users, items, labels, weights):
        with torch.enable_grad():
            loss = bce_with_logits(model(users, items), labels, weights)
            loss.backward()
        return loss

    monkeypatch.setattr(ncf, "accumulate_bce_gradient", autograd)
    expected = train(dataset, config)
    for name, weight in expected.model.state_dict().items():
        torch.testing.assert_close(by_hand.model.state_dict()[name], weight, rtol=1e-3, atol=1e-4)
    assert by_hand.history[-1].loss < by_hand.history[0].loss

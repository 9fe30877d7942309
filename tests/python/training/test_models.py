"""The torch modules against the formulas in NumPy float64."""

import numpy as np
import pytest
import torch

from conftest import DATA
from neuralcf import ArgumentError, Scorer
from neuralcf.models import GMF, MLP, NeuMF, fuse
from neuralcf.training import NCFConfig
from neuralcf.training.losses import bce_with_logits, l2_penalty
from neuralcf.training.trainers.ncf import build

GMF_NAMES = ["gmf.user_embedding.weight", "gmf.item_embedding.weight"]
MLP_NAMES = [
    "mlp.user_embedding.weight",
    "mlp.item_embedding.weight",
    "mlp.layers.0.weight",
    "mlp.layers.0.bias",
    "mlp.layers.1.weight",
    "mlp.layers.1.bias",
]
OUTPUT_NAMES = ["output.weight", "output.bias"]


def loud(model):
    """Give the model weights so large that every term, including biases, changes the logit."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_()
    return model


def reference_logits(model, users, items):
    w = {name: value.detach().numpy().astype(np.float64) for name, value in model.state_dict().items()}
    blocks = []
    if "gmf.user_embedding.weight" in w:
        blocks.append(w["gmf.user_embedding.weight"][users] * w["gmf.item_embedding.weight"][items])
    if "mlp.user_embedding.weight" in w:
        x = np.hstack([w["mlp.user_embedding.weight"][users], w["mlp.item_embedding.weight"][items]])
        for n in range(sum(name.endswith(".bias") for name in w) - 1):
            x = np.maximum(x @ w[f"mlp.layers.{n}.weight"].T + w[f"mlp.layers.{n}.bias"], 0)
        blocks.append(x)
    return (np.hstack(blocks) @ w["output.weight"].T + w["output.bias"])[:, 0]


MODELS = [
    (GMF(5, 7, 3), "gmf", GMF_NAMES + OUTPUT_NAMES),
    (MLP(5, 7, (6, 4, 2)), "mlp", MLP_NAMES + OUTPUT_NAMES),
    (MLP(5, 7, (7, 4, 2), user_width=2), "mlp", MLP_NAMES + OUTPUT_NAMES),
    (NeuMF(5, 7, 3, (6, 4, 2), item_width=1), "neumf", GMF_NAMES + MLP_NAMES + OUTPUT_NAMES),
]


@pytest.mark.parametrize(("model", "kind", "names"), MODELS)
def test_logits_match_the_formula_and_the_scorer(model, kind, names):
    model = loud(model)
    users, items = np.divmod(np.arange(35), 7)
    expected = reference_logits(model, users, items)
    with torch.no_grad():
        logits = model(torch.from_numpy(users), torch.from_numpy(items))
    assert logits.shape == (35,)
    np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-5, atol=1e-5)

    assert list(model.state_dict()) == names
    scorer = Scorer.from_tensors({name: value.numpy() for name, value in model.state_dict().items()})
    assert scorer.kind == model.kind == kind
    np.testing.assert_allclose(scorer.score_batch(users, items, logits=True), expected, rtol=1e-5, atol=1e-5)


def test_widths_are_halves_by_default():
    assert MLP(2, 3, (64, 8)).mlp.user_embedding.weight.shape == (2, 32)
    assert MLP(2, 3, (7, 4)).mlp.item_embedding.weight.shape == (3, 4)
    assert NeuMF(2, 3, 5, (7, 4), user_width=6).mlp.item_embedding.weight.shape == (3, 1)
    assert NeuMF(2, 3, 5, (7, 4)).output.weight.shape == (1, 9)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: GMF(0, 3, 2), "num_users"),
        (lambda: GMF(2, 3, 0), "factors"),
        (lambda: MLP(2, 3, (64,)), "layers"),
        (lambda: MLP(2, 3, (64, 0)), "layers"),
        (lambda: NeuMF(2, 3, 8, (8, 4), user_width=8), "user_width"),
        (lambda: MLP(2, 3, (8, 4), user_width=3, item_width=4), "add up"),
        (lambda: MLP(2, 3, (8, 4), dropout=1.0), "dropout"),
        (lambda: NeuMF(2, 3, 8, (8, 4), dropout=-0.1), "dropout"),
    ],
)
def test_invalid_sizes_are_rejected(make, named):
    with pytest.raises(ArgumentError, match=named):
        make()


def test_build_follows_the_configuration():
    assert isinstance(build(NCFConfig(model="gmf", factors=3), 4, 5), GMF)
    assert isinstance(build(NCFConfig(model="mlp"), 4, 5), MLP)
    model = build(NCFConfig(model="neumf", factors=3, layers=(10, 6, 2)), 4, 5)
    assert isinstance(model, NeuMF)
    assert model.output.weight.shape == (1, 5)
    assert model.mlp.user_embedding.weight.shape == (4, 5)


def test_embeddings_start_small_and_logits_near_zero():
    torch.manual_seed(0)
    model = NeuMF(2000, 1000)
    for part in (model.gmf, model.mlp):
        assert part.user_embedding.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert model(torch.arange(1000), torch.arange(1000)).abs().max() < 0.2


def test_loss_is_cross_entropy_even_if_the_sigmoid_saturates():
    logits = np.array([0.0, 2.0, -3.0, 90.0, -90.0])
    labels = np.array([1.0, 0.0, 1.0, 0.0, 0.0])
    expected = np.mean(np.logaddexp(0, logits) - logits * labels)
    got = bce_with_logits(torch.tensor(logits, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32))
    assert got.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_a_fused_model_has_the_weighted_logits_of_its_parts(alpha):
    gmf, mlp = loud(GMF(5, 7, 3)), loud(MLP(5, 7, (6, 4, 2)))
    fused = NeuMF(5, 7, 3, (6, 4, 2))
    fused.load_state_dict(fuse(gmf.state_dict(), mlp.state_dict(), alpha))
    users, items = np.divmod(np.arange(35), 7)
    expected = alpha * reference_logits(gmf, users, items) + (1 - alpha) * reference_logits(mlp, users, items)
    np.testing.assert_allclose(reference_logits(fused, users, items), expected, rtol=1e-5, atol=1e-5)


def test_fusing_the_authors_weights_gives_their_result():
    folder = DATA / "ncf-weights"
    if not folder.is_dir():
        pytest.skip(f"{folder.name} is absent")
    safetensors = pytest.importorskip("safetensors.torch")
    gmf, mlp, theirs = (
        safetensors.load_file(next(folder.rglob(f"{name}*.safetensors"))) for name in ("gmf8", "mlp8", "neumf8_init")
    )
    ours = fuse(gmf, mlp)
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-6, atol=1e-7)


def test_dropout_scales_the_kept_inputs_and_applies_in_training_only():
    model = MLP(1, 1, (4, 2), dropout=0.5)
    users = torch.zeros(4000, dtype=torch.int64)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(1.0)
        logits = model(users, users)
        assert model.eval()(users, users).tolist() == [11.0] * 4000  # 2 (4 + 1) + 1
    assert set(logits.tolist()) == {3.0 + 4 * kept for kept in range(5)}  # a kept input counts twice, in both units
    assert logits.mean().item() == pytest.approx(11, abs=0.3)


def test_the_penalty_covers_only_embeddings_and_hidden_weights():
    model = loud(NeuMF(5, 7, 3, (6, 4, 2)))
    squares = {name: (weight.detach().double() ** 2).sum().item() for name, weight in model.named_parameters()}
    tables = sum(squares[name] for name in squares if "embedding" in name)
    hidden = squares["mlp.layers.0.weight"] + squares["mlp.layers.1.weight"]
    penalty = l2_penalty(model, embeddings=0.1, layers=0.3).item()
    assert penalty == pytest.approx(0.1 * tables + 0.3 * hidden, rel=1e-5)
    assert l2_penalty(model, embeddings=0.0, layers=0.0) == 0.0

"""The gradient of the binary cross-entropy of a batch, by hand: what autograd computes, in half the time.

The models are small, so that a step is mostly overhead: of a graph of forty nodes, of embedding gradients that are made
anew for each step. With logits z, labels y, weights w, residuals r = w (sigmoid(z) - y) / B, and x_0, ..., x_N the
inputs and outputs of the MLP's layers (`neuralcf.models`),

    output      dL/dh = [p * q ; x_N]' r,    dL/db = sum of r
    GMF         dL/dp_u = sum over pairs of u of r h_GMF * q_i,    likewise dL/dq_i
    MLP         d_N = r h_MLP * (x_N > 0),   dL/dW_n = d_n' x_(n-1),   dL/db_n = sum of d_n,
                d_(n-1) = d_n W_n * (x_(n-1) > 0),   and d_0 without the mask goes to both embeddings

It serves plain models: dropout, L2 regularisation and feature embeddings are left to autograd.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neuralcf.models import Model
from neuralcf.training.losses import bce_with_logits

__all__ = ["accumulate_bce_gradient", "flatten"]


def flatten(model: nn.Module) -> nn.Parameter:
    """Move a model's parameters into one vector, and their gradients into another, of zeros.

    The model's parameters become views, so that an optimiser of the vector steps all of them at once.
    """
    parameters = list(model.parameters())
    flat = nn.Parameter(torch.cat([parameter.detach().reshape(-1) for parameter in parameters]))
    flat.grad = torch.zeros_like(flat)
    start = 0
    for parameter in parameters:
        part = slice(start, start := start + parameter.numel())
        parameter.data = flat.data[part].view_as(parameter)
        parameter.grad = flat.grad[part].view_as(parameter)
    return flat


@torch.no_grad()
def accumulate_bce_gradient(
    model: Model, users: Tensor, items: Tensor, labels: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Add the gradient of the mean binary cross-entropy to `grad` of the model's parameters, none of which is None.

    Args:
        model: plain, without dropout.
        users: int32 or int64 [B].
        items: likewise.
        labels: float32 [B], 0 or 1.
        weights: float32 [B], how often each term counts; once if None.

    Returns:
        The loss, a scalar.
    """
    users, items = users.long(), items.long()  # `index_add_` is several times slower with int32
    gmf, mlp, output = getattr(model, "gmf", None), getattr(model, "mlp", None), model.output
    split = output.in_features if mlp is None else output.in_features - mlp.layers[-1].out_features
    of_gmf, of_mlp = output.weight[0, :split], output.weight[0, split:]
    logits = output.bias.expand(len(labels))
    if gmf is not None:
        p, q = _rows(gmf.user_embedding, users), _rows(gmf.item_embedding, items)
        product = p * q
        logits = torch.addmv(logits, product, of_gmf)
    if mlp is not None:
        a, c = _rows(mlp.user_embedding, users), _rows(mlp.item_embedding, items)
        first, *others = mlp.layers
        of_users, of_items = first.weight[:, : a.shape[1]], first.weight[:, a.shape[1] :]
        xs = [torch.addmm(first.bias, a, of_users.t()).addmm_(c, of_items.t()).relu_()]
        for layer in others:
            xs.append(torch.addmm(layer.bias, xs[-1], layer.weight.t()).relu_())
        logits = torch.addmv(logits, xs[-1], of_mlp)
    loss = bce_with_logits(logits, labels, weights)

    residual = (logits.sigmoid() - labels).div_(len(labels))
    if weights is not None:
        residual *= weights
    _gradient(output.bias).add_(residual.sum())
    if gmf is not None:
        _gradient(output.weight)[0, :split].addmv_(product.t(), residual)
        back = torch.outer(residual, of_gmf)
        _gradient(gmf.user_embedding.weight).index_add_(0, users, q.mul_(back))
        _gradient(gmf.item_embedding.weight).index_add_(0, items, p.mul_(back))
    if mlp is not None:
        _gradient(output.weight)[0, split:].addmv_(xs[-1].t(), residual)
        back = torch.outer(residual, of_mlp).mul_(xs[-1] > 0)
        for layer, x in zip(reversed(others), reversed(xs[:-1]), strict=True):
            _gradient(layer.weight).addmm_(back.t(), x)
            _gradient(layer.bias).add_(back.sum(dim=0))
            back = (back @ layer.weight).mul_(x > 0)
        _gradient(first.weight)[:, : a.shape[1]].addmm_(back.t(), a)
        _gradient(first.weight)[:, a.shape[1] :].addmm_(back.t(), c)
        _gradient(first.bias).add_(back.sum(dim=0))
        _gradient(mlp.user_embedding.weight).index_add_(0, users, back @ of_users)
        _gradient(mlp.item_embedding.weight).index_add_(0, items, back @ of_items)
    return loss


def _rows(table: nn.Embedding, index: Tensor) -> Tensor:
    return table.weight.index_select(0, index)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad

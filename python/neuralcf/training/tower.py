"""From the teachers' sum to a NeuMF: a GMF by truncated SVD, and an MLP fitted to what the SVD leaves, by regression.

With S0 the centred scores of the sum and mu the item biases (`neuralcf.training.cut`),

    score(u, i) = p_u . q_i + mu_i + h . MLP([a_u ; c_i])

P and Q hold the r leading singular directions and stay as they are. The MLP, with its embeddings, minimises

    mean over users u, and cells i of u, of (S0_ui - p_u . q_i - h . MLP([a_u ; c_i]))^2

Cells       Items of each user, drawn once, uniformly: the teachers score each user once, and 12 bytes a cell are held.
Start       a_u and c_i are the next singular directions, r + 1 to r + M, scaled to a mean square of 1; h is 0, so that
            the NeuMF begins as the GMF.
Optimiser   Adam over batches of cells in random order; the learning rate falls linearly to 0.
New users   p_u and the start of a_u follow from a history exactly, as the cut is linear. What training made of a_u is
            estimated from its start by a ridge regression over the users.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from neuralcf.errors import DivergedError
from neuralcf.models import MLP
from neuralcf.training.cut import cut_by_svd
from neuralcf.training.fold_in import regress
from neuralcf.training.student import Student, Tower
from neuralcf.training.teachers import Factors, Teacher, blocks_of

__all__ = ["TowerConfig", "cut_to_neumf"]

_CELLS = 500
"""Of each user."""
_BATCH_CELLS = 8192


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """Settings of the tower."""

    layers: tuple[int, ...] = (128, 64, 16)
    """Width of both embeddings together, then of each hidden layer."""
    epochs: int = 10
    """Passes over all cells."""
    learning_rate: float = 0.003
    """Of Adam, at the start."""


def cut_to_neumf(
    teacher: Teacher,
    users: NDArray[np.int64],
    config: TowerConfig,
    *,
    num_users: int,
    num_items: int,
    rank: int,
    seed: int,
    device: torch.device | None = None,
    after_epoch: Callable[[int, float], object] | None = None,
) -> tuple[Student, float]:
    """Cut a teacher to `rank` factors, item biases and a tower.

    Args:
        teacher: what to approximate.
        users: int64 [n], at least one: those to approximate it for. The others get zeros, and what the tower makes of
            them.
        config: settings of the tower.
        num_users: U.
        num_items: I.
        rank: r, at most; no more than n or I are given.
        seed: decides the start of the subspace iteration, the cells, the weights at the start, and the batches.
        device: where to train; the CPU when None.
        after_epoch: called with the number of each epoch, from 1, and its mean loss.

    Returns:
        The NeuMF, and the share of the sum of squares of S0 that its GMF holds.

    Raises:
        DivergedError: the loss is NaN or infinite.
    """
    torch.manual_seed(seed)
    model = MLP(num_users, num_items, config.layers)
    behind = max(embedding.embedding_dim for embedding in (model.mlp.user_embedding, model.mlp.item_embedding))
    wide, share = cut_by_svd(teacher, users, num_users=num_users, num_items=num_items, rank=rank + behind, seed=seed)
    squares = np.square(wide.user_vectors).sum(axis=0, dtype=np.float64)
    share *= float(squares[:rank].sum() / max(squares.sum(), 1e-30))
    factors = _columns(wide, slice(0, rank))
    _start(model, _columns(wide, slice(rank, None)))
    _fit(model.to(device or "cpu"), users, _cells(teacher, users, factors, seed), config, seed, after_epoch)
    return Student(factors, _tower(model.cpu(), wide, users)), share


def _columns(wide: Factors, which: slice) -> Factors:
    """Keep some of the factors."""
    axes = np.eye(wide.user_vectors.shape[1], dtype=np.float32)[:, which]
    fold_in = wide.fold_in and wide.fold_in.then(axes)
    p, q = (np.ascontiguousarray(vectors[:, which]) for vectors in (wide.user_vectors, wide.item_vectors))
    return Factors(p, q, wide.item_biases, fold_in)


@torch.no_grad()
def _start(model: MLP, rest: Factors) -> None:
    """Set the embeddings, as far as there are directions left, and an output of 0."""
    for embedding, vectors in (
        (model.mlp.user_embedding, rest.user_vectors),
        (model.mlp.item_embedding, rest.item_vectors),
    ):
        width = min(embedding.embedding_dim, vectors.shape[1])
        start = vectors[:, :width]
        size = max(float(np.square(start).sum(dtype=np.float64)) / max(start.size, 1), 1e-24) ** 0.5
        embedding.weight[:, :width] = torch.from_numpy(start / np.float32(size))
    model.output.weight.zero_()
    model.output.bias.requires_grad_(False)  # no ranking notices it


def _cells(
    teacher: Teacher, users: NDArray[np.int64], factors: Factors, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Draw items of each user, int64 [n, C]; give what the cut leaves of their scores, float32 [n, C]."""
    rng, num_items = np.random.default_rng(seed), len(factors.item_vectors)
    items = rng.integers(0, num_items, (users.size, _CELLS))
    left, start = np.empty(items.shape, np.float32), 0
    for block in blocks_of(users, num_items):
        scores = teacher.scores(block)
        scores -= scores.mean(axis=1, keepdims=True) + factors.scores(block)
        part = slice(start, start := start + block.size)
        left[part] = np.take_along_axis(scores, items[part], axis=1)
    return items, left


def _fit(
    model: MLP,
    users: NDArray[np.int64],
    cells: tuple[NDArray[np.int64], NDArray[np.float32]],
    config: TowerConfig,
    seed: int,
    after_epoch: Callable[[int, float], object] | None,
) -> None:
    """Minimise the squared error of the cells, [n, C], of n users."""
    items, targets = cells
    device = model.output.weight.device
    rows, columns, wanted = (torch.from_numpy(array) for array in (users, items.ravel(), targets.ravel()))
    optimiser = torch.optim.Adam(
        [weight for weight in model.parameters() if weight.requires_grad], lr=config.learning_rate, fused=True
    )
    steps = -(-columns.numel() // _BATCH_CELLS)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=config.epochs * steps)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(1, config.epochs + 1):
        total = 0.0
        for batch in torch.split(torch.randperm(columns.numel(), generator=generator), _BATCH_CELLS):
            parts = rows[batch // items.shape[1]], columns[batch], wanted[batch]
            u, i, target = (part.to(device) for part in parts)
            loss = (model(u, i) - target).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() * len(batch)
        if not math.isfinite(total):
            raise DivergedError(f"tower, epoch {epoch}: expected a finite loss, got {total}")
        if after_epoch is not None:
            after_epoch(epoch, total / columns.numel())


def _tower(model: MLP, wide: Factors, users: NDArray[np.int64]) -> Tower:
    """Take the tower out of its model, and estimate its users' vectors from those of the wide cut."""
    weights = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    layers = tuple(
        (weights[f"mlp.layers.{n}.weight"], weights[f"mlp.layers.{n}.bias"]) for n in range(len(model.mlp.layers))
    )
    a, c = weights["mlp.user_embedding.weight"], weights["mlp.item_embedding.weight"]
    map_, constant = regress(a[users], wide.user_vectors[users])
    return Tower(a, c, layers, weights["output.weight"][0], wide.fold_in and wide.fold_in.then(map_, constant))

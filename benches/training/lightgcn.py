"""LightGCN in torch: embeddings smoothed over the graph of interactions, trained by BPR.

Xiangnan He et al., "LightGCN: simplifying and powering graph convolution network for recommendation", SIGIR 2020. E^0
[U + I, d] are the only weights; A is the symmetric adjacency matrix of users and items, D its row sums:

    E^{k+1} = D^-1/2 A D^-1/2 E^k,    E = (E^0 + ... + E^K) / (K + 1),    s_ui = E_u . E_i                   (eq. 7, 8)
    L = -mean over (u, i, j) of log sigmoid(s_ui - s_uj) + l2 |E^0 of the batch|^2 / (2 B)                     (eq. 15)

An interaction (u, i) is paired with one j drawn anew in each epoch from the items that u does not have.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import logsigmoid

from neuralcf.data import Dataset, draw_negatives
from neuralcf.seeds import Stream, derive

__all__ = ["train_lightgcn"]


def train_lightgcn(
    train: Dataset,
    *,
    seed: int,
    factors: int = 64,
    layers: int = 3,
    l2: float = 1e-4,
    learning_rate: float = 5e-3,
    epochs: int = 60,
    batch_size: int = 2048,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Train; return user vectors, float32 [U, d], and item vectors, float32 [I, d]."""
    users, items = (torch.tensor(index) for index in (train.users, train.items))
    adjacency = _normalised(train)
    torch.manual_seed(derive(seed, Stream.INITIALISATION))
    weights = torch.nn.Parameter(0.1 * torch.randn(train.num_users + train.num_items, factors))
    optimiser = torch.optim.Adam([weights], lr=learning_rate)

    def smoothed() -> torch.Tensor:
        total = layer = weights
        for _ in range(layers):
            layer = torch.sparse.mm(adjacency, layer)
            total = total + layer
        return total / (layers + 1)

    for epoch in range(epochs):
        rng = np.random.default_rng(derive(seed, Stream.NEGATIVES, epoch))
        others = torch.from_numpy(draw_negatives(train.user_items(), train.num_items, train.users, rng))
        for batch in torch.randperm(len(train)).split(batch_size):
            rows = users[batch], train.num_users + items[batch], train.num_users + others[batch]
            vectors = smoothed()
            user, positive, negative = (vectors[row] for row in rows)
            loss = -logsigmoid((user * (positive - negative)).sum(dim=1)).mean()
            loss = loss + l2 / (2 * len(batch)) * sum(weights[row].square().sum() for row in rows)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.inference_mode():
        user_vectors, item_vectors = smoothed().split([train.num_users, train.num_items])
    return user_vectors.numpy(), item_vectors.numpy()


def _normalised(train: Dataset) -> torch.Tensor:
    """Build D^-1/2 A D^-1/2, sparse CSR [U + I, U + I]."""
    indptr, indices = train.user_items()
    users = np.repeat(np.arange(train.num_users), np.diff(indptr))
    items = train.num_users + indices
    size = train.num_users + train.num_items
    degree = np.bincount(np.concatenate([users, items]), minlength=size)
    values = (degree[users] * degree[items]) ** -0.5
    rows, columns = np.concatenate([users, items]), np.concatenate([items, users])
    entries = torch.from_numpy(np.concatenate([values, values]).astype(np.float32))
    return torch.sparse_coo_tensor(np.stack([rows, columns]), entries, (size, size)).to_sparse_csr()

"""Students: what the teachers' sum becomes, a GMF, or with a tower beside it a NeuMF.

    score(u, i) = p_u . q_i + mu_i              the cut, `Factors`
                  + h . MLP([a_u ; c_i])        the tower, if there is one

`neuralcf.training.tower` fits the tower to what the cut leaves of the sum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuralcf.models import GMF, NeuMF
from neuralcf.training.fold_in import FoldIn
from neuralcf.training.teachers import Factors

__all__ = ["Student", "Tower"]

Floats = NDArray[np.float32]

_BLOCK_FLOATS = 4_000_000


@dataclass(frozen=True, eq=False)
class Tower:
    """An MLP of ReLU layers on embeddings of its own, h . MLP([a_u ; c_i])."""

    user_vectors: Floats
    """float32 [U, Mu]: a."""
    item_vectors: Floats
    """float32 [I, Mi]: c."""
    layers: tuple[tuple[Floats, Floats], ...]
    """The weights, float32 [out, in], and biases, float32 [out], of each layer."""
    output: Floats
    """float32 [H]: h."""
    fold_in: FoldIn | None = None
    """How a history becomes a_u."""

    def scores(self, users: NDArray[np.int64]) -> Floats:
        """Score all items for each user, int64 [B] -> float32 [B, I]."""
        of_users, of_items = self._first_layer()
        scores = np.empty((users.size, len(of_items)), np.float32)
        step = max(1, _BLOCK_FLOATS // of_items.size)
        for start in range(0, users.size, step):
            block = slice(start, start + step)
            scores[block] = self._rest(of_users[users[block], None] + of_items)
        return scores

    def pair_scores(self, users: NDArray[np.int64], items: NDArray[np.integer[Any]]) -> Floats:
        """Score pairs, int64 [n] and integers [n] -> float32 [n]."""
        of_users, of_items = self._first_layer()
        return self._rest(of_users[users] + of_items[items])

    def _first_layer(self) -> tuple[Floats, Floats]:
        """Split the first layer, before its ReLU, into parts of the users, [U, out], and of the items, [I, out]."""
        (weight, bias), *_ = self.layers
        width = self.user_vectors.shape[1]
        return self.user_vectors @ weight[:, :width].T + bias, self.item_vectors @ weight[:, width:].T

    def _rest(self, x: Floats) -> Floats:
        """Compute what follows, [..., out] -> [...]."""
        x = np.maximum(x, 0)
        for weight, bias in self.layers[1:]:
            x = np.maximum(x @ weight.T + bias, 0)
        return np.asarray(x @ self.output)


@dataclass(frozen=True, eq=False)
class Student:
    """What the sum of teachers became; without a tower a GMF."""

    factors: Factors
    tower: Tower | None = None

    def scores(self, users: NDArray[np.int64]) -> Floats:
        """Score all items for each user, int64 [B] -> float32 [B, I]."""
        scores = self.factors.scores(users)
        if self.tower is not None:
            scores += self.tower.scores(users)
        return scores

    def pair_scores(self, users: NDArray[np.int64], items: NDArray[np.integer[Any]]) -> Floats:
        """Score pairs, int64 [n] and integers [n] -> float32 [n]."""
        factors = self.factors
        products = np.einsum("nd,nd->n", factors.user_vectors[users], factors.item_vectors[items])
        scores = np.asarray(products + factors.item_biases[items])
        return scores if self.tower is None else scores + self.tower.pair_scores(users, items)

    def fold_in_scores(self, weights: Floats) -> FoldIn | None:
        """Tell how scores @ weights follow from a history: with a tower they do not."""
        return self.factors.fold_in_scores(weights) if self.tower is None else None

    def vectors(self) -> tuple[Floats, Floats]:
        """Give the embeddings of `to_model()` side by side, [p_u ; 1 ; a_u] and [q_i ; mu_i ; c_i]."""
        factors, tower = self.factors, self.tower
        users = [factors.user_vectors, np.ones((len(factors.user_vectors), 1), np.float32)]
        items = [factors.item_vectors, factors.item_biases[:, None]]
        if tower is not None:
            users.append(tower.user_vectors)
            items.append(tower.item_vectors)
        return np.concatenate(users, axis=1), np.concatenate(items, axis=1)

    def with_vectors(self, users: Floats, items: Floats) -> Student:
        """Give a student with other embeddings, as `vectors` gives them; those of users still follow from histories."""
        rank = self.factors.user_vectors.shape[1]
        factors = Factors(users[:, :rank], items[:, :rank], items[:, rank], self.factors.fold_in)
        if self.tower is None:
            return Student(factors)
        a, c = (np.ascontiguousarray(vectors[:, rank + 1 :]) for vectors in (users, items))
        return Student(factors, replace(self.tower, user_vectors=a, item_vectors=c))

    def to_model(self, *, scale: float = 1.0, bias: float = 0.0) -> GMF | NeuMF:
        """Make the model whose logits are `scale` (above 0) times the scores plus `bias`, in evaluation mode."""
        gmf = self.factors.to_gmf(scale=scale, bias=bias)
        if self.tower is None:
            return gmf
        tower, weights = self.tower, gmf.state_dict()
        users, items = (weights[f"gmf.{side}_embedding.weight"] for side in ("user", "item"))
        widths = tower.user_vectors.shape[1], tower.item_vectors.shape[1]
        layers = [sum(widths), *(len(bias_of_layer) for _, bias_of_layer in tower.layers)]
        with torch.random.fork_rng(devices=[]):  # the weights that it draws are replaced
            model = NeuMF(len(users), len(items), users.shape[1], layers, user_width=widths[0], item_width=widths[1])
        weights["mlp.user_embedding.weight"] = torch.from_numpy(tower.user_vectors)
        weights["mlp.item_embedding.weight"] = torch.from_numpy(tower.item_vectors)
        for n, (weight, bias_of_layer) in enumerate(tower.layers):
            weights[f"mlp.layers.{n}.weight"] = torch.from_numpy(weight)
            weights[f"mlp.layers.{n}.bias"] = torch.from_numpy(bias_of_layer)
        output = torch.from_numpy(np.float32(scale) * tower.output)[None]
        weights["output.weight"] = torch.cat([weights["output.weight"], output], dim=1)
        model.load_state_dict(weights)
        return model.eval()

    def history_tensors(self, *, scale: float = 1.0) -> dict[str, Floats] | None:
        """Give the tensors of history.safetensors for `to_model(scale=scale)`; None without a fold-in.

        A user without a history gets the item biases, and the mean user vector of the tower.
        """
        fold_in, root = self.factors.fold_in, np.float32(np.sqrt(scale))
        rank = self.factors.user_vectors.shape[1]
        width = rank + 1 + (0 if self.tower is None else self.tower.user_vectors.shape[1])
        empty = np.zeros(width, np.float32)
        empty[rank] = root
        if fold_in is None:
            return None
        fold_in = fold_in.then(np.eye(rank, width, dtype=np.float32) * root, empty)
        if self.tower is not None:
            if self.tower.fold_in is None:
                return None
            behind = width - rank - 1
            fold_in = fold_in + self.tower.fold_in.then(np.eye(behind, width, rank + 1, dtype=np.float32))
            empty[rank + 1 :] = self.tower.user_vectors.mean(axis=0)
        return fold_in.tensors(empty=empty)

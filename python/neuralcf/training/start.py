"""Where training starts from: the weights of a model that was trained before, and the ids that they belong to.

Users and items of the model keep their numbers and their rows; those that have come in since follow. A trainer takes
what it can go on with:

Networks    All tensors (`Start.weights`); the rows of new users and items are those of an untrained model.
mf          Vectors and item biases (`Start.factors`). A GMF with item biases has them as its last factor, whose user
            side is the same for all: with r there, logits are r^2 (p_u . q_i + b_i) for the vectors times r in the
            tables, so that r tells the scale too.
distill     The model as a teacher (`Start.taught`): its item vectors, and for each user what its own fold-in makes of
            the history (`neuralcf.training.fold_in`), new interactions included. A model that has no fold-in teaches
            what it knew of a user before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuralcf._core import Scorer, read_weights
from neuralcf.data.csr import CSR
from neuralcf.data.dataset import Dataset, ExternalIds
from neuralcf.errors import ArgumentError
from neuralcf.training.fold_in import FoldIn
from neuralcf.training.teachers import Factors

__all__ = ["Start"]


@dataclass(frozen=True, eq=False)
class Start:
    """A model to start from."""

    model_id: str | None
    tensors: Mapping[str, NDArray[np.float32]]
    """Under the names of the model format."""
    user_ids: ExternalIds
    """int64 [U], or U strings."""
    item_ids: ExternalIds
    """int64 [I], or I strings."""
    history: Mapping[str, NDArray[np.float32]] | None = None
    """The tensors of history.safetensors, if the model has them."""

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Start:
        """Load a model directory.

        Raises:
            ArgumentError: a model that was saved without ids.
            ModelFormatError: not a model.
            OSError: the model cannot be read.
        """
        model_id, tensors, history, user_ids, item_ids = read_weights(path)
        if user_ids is None or item_ids is None:
            raise ArgumentError(f"{path}: expected a model with ids to start from, got one that was saved without any")
        ids = [each.take(np.arange(len(each))) for each in (user_ids, item_ids)]
        return cls(model_id, tensors, ids[0], ids[1], history)

    @property
    def kind(self) -> str:
        """`gmf`, `mlp` or `neumf`."""
        towers = [tower for tower in ("gmf", "mlp") if f"{tower}.user_embedding.weight" in self.tensors]
        return "neumf" if len(towers) > 1 else towers[0]

    def weights(self, dataset: Dataset, untrained: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give the weights to start with, for all users and items of a data set.

        Args:
            dataset: whose ids begin with those of the model.
            untrained: the `state_dict` of a model of that size, whose rows new users and items get.

        Raises:
            ArgumentError: ids that do not begin with the model's; a model of another kind, or of other widths.
        """
        self._check_ids(dataset)
        if untrained.keys() != self.tensors.keys():
            raise ArgumentError(f"start: expected a model of the kind to train, got one of kind {self.kind}")
        weights = {}
        for name, weight in untrained.items():
            ours = torch.from_numpy(self.tensors[name])
            if weight.shape[1:] != ours.shape[1:] or ("embedding" not in name and weight.shape != ours.shape):
                raise ArgumentError(
                    f"start: expected a model of the widths to train, {name} {list(weight.shape)}, got "
                    f"{list(ours.shape)}; factors and layers are those of the model to start from"
                )
            weights[name] = torch.cat([ours, weight[len(ours) :]])
        return weights

    def factors(self, dataset: Dataset) -> tuple[Factors, float]:
        """Give vectors and item biases for all users and items of a data set, those of new ones zero; and the bias.

        Raises:
            ArgumentError: ids that do not begin with the model's; no GMF whose last factor holds item biases.
        """
        self._check_ids(dataset)
        users, items = self._gmf()
        root = float(users[0, -1])
        if users.shape[1] < 2 or not root > 0 or not (users[:, -1] == users[0, -1]).all():
            raise ArgumentError("start: expected a GMF with item biases, such as those of the trainer mf")
        users, items = (vectors / np.float32(root) for vectors in (users, items))
        p, q = _appended(users[:, :-1], dataset.num_users), _appended(items, dataset.num_items)
        bias = float(self.tensors["output.bias"][0]) / root**2
        return Factors(p, np.ascontiguousarray(q[:, :-1]), q[:, -1].copy()), bias

    def taught(self, dataset: Dataset) -> Factors:
        """Give the vectors with which the model scores the users and items of a data set; new items have zeros.

        Raises:
            ArgumentError: ids that do not begin with the model's; no GMF.
        """
        self._check_ids(dataset)
        users, items = self._gmf()
        p, q = _appended(users, dataset.num_users), _appended(items, dataset.num_items)
        biases = np.zeros(dataset.num_items, np.float32)
        if self.history is None:
            return Factors(p, q, biases)
        indptr, known = _of_known(dataset.user_items(), len(items))
        some = np.flatnonzero(np.diff(indptr))
        scorer = Scorer.from_tensors(self.tensors, history=self.history)
        folded = scorer.fold_in((np.append(indptr[:-1][some], indptr[-1]), known)).gmf
        assert folded is not None
        p[some] = folded
        tables = {
            name: _appended(table, dataset.num_items) if name.endswith(".items") else table
            for name, table in self.history.items()
        }
        return Factors(p, q, biases, FoldIn.from_tensors(tables))

    def for_ials(self, dataset: Dataset, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Give vectors for iALS to start from, float32 [U, width] and [I, width], scaled as those of `spectral_start`.

        None if the interactions do not score above 0 on average.
        """
        self._check_ids(dataset)
        users, items = self._gmf()
        p = _appended(_resized(users, width), dataset.num_users)
        q = _appended(_resized(items, width), dataset.num_items)
        mean = float(np.einsum("nd,nd->n", p[dataset.users], q[dataset.items]).mean(dtype=np.float64))
        if not mean > 0:
            return None
        size, balance = np.sqrt(0.7 / mean), np.sqrt(np.linalg.norm(q) / np.linalg.norm(p))
        return (p * size * balance).astype(np.float32), (q * size / balance).astype(np.float32)

    def _gmf(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Give vectors whose products are the model's logits without the bias, [U, d] and [I, d]."""
        if self.kind != "gmf":
            raise ArgumentError(f"start: expected a GMF, got a model of kind {self.kind}")
        users, items, output = (
            self.tensors[name] for name in ("gmf.user_embedding.weight", "gmf.item_embedding.weight", "output.weight")
        )
        return users, items * output[0]

    def _check_ids(self, dataset: Dataset) -> None:
        for side, ours, theirs in (
            ("user", self.user_ids, dataset.user_ids),
            ("item", self.item_ids, dataset.item_ids),
        ):
            if len(theirs) < len(ours) or not np.array_equal(ours, theirs[: len(ours)]):
                raise ArgumentError(
                    f"{side}_ids: expected those of the model to start from, then new ones, got others; "
                    "neuralcf.data.renumbered puts them in this order"
                )


def _appended(vectors: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """Append rows of zeros; a copy."""
    return np.concatenate([vectors, np.zeros((rows - len(vectors), vectors.shape[1]), np.float32)])


def _resized(vectors: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Cut columns, or append zero ones."""
    missing = max(0, width - vectors.shape[1])
    return np.concatenate([vectors[:, :width], np.zeros((len(vectors), missing), np.float32)], axis=1)


def _of_known(rows: CSR, num_items: int) -> CSR:
    """Leave out the items from `num_items` on."""
    indptr, items = rows
    known = items < num_items
    before = np.concatenate([[0], np.cumsum(known)])
    return before[indptr], items[known]

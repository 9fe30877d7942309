"""Matrix factorisation by gradient descent, with a choice of loss.

Letters: U users, I items, d factors, B users or samples in a batch, n_u the items of user u, n_i the users of item i, N
interactions.

Model       s_ui = p_u . q_i + b_i + b: a vector for each user and item, a bias for each item, and one for all. It is
            exported as a GMF whose last factor holds the item biases.
Loss        `bce`, `bpr`, `softmax` or `sampled_softmax` (`neuralcf.training.losses`).
Negatives   For bce and bpr, `negatives` items for each interaction, sampled uniformly from those that the user does not
            have, `dislike_share` of them from the user's dislikes (`neuralcf.training.sampling`). For sampled_softmax,
            `samples` items for each batch, with the probability 1 / I or (n_i + 1) / (N + I), which the loss corrects
            for.
L2          l2 / 2 times the squares of the vectors p_u and q_i of each sample, and so in proportion to how often they
            occur. For the softmax losses l2 / 2 [sum over u of n_u |p_u|^2 + sum over i of (n_i + N / I) |q_i|^2], the
            items' part in equal shares over the batches of an epoch.
Weights     Those of the interactions (`Dataset.weights`) multiply the terms of bce; the other losses treat all alike.
Dropout     Of the user's vector, a share of whose elements is zero in each sample.
Optimiser   Adam; the learning rate falls linearly to 0. With the softmax losses, which step each user once in an epoch,
            Adam of the batch's rows for p_u (`neuralcf.training.rows_adam`).
Start       Vectors from N(0, .05^2), b_i = log(n_i + 1) without its mean, b = -log `negatives` for bce, else 0.
Training on From the vectors and biases of a model (`neuralcf.training.start`); new users and items start as above,
            biases shifted by as much as those of the known items differ from the above on average.
Logits      Those of bce are used as they are. Those of the other losses mean nothing but an order: they are scaled and
            shifted so that probabilities are calibrated on what was held out (`neuralcf.training.probability`), or
            without validation on training interactions, which is too confident.

Early stopping, averaging (after each epoch) and resuming are those of `neuralcf.training.descent`. With `refit` the
model is trained again on all interactions, for the best number of epochs. A softmax over all items costs B x I scores a
batch: for catalogues of some ten thousand items at most.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from neuralcf.baselines.base import mask
from neuralcf.data.csr import take_rows
from neuralcf.data.dataset import Dataset
from neuralcf.errors import ArgumentError
from neuralcf.seeds import Stream, derive
from neuralcf.training.config import TrainConfig
from neuralcf.training.descent import Descent, MovingAverage, TrainingState, Weights
from neuralcf.training.device import isolated_torch, resolve
from neuralcf.training.distributed import add, on_first, own_seed, part_of
from neuralcf.training.losses import bce_with_logits, bpr, sampled_softmax_cross_entropy, softmax_cross_entropy
from neuralcf.training.pair_weights import PairWeights
from neuralcf.training.presets import MATRIX_FACTORIZATION
from neuralcf.training.probability import fit_logit
from neuralcf.training.rows_adam import RowsAdam
from neuralcf.training.run_directory import RunDirectory
from neuralcf.training.sampling import EpochSampler
from neuralcf.training.start import Start
from neuralcf.training.teachers import Factors
from neuralcf.training.trainer import Trainer, TrainResult
from neuralcf.training.trainers.matrix_factorization_config import MatrixFactorizationConfig
from neuralcf.training.validation import Validation

__all__ = ["TRAINER", "fit", "train_matrix_factorization"]

_Start: TypeAlias = tuple[Factors, float] | None
"""Vectors and biases to start from, if any."""

_INITIAL_STD = 0.05
_BETAS, _USER_BETAS = (0.9, 0.99), (0.9, 0.95)
_FEWEST_STEPS = 24
"""Of an epoch of the softmax losses, whose batches are smaller for few users."""
_CALIBRATION_SAMPLES = 10_000


def fit(
    dataset: Dataset,
    config: TrainConfig[MatrixFactorizationConfig],
    run: RunDirectory | None,
    *,
    progress: bool | None,
    start: Start | None = None,
) -> TrainResult:
    """Train as the module's docstring describes; `neuralcf.training.trainer.Fit` documents the arguments."""
    mf, seed, device = config.trainer, config.seed, resolve(config.device)
    validation = Validation.of(dataset, seed) if config.validation else None
    train = validation.split.train if validation else dataset
    state = TrainingState.of(on_first(lambda: run.checkpoint() if run else None))
    first = None if start is None else start.factors(train)
    with isolated_torch(config.threads, device):
        if not state.finished:
            _descent(train, mf, "mf", 0, mf.epochs, seed, device, validation, run, state, first).train(progress)
        if config.refit and len(state.finished) == 1:
            epochs = state.best_epochs[0]
            _descent(dataset, mf, "mf refit", 1, epochs, seed, device, None, run, state, first).train(progress)
    factors, bias = _factors(state.finished[-1])
    if mf.loss == "bce":
        return TrainResult(factors.to_gmf(bias=bias), state.history, state.best_epoch)
    scale, bias = on_first(lambda: _fit_logit(_factors(state.finished[0])[0], train, validation, seed))
    chosen = {"logit_scale": scale, "logit_bias": bias}
    return TrainResult(factors.to_gmf(scale=scale, bias=bias), state.history, state.best_epoch, chosen)


def fit_from(
    start: Start,
    dataset: Dataset,
    config: TrainConfig[MatrixFactorizationConfig],
    run: RunDirectory | None,
    *,
    progress: bool | None,
) -> TrainResult:
    """Train on from the vectors and item biases of a model."""
    return fit(dataset, config, run, progress=progress, start=start)


def continued(settings: Mapping[str, Any], _: Mapping[str, Any]) -> dict[str, Any]:
    """Give settings to train on with: a fifth of the epochs."""
    epochs = settings.get("epochs", MatrixFactorizationConfig.epochs)
    return {**settings, "epochs": max(1, epochs // 5)}


def _ignores(settings: MatrixFactorizationConfig) -> tuple[Literal["weights", "dislikes"], ...]:
    if settings.loss not in ("bce", "bpr"):
        return "weights", "dislikes"
    weights: tuple[Literal["weights"], ...] = () if settings.loss == "bce" else ("weights",)
    return weights if settings.dislike_share else (*weights, "dislikes")


TRAINER: Final = Trainer(MatrixFactorizationConfig, fit, MATRIX_FACTORIZATION, fit_from, continued, _ignores)


def train_matrix_factorization(
    train: Dataset, config: MatrixFactorizationConfig, *, seed: int = 0, device: torch.device | None = None
) -> Factors:
    """Train for all epochs, without validation, and return the vectors; torch's global random state is not touched.

    Raises:
        ArgumentError: no user lacks an item, so that no negative can be sampled.
        DivergedError: the loss or the weights are no longer finite.
    """
    device, state = device or torch.device("cpu"), TrainingState()
    with isolated_torch(torch.get_num_threads(), device):
        _descent(train, config, "mf", 0, config.epochs, seed, device, None, None, state, None).train(progress=False)
    return _factors(state.finished[-1])[0]


class _Model(nn.Module):
    """The parameters of a matrix factorisation."""

    def __init__(self, train: Dataset, config: MatrixFactorizationConfig, seed: int, start: _Start) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)

        def drawn(rows: int) -> NDArray[np.float32]:
            return rng.standard_normal((rows, config.factors), dtype=np.float32) * np.float32(_INITIAL_STD)

        log_counts = np.log1p(_popularity(train)).astype(np.float32)
        items, users, biases = drawn(train.num_items), drawn(train.num_users), log_counts - log_counts.mean()
        bias = -math.log(config.negatives) if config.loss == "bce" else 0.0
        if start is not None:
            known, bias = start
            if (width := known.item_vectors.shape[1]) != config.factors:
                raise ArgumentError(
                    f"factors: expected {width}, those of the model to start from, got {config.factors}"
                )
            for vectors, theirs in ((items, known.item_vectors), (users, known.user_vectors)):
                rows = theirs.any(axis=1)
                vectors[rows] = theirs[rows]
            known_items = known.item_vectors.any(axis=1)
            shift = (known.item_biases - biases)[known_items].mean()
            biases = np.where(known_items, known.item_biases, biases + shift)
        self.item_vectors, self.user_vectors = (nn.Parameter(torch.from_numpy(each)) for each in (items, users))
        self.item_biases = nn.Parameter(torch.from_numpy(biases.astype(np.float32)))  # [I]
        self.bias = nn.Parameter(torch.tensor(bias))


class _Factorisation(Descent):
    """The training of one stage, but for what an epoch is."""

    model: _Model

    def __init__(
        self,
        train: Dataset,
        config: MatrixFactorizationConfig,
        name: str,
        number: int,
        epochs: int,
        seed: int,
        device: torch.device,
        validation: Validation | None,
        run: RunDirectory | None,
        state: TrainingState,
        start: _Start,
        *,
        steps: int,
    ) -> None:
        super().__init__(
            name, epochs=epochs, steps=steps, patience=config.patience, validation=validation, run=run, state=state
        )
        self.train_set, self.config, self.number, self.seed, self.device = train, config, number, seed, device
        self.model = _Model(train, config, derive(seed, Stream.INITIALISATION, number), start)
        if state.model is not None:
            self.model.load_state_dict(state.model)
        self.model.to(device)
        if config.averaging:
            self.average = MovingAverage(self.model, config.averaging, state.average)

    @abstractmethod
    def steps_of(self, epoch: int, after_step: Callable[[int, float], None]) -> float:
        """Take the steps of an epoch as `descend` does, without the average."""

    def descend(self, epoch: int, after_step: Callable[[int, float], None]) -> float:
        """Take the steps of an epoch, then update the average; return the mean loss."""
        torch.manual_seed(own_seed(derive(self.seed, Stream.DROPOUT, self.number, epoch)))
        loss = self.steps_of(epoch, after_step)
        if self.average is not None:
            self.average.update(epoch)
        return loss

    def measure(self, validation: Validation, weights: Weights) -> tuple[float, float]:
        """Compute HR@10 and NDCG@10 of weights."""
        return validation.measure(_factors(weights)[0].to_gmf().state_dict())

    def remaining(self, epoch: int, step: int) -> float:
        """Give the share of the learning rate at a step, from 1."""
        return 1 - ((epoch - 1) * self.steps + step - 1) / (self.config.epochs * self.steps)


class _Pairwise(_Factorisation):
    """Binary cross-entropy or BPR with sampled negatives."""

    def __init__(self, train: Dataset, config: MatrixFactorizationConfig, *stage: Any) -> None:
        seed, labels = stage[3], config.loss == "bce"
        self.sampler = EpochSampler(
            train,
            config.negatives,
            seed,
            batch_size=config.batch_size,
            labels=labels,
            dislike_share=config.dislike_share,
            threads=torch.get_num_threads(),
        )
        self.pair_weights = PairWeights.of(train) if labels else None
        super().__init__(train, config, *stage, steps=self.sampler.steps)
        self.adam = torch.optim.Adam(self.model.parameters(), lr=1.0, betas=_BETAS, fused=True)
        if self.state.optimiser is not None:
            self.adam.load_state_dict(self.state.optimiser)

    def optimiser_state(self) -> dict[str, Any]:
        """Return the state of Adam."""
        return self.adam.state_dict()

    def steps_of(self, epoch: int, after_step: Callable[[int, float], None]) -> float:
        """Take one step for each batch of samples; return the mean loss of a sample."""
        total = 0.0
        for step, batch in enumerate(self.sampler.batches(self.number, epoch), start=1):
            own = part_of(len(batch[0]))
            samples = tuple(column[..., own.rows] for column in batch)
            weights = None if self.pair_weights is None else self.pair_weights.find(*samples).to(self.device)
            users, items, others = (column.to(self.device) for column in samples)
            loss, penalty = self._loss(users, items, others, weights)
            self.adam.zero_grad()
            (loss + penalty).backward()  # type: ignore[no-untyped-call]
            (value,) = add(self.model.parameters(), loss.item(), share=own.share)
            self.check_loss(value, epoch, step)
            self.adam.param_groups[0]["lr"] = self.config.learning_rate * self.remaining(epoch, step)
            self.adam.step()
            after_step(step, value)
            total += value * len(batch[0])
        return total / self.sampler.samples

    def _loss(self, users: Tensor, items: Tensor, others: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the mean loss and the regularisation of a batch; `others` are labels [B] or negatives [n, B]."""
        p = functional.embedding(users, self.model.user_vectors)  # [B, d]
        kept = functional.dropout(p, self.config.dropout)

        def scored(items: Tensor) -> tuple[Tensor, Tensor]:
            """Score items, [B] or [n, B], each for the user of its place; and the mean square of their vectors."""
            q = functional.embedding(items, self.model.item_vectors)
            biases = functional.embedding(items, self.model.item_biases[:, None]).squeeze(-1)
            return (kept * q).sum(dim=-1) + biases, q.square().sum(dim=-1).mean()

        scores, squares = scored(items)
        squares = squares + p.square().sum(dim=1).mean()
        if self.config.loss == "bce":
            loss = bce_with_logits(scores + self.model.bias, others, weights)
        else:
            negatives, negative_squares = scored(others)
            loss, squares = bpr(scores, negatives), squares + negative_squares
        return loss, self.config.l2 / 2 * squares


class _Softmax(_Factorisation):
    """Softmax over all items or over sampled ones: batches of users, each with all items that they have."""

    def __init__(self, train: Dataset, config: MatrixFactorizationConfig, *stage: Any) -> None:
        self.rows = train.user_items()
        lengths, popularity = np.diff(self.rows[0]), _popularity(train)
        self.users = np.flatnonzero(lengths)
        steps = max(math.ceil(self.users.size / config.batch_users), min(_FEWEST_STEPS, self.users.size))
        super().__init__(train, config, *stage, steps=steps)
        model = self.model
        shared = [model.item_vectors, model.item_biases]
        self.adam = torch.optim.Adam(shared, lr=1.0, betas=_BETAS, fused=True)
        self.rows_adam = RowsAdam(model.user_vectors.detach(), _USER_BETAS)
        if self.state.optimiser is not None:
            self.adam.load_state_dict(self.state.optimiser["adam"])
            for moments, stored in zip(self.rows_adam.moments, self.state.optimiser["users"], strict=True):
                moments.copy_(stored)
        mean = popularity.sum() / train.num_items
        self.user_l2 = torch.from_numpy((config.l2 * lengths).astype(np.float32)).to(self.device)
        self.item_l2 = torch.from_numpy((config.l2 * (popularity + mean)).astype(np.float32)).to(self.device)
        weights = popularity + 1.0 if config.proposals == "popularity" else np.ones(train.num_items)
        self.proposals = weights / weights.sum()  # [I]
        self.cumulative = self.proposals.cumsum()

    def optimiser_state(self) -> dict[str, Any]:
        """Return the state of Adam of the items and of the users."""
        return {"adam": self.adam.state_dict(), "users": [each.cpu() for each in self.rows_adam.moments]}

    def steps_of(self, epoch: int, after_step: Callable[[int, float], None]) -> float:
        """Take one step for each batch of users; return the mean loss of an interaction."""
        config, model = self.config, self.model
        rng = np.random.default_rng(derive(self.seed, Stream.NEGATIVES, self.number, epoch))
        total = 0.0
        for step, batch in enumerate(np.array_split(rng.permutation(self.users), self.steps), start=1):
            which, own = torch.from_numpy(batch).to(self.device), part_of(batch.size)
            p = model.user_vectors.detach()[which].requires_grad_()  # [B, d]
            mine, users = p[own.rows], batch[own.rows]
            kept = functional.dropout(mine, config.dropout)
            loss = self._full(kept, users) if config.loss == "softmax" else self._sampled(kept, users, rng)
            penalty = (self.user_l2[which][own.rows] @ mine.square().sum(dim=1)) / 2
            item_penalty = (self.item_l2 @ model.item_vectors.square().sum(dim=1)) / (2 * self.steps)
            self.adam.zero_grad()
            (loss + penalty + own.share * item_penalty).backward()  # type: ignore[no-untyped-call]
            (value,) = add([model.item_vectors, model.item_biases, p], loss.item())
            self.check_loss(value, epoch, step)
            remaining = self.remaining(epoch, step)
            self.adam.param_groups[0]["lr"] = config.learning_rate * remaining
            self.adam.step()
            assert p.grad is not None
            self.rows_adam.step(which, p.grad, config.user_learning_rate * remaining, epoch)
            after_step(step, value)
            total += value
        return total / self.rows[1].size

    def _full(self, kept: Tensor, users: NDArray[np.int64]) -> Tensor:
        model = self.model
        known = mask(take_rows(self.rows, users), slice(0, users.size), self.train_set.num_items)  # [B, I]
        logits = kept @ model.item_vectors.T + model.item_biases
        return softmax_cross_entropy(logits, torch.from_numpy(known.astype(np.float32)).to(self.device))

    def _sampled(self, kept: Tensor, users: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        model, size, last = self.model, self.config.samples, self.train_set.num_items - 1
        drawn = np.minimum(np.searchsorted(self.cumulative, rng.random(size), side="right"), last)
        samples, times = np.unique(drawn, return_counts=True)  # [S], ascending
        correction = np.log(size * self.proposals[samples] / times).astype(np.float32)
        indptr, items = take_rows(self.rows, users)
        rows = np.repeat(np.arange(users.size), np.diff(indptr))
        places = np.minimum(np.searchsorted(samples, items), samples.size - 1)
        hits = samples[places] == items
        known = np.zeros((users.size, samples.size), np.bool_)
        known[rows[hits], places[hits]] = True
        at, own, other = (torch.from_numpy(x.astype(np.int64)).to(self.device) for x in (rows, items, samples))
        positives = (kept[at] * model.item_vectors[own]).sum(dim=1) + model.item_biases[own]
        sampled = kept @ model.item_vectors[other].T + model.item_biases[other]
        corrections, mine = (torch.from_numpy(x).to(self.device) for x in (correction, known))
        return sampled_softmax_cross_entropy(positives, at, sampled, corrections, mine)


def _descent(train: Dataset, config: MatrixFactorizationConfig, *stage: Any) -> _Factorisation:
    return (_Pairwise if config.loss in ("bce", "bpr") else _Softmax)(train, config, *stage)


def _popularity(train: Dataset) -> NDArray[np.int64]:
    """Count the users of each item, int64 [I]."""
    return np.bincount(train.user_items()[1], minlength=train.num_items)


def _factors(weights: Weights) -> tuple[Factors, float]:
    """Give the vectors and item biases of weights, and the bias of all."""
    user_vectors, item_vectors, item_biases = (
        weights[name].numpy() for name in ("user_vectors", "item_vectors", "item_biases")
    )
    return Factors(user_vectors, item_vectors, item_biases), float(weights["bias"])


def _fit_logit(factors: Factors, train: Dataset, validation: Validation | None, seed: int) -> tuple[float, float]:
    """Fit scale and bias on held-out interactions and their candidates, or on training interactions and negatives."""
    if validation is not None:
        return fit_logit(*validation.pair_scores(factors.scores))
    batches = EpochSampler(train, 1, seed, batch_size=_CALIBRATION_SAMPLES).batches(0, 0)
    users, items, labels = (part.numpy() for part in next(batches))
    products = (factors.user_vectors[users] * factors.item_vectors[items]).sum(axis=1)
    scores = products + factors.item_biases[items]
    return fit_logit(scores[labels == 1], scores[labels == 0])

"""The paper's trainer: binary cross-entropy with negative sampling, by gradient descent.

Model       yhat(u, i) = sigmoid(f(u, i)), f the logit of GMF, MLP or NeuMF (`neuralcf.models`).
Loss        L = -mean over (u, i) of y log yhat + (1 - y) log(1 - yhat) + R: binary cross-entropy; y = 1 for the known
            interactions, y = 0 for sampled negatives (He et al., WWW 2017, eq. 7); R is L2 regularisation, 0 by default
            (`neuralcf.training.losses`).
Weights     With weights of interactions, the term of a positive is multiplied by its weight; negatives keep weight 1.
Sampling    For each known interaction (u, i), `negatives` items, sampled uniformly and independently from the items
            without an interaction of u, anew in each epoch (section 3.1.1 of the paper; 4 in its experiments).
            Users who have every item are left out. Of a user with dislikes, `dislike_share` of the negatives are
            sampled from these (`neuralcf.training.sampling`).
Optimiser   Adam (Kingma and Ba, ICLR 2015) over shuffled batches of positives and negatives together, or plain SGD, of
            all parameters as one vector. The gradient is computed by hand (`neuralcf.training.gradients`), and by
            autograd where there is dropout, L2 regularisation or features.
Stages      One; with pre-training three: GMF, MLP, then NeuMF initialised from both, with output layer [alpha h_GMF ;
            (1 - alpha) h_MLP] (section 3.4.1), fine-tuned by a fresh optimiser. All three use the same validation set.
Training on From the weights of a model (`Start`), which new users and items join as they would an untrained one.
Features    With features of users or items in the data set, each embedding is its own plus those of its attributes
            (`neuralcf.training.feature_embeddings`), and folded into a plain table at the end.
Shards      Data that need not fit in memory are trained on shard by shard (`neuralcf.data.shards`), in random order in
            each epoch.
Validation  One interaction of each user (the latest, or a random one without timestamps) is held out and ranked after
            each epoch among 99 sampled items without an interaction of the user. The caller holds out the test set;
            this module never sees it. Validation items may be sampled as negatives, as test items may: the sampler
            knows neither. With `refit`, all stages then run again on all interactions, without validation, each for its
            best number of epochs.

Early stopping, averaging of the weights and resuming are those of `neuralcf.training.descent`.

Adam is dense, also for the embeddings. A step costs a pass over all tables, so large catalogues train faster with large
batches. Sparse Adam updates only the rows of the batch, but freezes the moments of all others, which makes it another
optimiser. On a CPU, sorting its indices costs more than the pass over tables of some ten thousand rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from neuralcf.data.dataset import Dataset
from neuralcf.data.shards import Shards
from neuralcf.errors import ArgumentError
from neuralcf.models import GMF, MLP, Model, NeuMF, fuse
from neuralcf.seeds import Stream, derive
from neuralcf.training.config import TrainConfig
from neuralcf.training.descent import Descent, MovingAverage, TrainingState, Weights
from neuralcf.training.device import isolated_torch, resolve
from neuralcf.training.distributed import add, on_first, own_seed, part_of
from neuralcf.training.feature_embeddings import add_features, feature_maps, fold
from neuralcf.training.gradients import accumulate_bce_gradient, flatten
from neuralcf.training.losses import bce_with_logits, l2_penalty
from neuralcf.training.pair_weights import PairWeights
from neuralcf.training.presets import PAPER
from neuralcf.training.run_directory import RunDirectory
from neuralcf.training.sampling import EpochSampler, ShardSampler
from neuralcf.training.start import Start
from neuralcf.training.trainer import Trainer, TrainResult
from neuralcf.training.trainers.ncf_config import NCFConfig
from neuralcf.training.validation import Validation

__all__ = ["TRAINER", "build", "fit"]


def fit(
    dataset: Dataset,
    config: TrainConfig[NCFConfig],
    run: RunDirectory | None,
    *,
    progress: bool | None,
    start: Start | None = None,
    shards: Shards | None = None,
) -> TrainResult:
    """Train as the module's docstring describes; `neuralcf.training.trainer.Fit` documents the arguments."""
    ncf, seed, device = config.trainer, config.seed, resolve(config.device)
    validation = Validation.of(dataset, seed) if config.validation else None
    state = TrainingState.of(on_first(lambda: run.checkpoint() if run else None))
    with isolated_torch(config.threads, device):
        for stage in _stages(ncf, refit=config.refit)[len(state.finished) :]:
            held_out = validation if stage.refit_of is None else None
            train_set = held_out.split.train if held_out else dataset
            how: dict[str, Any] = {"batch_size": ncf.batch_size, "threads": config.threads}
            sampler: EpochSampler | ShardSampler
            if shards is None:
                sampler = EpochSampler(train_set, ncf.negatives, seed, dislike_share=ncf.dislike_share, **how)
            else:
                remaining = shards.without(held_out.split.users, held_out.split.items) if held_out else shards
                sampler = ShardSampler(remaining, ncf.negatives, seed, **how)
            pair_weights = PairWeights.of(train_set)
            training = _StageTraining(dataset, stage, seed, sampler, pair_weights, held_out, device, run, state, start)
            training.train(progress)
        model = build(ncf, dataset.num_users, dataset.num_items)  # its random weights are replaced
    weights = state.finished[-1]
    model.load_state_dict(fold(weights, dataset))
    return TrainResult(model.eval(), state.history, state.best_epoch, features=feature_maps(weights, dataset))


def fit_from(
    start: Start,
    dataset: Dataset,
    config: TrainConfig[NCFConfig],
    run: RunDirectory | None,
    *,
    progress: bool | None,
) -> TrainResult:
    """Train on from the weights of a model."""
    if config.trainer.pretrain:
        raise ArgumentError("pretrain: expected False with a model to start from, got True")
    return fit(dataset, config, run, progress=progress, start=start)


def fit_shards(
    shards: Shards,
    dataset: Dataset,
    config: TrainConfig[NCFConfig],
    run: RunDirectory | None,
    *,
    progress: bool | None,
) -> TrainResult:
    """Train on shards; validation interactions are held out of the users in `dataset`."""
    return fit(dataset, config, run, progress=progress, shards=shards)


def continued(settings: Mapping[str, Any], _: Mapping[str, Any]) -> dict[str, Any]:
    """Give settings to train on with: a fifth of the epochs, and no pre-training."""
    epochs = settings.get("epochs", NCFConfig.epochs)
    return {**settings, "epochs": max(1, epochs // 5), "pretrain": False}


def _ignores(settings: NCFConfig) -> tuple[Literal["weights", "dislikes"], ...]:
    return () if settings.dislike_share else ("dislikes",)


TRAINER: Final = Trainer(NCFConfig, fit, PAPER, fit_from, continued, _ignores, fit_shards)


def build(config: NCFConfig, num_users: int, num_items: int) -> Model:
    """Build the untrained model that `config` describes, with weights from torch's global random generator."""
    if config.model == "gmf":
        return GMF(num_users, num_items, config.factors)
    if config.model == "mlp":
        return MLP(num_users, num_items, config.layers, dropout=config.dropout)
    return NeuMF(num_users, num_items, config.factors, config.layers, dropout=config.dropout)


@dataclass(frozen=True)
class _Stage:
    """One model to train."""

    number: int
    """Number of the stage, from 0; selects its random streams."""

    config: NCFConfig
    """The settings with this stage's model, epochs and optimiser."""

    fused: bool = False
    """Whether it is initialised from the two stages before it."""

    refit_of: int | None = None
    """The stage that this one repeats on all interactions, for that stage's best number of epochs."""


def _stages(config: NCFConfig, *, refit: bool) -> list[_Stage]:
    if config.pretrain:
        alone = replace(config, pretrain=False, epochs=config.pretrain_epochs)
        fine = replace(config, optimizer=config.fine_tune_optimizer, learning_rate=config.fine_tune_learning_rate)
        stages = [
            _Stage(0, replace(alone, model="gmf")),
            _Stage(1, replace(alone, model="mlp")),
            _Stage(2, fine, fused=True),
        ]
    else:
        stages = [_Stage(0, config)]
    if refit:
        stages += [replace(stage, number=stage.number + len(stages), refit_of=stage.number) for stage in stages]
    return stages


class _StageTraining(Descent):
    """The training of one stage."""

    def __init__(
        self,
        dataset: Dataset,
        stage: _Stage,
        seed: int,
        sampler: EpochSampler | ShardSampler,
        pair_weights: PairWeights | None,
        validation: Validation | None,
        device: torch.device,
        run: RunDirectory | None,
        state: TrainingState,
        start: Start | None,
    ) -> None:
        config, again = stage.config, stage.refit_of is not None
        super().__init__(
            f"{config.model} refit" if again else config.model,
            epochs=config.epochs if stage.refit_of is None else state.best_epochs[stage.refit_of],
            steps=sampler.steps,
            patience=config.patience,
            validation=validation,
            run=run,
            state=state,
        )
        self.dataset, self.stage, self.config, self.seed = dataset, stage, config, seed
        features = dataset.user_features is not None or dataset.item_features is not None
        self.plain = not (features or config.dropout or config.l2_embeddings or config.l2_layers)
        self.sampler, self.pair_weights, self.device = sampler, pair_weights, device
        torch.manual_seed(derive(seed, Stream.INITIALISATION, stage.number))
        self.model: Model = build(config, dataset.num_users, dataset.num_items)
        if start is not None:
            self.model.load_state_dict(start.weights(dataset, self.model.state_dict()))
        add_features(self.model, dataset)
        if stage.fused:
            gmf, mlp = state.finished[-2:]
            self.model.load_state_dict(fuse(gmf, mlp, config.alpha))
        if state.model is not None:
            self.model.load_state_dict(state.model)
        self.model.to(device)
        self.parameters = flatten(self.model)
        if config.averaging:
            self.average = MovingAverage(self.model, config.averaging * self.steps, state.average)
        self.optimiser = _optimiser(config, self.parameters)
        if state.optimiser is not None:
            self.optimiser.load_state_dict(state.optimiser)
        if stage.fused and state.best is None:
            self.measure_start()

    def optimiser_state(self) -> dict[str, Any]:
        """Return the state of the optimiser."""
        return self.optimiser.state_dict()

    def measure(self, validation: Validation, weights: Weights) -> tuple[float, float]:
        """Compute HR@10 and NDCG@10 of the weights, folded into a plain model."""
        return validation.measure(fold(weights, self.dataset))

    def descend(self, epoch: int, after_step: Callable[[int, float], None]) -> float:
        """Take one optimiser step for each batch of the epoch; return the mean cross-entropy over its pairs."""
        torch.manual_seed(own_seed(derive(self.seed, Stream.DROPOUT, self.stage.number, epoch)))
        total = 0.0
        for step, batch in enumerate(self.sampler.batches(self.stage.number, epoch), start=1):
            own = part_of(len(batch[0]))
            pairs = tuple(column[own.rows] for column in batch)
            users, items, labels = (column.to(self.device) for column in pairs)
            weights = None if self.pair_weights is None else self.pair_weights.find(*pairs).to(self.device)
            self.optimiser.zero_grad(set_to_none=False)
            loss = self._accumulate_gradient(users, items, labels, weights)
            (loss,) = add([self.parameters], loss, share=own.share)
            self.check_loss(loss, epoch, step)
            self.optimiser.step()
            if self.average is not None:
                self.average.update((epoch - 1) * self.steps + step)
            after_step(step, loss)
            total += loss * len(batch[0])
        return total / self.sampler.samples

    def _accumulate_gradient(self, users: Tensor, items: Tensor, labels: Tensor, weights: Tensor | None) -> float:
        """Add the gradient of a batch to that of the parameters; return the loss."""
        config = self.config
        if self.plain:
            return accumulate_bce_gradient(self.model, users, items, labels, weights).item()
        loss = bce_with_logits(self.model(users, items), labels, weights)
        penalty = l2_penalty(self.model, embeddings=config.l2_embeddings, layers=config.l2_layers)
        (loss + penalty).backward()  # type: ignore[no-untyped-call]
        return loss.item()


def _optimiser(config: NCFConfig, parameters: nn.Parameter) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD([parameters], lr=config.learning_rate)
    return torch.optim.Adam([parameters], lr=config.learning_rate, fused=True)

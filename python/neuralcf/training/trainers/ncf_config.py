"""The settings of the paper's trainer, `neuralcf.training.trainers.ncf`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from neuralcf.errors import ArgumentError
from neuralcf.training.config import TrainerConfig, check_choice, check_flag, check_int, check_layers, check_number

__all__ = ["NCFConfig"]


@dataclass(frozen=True, kw_only=True)
class NCFConfig(TrainerConfig):
    """Settings of GMF, MLP and NeuMF, trained by gradient descent with negative sampling.

    Raises:
        ArgumentError: invalid value; the message names the field, what was expected and what it got.
    """

    name: ClassVar[str] = "ncf"

    model: Literal["gmf", "mlp", "neumf"] = "neumf"
    """Which model: GMF (linear), MLP (a multi-layer perceptron), or NeuMF (both joined)."""

    factors: int = 8
    """Width of the GMF embeddings. MLP does not use it."""

    layers: tuple[int, ...] = (64, 32, 16, 8)
    """Width of both MLP embeddings together, then of each hidden layer. GMF does not use it."""

    negatives: int = 4
    """Negative sampling: how many items without an interaction to sample for each interaction, anew in each epoch."""

    dislike_share: float = 0.05
    """Of the negatives of a user with dislikes, the share that is sampled from them. The rest are any items without
    an interaction."""

    epochs: int = 20
    """Maximum number of passes over the training interactions; with pre-training, of the fine-tuning alone."""

    batch_size: int = 1024
    """Pairs in one optimiser step, positive and negative together."""

    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or gradient descent without momentum. With pre-training, the optimiser of GMF and MLP."""

    learning_rate: float = 0.004
    """Step size. The paper uses 0.001 with Adam and batches of 256; with batches of 1024, four times that ranks as
    well and trains faster."""

    l2_embeddings: float = 0.0
    """L2 regularisation: weight of the sum of squares of all embedding tables, added to the loss of each step. 0 in
    the paper."""

    l2_layers: float = 0.0
    """L2 regularisation of the hidden layers' weights, added in the same way. Biases and the output layer are not
    regularised."""

    dropout: float = 0.0
    """Share of the inputs of each hidden layer set to zero during training. GMF does not use it."""

    patience: int = 5
    """Early stopping: end training after this many epochs without improvement on the validation set; 0 trains for
    all `epochs`. Needs `validation`."""

    pretrain: bool = False
    """Whether to train GMF and MLP first and initialise NeuMF from both (section 3.4.1 of the paper). NeuMF only."""

    pretrain_epochs: int = 3
    """Maximum number of epochs for each of GMF and MLP. Keep it small: parts that are fully trained leave
    fine-tuning little to do but overfit."""

    alpha: float = 0.5
    """Weight of GMF in the output layer that joins both parts. The MLP's weight is 1 - alpha."""

    fine_tune_optimizer: Literal["adam", "sgd"] = "adam"
    """Optimiser of NeuMF after pre-training. The paper uses gradient descent, as Adam's moments are lost."""

    fine_tune_learning_rate: float = 0.004
    """Step size of the fine-tuning optimiser."""

    averaging: float = 1.0
    """Time constant, in epochs, of the moving average of the weights. The average is evaluated and kept in place of
    the weights; 0 keeps the weights of the last step, as the paper does."""

    def __post_init__(self) -> None:
        check_choice("model", self.model, "gmf", "mlp", "neumf")
        for name in ("optimizer", "fine_tune_optimizer"):
            check_choice(name, getattr(self, name), "adam", "sgd")
        object.__setattr__(self, "layers", check_layers("layers", self.layers))
        for name in ("factors", "negatives", "epochs", "pretrain_epochs", "batch_size"):
            check_int(name, getattr(self, name), minimum=1)
        check_int("patience", self.patience, minimum=0)
        for name in ("learning_rate", "fine_tune_learning_rate"):
            check_number(name, getattr(self, name), "a finite number > 0", lambda x: x > 0)
        for name in ("l2_embeddings", "l2_layers", "averaging"):
            check_number(name, getattr(self, name), "a finite number >= 0", lambda x: x >= 0)
        check_number("dropout", self.dropout, "a number >= 0 and < 1", lambda x: 0 <= x < 1)
        check_number("dislike_share", self.dislike_share, "a number from 0 to 1", lambda x: 0 <= x <= 1)
        check_number("alpha", self.alpha, "a number from 0 to 1", lambda x: 0 <= x <= 1)
        check_flag("pretrain", self.pretrain)
        if self.pretrain and self.model != "neumf":
            raise ArgumentError(f"pretrain: expected False for any model but neumf, got True for {self.model}")

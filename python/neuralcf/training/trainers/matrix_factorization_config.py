"""The settings of the trainer `neuralcf.training.trainers.matrix_factorization`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from neuralcf.training.config import TrainerConfig, check_choice, check_int, check_number

__all__ = ["MatrixFactorizationConfig"]


@dataclass(frozen=True, kw_only=True)
class MatrixFactorizationConfig(TrainerConfig):
    """Settings of a matrix factorisation, trained by gradient descent with a choice of loss.

    Raises:
        ArgumentError: invalid value; the message names the field, what was expected and what it got.
    """

    name: ClassVar[str] = "mf"

    loss: Literal["bce", "bpr", "softmax", "sampled_softmax"] = "softmax"
    """Binary cross-entropy or BPR with sampled negatives, or the softmax over all items or over sampled ones."""

    factors: int = 128
    """Width of the vectors. The exported GMF has one factor more, which holds the item biases."""

    epochs: int = 50
    """Maximum number of passes over the training interactions."""

    learning_rate: float = 0.003
    """Step size of Adam at the start; it falls linearly to 0 over `epochs`."""

    user_learning_rate: float = 0.01
    """Step size of the users' vectors with the softmax losses, which step each user once in an epoch."""

    l2: float = 0.02
    """L2 regularisation of both vectors, for each interaction."""

    dropout: float = 0.3
    """Share of a user's vector set to zero during training."""

    batch_size: int = 4096
    """Samples in one optimiser step; for `bce` and `bpr`."""

    negatives: int = 4
    """Negative sampling: how many items to sample for each interaction, anew in each epoch; for `bce` and `bpr`."""

    dislike_share: float = 0.05
    """Of the negatives of a user with dislikes, the share that is sampled from them; for `bce` and `bpr`."""

    batch_users: int = 256
    """Most users in one optimiser step; for the softmax losses."""

    samples: int = 2048
    """How many items `sampled_softmax` samples for each step."""

    proposals: Literal["uniform", "popularity"] = "popularity"
    """How `sampled_softmax` samples items: all alike, or in proportion to their interactions plus one."""

    averaging: float = 10.0
    """Time constant, in epochs, of the moving average of the weights after each epoch. The average is evaluated and
    kept in place of the weights; 0 keeps the weights themselves."""

    patience: int = 10
    """Early stopping: end training after this many epochs without improvement on the validation set; 0 trains for
    all `epochs`. Needs `validation`."""

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, "bce", "bpr", "softmax", "sampled_softmax")
        check_choice("proposals", self.proposals, "uniform", "popularity")
        for name in ("factors", "epochs", "batch_size", "negatives", "batch_users", "samples"):
            check_int(name, getattr(self, name), minimum=1)
        check_int("patience", self.patience, minimum=0)
        for name in ("learning_rate", "user_learning_rate"):
            check_number(name, getattr(self, name), "a finite number > 0", lambda x: x > 0)
        for name in ("l2", "averaging"):
            check_number(name, getattr(self, name), "a finite number >= 0", lambda x: x >= 0)
        check_number("dislike_share", self.dislike_share, "a number from 0 to 1", lambda x: 0 <= x <= 1)
        check_number("dropout", self.dropout, "a number >= 0 and < 1", lambda x: 0 <= x < 1)

"""Settings by name, of all trainers.

DISTILL     From several teachers to one GMF. `fast` is what `neuralcf train` does when it is told nothing. Of the
            teachers, `large_teachers` are for more than `dense_items` items (10,000), `teachers` for fewer.
MATRIX_FACTORIZATION
            A plain matrix factorisation by gradient descent, for each loss.
PAPER       The models of He et al., WWW 2017, by gradient descent on sampled negatives.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

__all__ = ["DISTILL", "MATRIX_FACTORIZATION", "PAPER"]


def _paper(factors: int, **more: Any) -> dict[str, Any]:
    """Give the settings of He et al., WWW 2017, section 4.1, with the tower of their published program."""
    tower = (8 * factors, 4 * factors, 2 * factors, factors)
    return {
        "factors": factors,
        "layers": tower,
        "batch_size": 256,
        "learning_rate": 0.001,
        "negatives": 4,
        "averaging": 0,
        **more,
    }


DISTILL: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "fast": {
            "teachers": "ials + ease + history",
            "large_teachers": "ials(1024) + 0.3 graph",
            "factors": 256,
            "history_epochs": 32,
            "threads": 2,
        },
        "best": {
            "teachers": "ials + ease + 0.75 history + 0.75 history",
            "large_teachers": "ials(1024) + 0.3 graph",
            "factors": 256,
            "large_factors": 384,
            "listed": 150,
            "history_epochs": 50,
            "threads": 2,
            "refit": True,
        },
    }
)

PAPER: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "paper-8": _paper(8),
        "paper-16": _paper(16),
        "paper-32": _paper(32),
        "paper-64": _paper(64),
        "paper-8-pretrained": _paper(
            8, pretrain=True, pretrain_epochs=20, fine_tune_optimizer="sgd", fine_tune_learning_rate=0.01
        ),
        "neumf": {"batch_size": 4096, "learning_rate": 0.008, "epochs": 10},
    }
)

MATRIX_FACTORIZATION: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "mf-softmax": {"loss": "softmax"},
        "mf-sampled-softmax": {"loss": "sampled_softmax"},
        "mf-bce": {"loss": "bce", "epochs": 20, "l2": 0.005, "negatives": 8, "dropout": 0.0},
        "mf-bpr": {"loss": "bpr", "epochs": 25, "learning_rate": 0.01, "l2": 0.001, "dropout": 0.0},
    }
)

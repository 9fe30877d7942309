"""Training: `train` turns a `Dataset` and a `TrainConfig` into a model. Needs torch."""

from neuralcf.training.config import TrainConfig, TrainerConfig
from neuralcf.training.configure import configure, from_dict
from neuralcf.training.train import train, unused
from neuralcf.training.trainer import EpochRecord, Trainer, TrainResult
from neuralcf.training.trainers import TRAINERS
from neuralcf.training.trainers.distill_config import DistillConfig
from neuralcf.training.trainers.matrix_factorization_config import MatrixFactorizationConfig
from neuralcf.training.trainers.ncf_config import NCFConfig

__all__ = [
    "TRAINERS",
    "DistillConfig",
    "EpochRecord",
    "MatrixFactorizationConfig",
    "NCFConfig",
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "TrainerConfig",
    "configure",
    "from_dict",
    "train",
    "unused",
]

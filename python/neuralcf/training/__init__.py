"""Training: from interactions and a configuration to a model. Needs torch."""

from neuralcf.training.config import TrainConfig
from neuralcf.training.configure import configure
from neuralcf.training.train import TRAINERS, train
from neuralcf.training.trainer import EpochRecord, Trainer, TrainResult

__all__ = ["TRAINERS", "EpochRecord", "TrainConfig", "TrainResult", "Trainer", "configure", "train"]

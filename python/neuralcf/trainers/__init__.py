"""Ways to get a model from interactions, one file each behind `Trainer`."""

from neuralcf.trainers.base import EpochRecord, Trainer, TrainResult

__all__ = ["EpochRecord", "TrainResult", "Trainer"]

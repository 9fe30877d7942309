"""Ways to get a model from interactions, one file each behind `neuralcf.training.trainer.Trainer`."""

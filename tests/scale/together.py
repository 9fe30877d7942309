"""Train each kind of trainer on a small data set, in as many processes as torchrun starts, and store the results.

torchrun --nproc-per-node N together.py FOLDER
"""

import sys
from pathlib import Path

import torch

from neuralcf.data import planted_taste
from neuralcf.seeds import Stream, derive
from neuralcf.training import DistillConfig, MatrixFactorizationConfig, NCFConfig, TrainConfig, TrainResult, train
from neuralcf.training.distributed import first_only, joined
from neuralcf.training.trainers.logistic_encoder import LogisticEncoderConfig, train_logistic_encoder

# No batch size divides an epoch: the last batches are odd, and one has a single sample, so that a part is empty.
NCF = {"factors": 4, "layers": (8, 4), "epochs": 2, "patience": 0}
MF = {"factors": 4, "epochs": 2, "patience": 0, "dropout": 0.0}
CONFIGS = {
    "ncf": NCFConfig(**NCF, batch_size=1499, averaging=1),
    "ncf of single samples": NCFConfig(**{**NCF, "epochs": 1}, model="gmf", negatives=1, batch_size=5997),
    "ncf, regularised": NCFConfig(**NCF, batch_size=1499, l2_embeddings=0.01, l2_layers=0.01),
    "ncf with dropout": NCFConfig(**NCF, batch_size=1499, dropout=0.2),
    "mf by bce": MatrixFactorizationConfig(**MF, loss="bce", batch_size=1499),
    "mf by bpr": MatrixFactorizationConfig(**MF, loss="bpr", batch_size=499),
    "mf by softmax": MatrixFactorizationConfig(**MF, loss="softmax", batch_users=33),
    "mf by sampled softmax": MatrixFactorizationConfig(**MF, loss="sampled_softmax", batch_users=33, samples=40),
    "distill": DistillConfig(
        teachers="ials + history + mf", factors=8, ials_factors=4, history_factors=4, history_epochs=2, mf_epochs=2
    ),
}
TO_THE_BIT = ("ncf", "distill")
"""Trained twice, to be compared."""


def trained(name: str, run: Path | None = None) -> TrainResult:
    """Train by one of the configurations."""
    dataset = planted_taste(100, 60, seed=3).dataset
    return train(dataset, TrainConfig(CONFIGS[name], validation=name != "mf by bpr"), run=run, progress=False)


def main(folder: Path) -> None:
    """Store weights, history and choices of each."""
    folder.mkdir(parents=True, exist_ok=True)
    with joined():
        for name in CONFIGS:
            result = trained(name, folder / f"run {name}")
            losses = [(record.stage, record.loss, record.validation_hr) for record in result.history]
            again = trained(name).model.state_dict() if name in TO_THE_BIT else None
            stored = {"weights": result.model.state_dict(), "history": losses, "again": again}
            first_only(lambda stored=stored, name=name: torch.save(stored, folder / f"{name}.pt"))
        losses = []
        config = LogisticEncoderConfig(factors=4, epochs=12, dropout=0.3)
        seed = derive(0, Stream.TEACHERS)
        dataset = planted_taste(100, 60, seed=3).dataset
        train_logistic_encoder(dataset, config, seed=seed, after_epoch=lambda _, loss: losses.append(loss))
        first_only(lambda: torch.save(losses, folder / "logistic.pt"))
        print("every process is done")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The result of an evaluation: per-user metrics, and how they were measured."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.dataset import ExternalIds
from neuralcf.errors import ArgumentError
from neuralcf.files import write_atomically

__all__ = ["Evaluation"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of every evaluated user, and how they were measured."""

    users: ExternalIds
    """The m evaluated users, each once: dense indices, or external ids."""

    per_user: dict[str, NDArray[np.float64]]
    """Values, float64 [m], by metric, such as `NDCG@10`."""

    overall: dict[str, float]
    """Metrics without per-user values: `Coverage@k`."""

    held_out: int
    """Number of ranked held-out items, over all users."""

    protocol: str
    """What each held-out item was ranked among, in words."""

    fingerprint: str
    """SHA-256 of the protocol, the held-out items, and the training items or candidates; equal only for evaluations
    that can be compared."""

    @property
    def means(self) -> dict[str, float]:
        """Each metric over all users: means of the per-user metrics, then the overall ones."""
        return {name: float(values.mean()) for name, values in self.per_user.items()} | self.overall

    @property
    def hr(self) -> float:
        """HR at the first cut-off."""
        return self._first("HR@")

    @property
    def ndcg(self) -> float:
        """NDCG at the first cut-off."""
        return self._first("NDCG@")

    def _first(self, prefix: str) -> float:
        return next(value for name, value in self.means.items() if name.startswith(prefix))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the evaluation to an .npz file, for a later paired comparison."""
        arrays: dict[str, Any] = {
            "users": np.asarray(self.users),
            "held_out": np.array(self.held_out),
            "protocol": np.array(self.protocol),
            "fingerprint": np.array(self.fingerprint),
        }
        arrays |= {f"per_user/{name}": values for name, values in self.per_user.items()}
        arrays |= {f"overall/{name}": np.array(value) for name, value in self.overall.items()}
        content = io.BytesIO()
        np.savez(content, **arrays)
        write_atomically(path, content.getvalue())

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Evaluation:
        """Read a file written by `save`.

        Raises:
            ArgumentError: not such a file.
            OSError: the file cannot be read.
        """
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:  # noqa: PTH123
                arrays: dict[str, NDArray[Any]] = dict(stored)
            users = arrays["users"]
            per_user = {name[9:]: arrays[name] for name in arrays if name.startswith("per_user/")}
            for name, values in per_user.items():
                if values.shape != users.shape or values.dtype != np.float64:
                    raise ValueError(f"{name}: {values.dtype} {list(values.shape)} for {users.size} users")
            return cls(
                users=users.tolist() if users.dtype.kind == "U" else users,
                per_user=per_user,
                overall={name[8:]: float(arrays[name]) for name in arrays if name.startswith("overall/")},
                held_out=int(arrays["held_out"]),
                protocol=str(arrays["protocol"]),
                fingerprint=str(arrays["fingerprint"]),
            )
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ArgumentError(f"{path}: expected a file written by `Evaluation.save`: {error}") from error

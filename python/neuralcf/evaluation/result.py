"""What an evaluation gives: each user's metrics, and how they were measured."""

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
    """The m evaluated users, each once: dense indices, or the ids that were put in their place."""

    per_user: dict[str, NDArray[np.float64]]
    """Values float64 [m] by name, such as `NDCG@10`."""

    overall: dict[str, float]
    """What no single user has: `Coverage@k`."""

    held_out: int
    """How many held-out items were ranked, of all users together."""

    protocol: str
    """What each of them was ranked against, in words."""

    fingerprint: str
    """SHA-256 of what was ranked against what: equal only where two evaluations answer the same questions."""

    @property
    def means(self) -> dict[str, float]:
        """Each metric over all users, in the order of their names' introduction."""
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
        """Write everything to an .npz file, for a paired comparison later."""
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
        """Read what `save` wrote.

        Raises:
            ArgumentError: the file is something else.
            OSError: it cannot be read.
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
            raise ArgumentError(f"{path}: expected what `Evaluation.save` writes: {error}") from error

"""Interactions that need not fit in memory, in shards of users on disk (`neuralcf.data.readers.shards` writes them).

shards/
  users.npy, items.npy     the ids, ascending; their positions are the dense indices: int64, or strings joined by
                           line breaks, as their UTF-8 bytes, uint8
  bounds.npy               int64 [S + 1]: shard s has the users bounds[s] to bounds[s + 1] - 1
  indptr.npy               int64 [U + 1]: where each user's items begin, in all shards together
  NNNNNN.npy               int32: the items of a shard's users, sorted, unique
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuralcf.data.csr import CSR
from neuralcf.data.dataset import Dataset, ExternalIds
from neuralcf.seeds import Stream, derive

__all__ = ["Shards", "shard_file", "stored_ids"]


@dataclass(frozen=True, eq=False)
class Shards:
    """Interactions on disk, in shards of users; see the module's docstring for the files.

    A user and an item count once. There are no timestamps, weights or features.
    """

    folder: Path
    user_ids: ExternalIds
    item_ids: ExternalIds
    bounds: NDArray[np.int64]
    """int64 [S + 1]."""
    indptr: NDArray[np.int64]
    """int64 [U + 1], with the pairs that are left out."""
    left_out: NDArray[np.int64]
    """int64 [m, 2], by user: users and items that `rows` leaves out."""

    @classmethod
    def open(cls, folder: str | PathLike[str]) -> Shards:
        """Open the shards that `write_shards` has written to a folder.

        Raises:
            OSError: they cannot be read.
        """
        path = Path(folder)
        users, items, bounds, indptr = (
            np.load(path / f"{name}.npy") for name in ("users", "items", "bounds", "indptr")
        )
        return cls(path, _ids_of(users), _ids_of(items), bounds, indptr, np.empty((0, 2), np.int64))

    @staticmethod
    def exist(folder: str | PathLike[str]) -> bool:
        """Whether a folder holds shards, all of them written."""
        return (Path(folder) / "indptr.npy").exists()  # the last file

    def __len__(self) -> int:
        return int(self.indptr[-1]) - len(self.left_out)

    @property
    def count(self) -> int:
        """S, the number of shards."""
        return len(self.bounds) - 1

    @property
    def num_items(self) -> int:
        """I, the number of item ids."""
        return len(self.item_ids)

    def lengths(self, shard: int) -> NDArray[np.int64]:
        """Count the items of each user of a shard, without reading it, int64 [users of the shard]."""
        first, last = self.bounds[shard], self.bounds[shard + 1]
        users = self.left_out[:, 0]
        mine = users[(users >= first) & (users < last)] - first
        return np.diff(self.indptr[first : last + 1]) - np.bincount(mine, minlength=last - first)

    def rows(self, shard: int) -> CSR:
        """Read the items of each user of a shard, without the pairs that are left out."""
        first, last = int(self.bounds[shard]), int(self.bounds[shard + 1])
        indices = np.load(shard_file(self.folder, shard))
        indptr = self.indptr[first : last + 1] - self.indptr[first]
        users = self.left_out[:, 0]
        absent = self.left_out[(users >= first) & (users < last)]
        if absent.size:
            rows = np.repeat(np.arange(last - first), np.diff(indptr))
            keys = rows * self.num_items + indices  # ascending
            places = np.searchsorted(keys, (absent[:, 0] - first) * self.num_items + absent[:, 1])
            indices = np.delete(indices, places)
            indptr = np.concatenate([[0], np.cumsum(self.lengths(shard))])
        return indptr, indices

    def without(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> Shards:
        """Leave out pairs, int64 [m] each, all different and all of them there: those that are held out."""
        more = np.concatenate([self.left_out, np.stack([users, items], axis=1)])
        return replace(self, left_out=more[np.lexsort((more[:, 1], more[:, 0]))])

    def of_users(self, users: NDArray[np.int64]) -> Dataset:
        """Read the interactions of some users, int64 [m], ascending, into a data set with all ids."""
        found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for shard in range(self.count):
            first, last = int(self.bounds[shard]), int(self.bounds[shard + 1])
            mine = users[(users >= first) & (users < last)]
            if mine.size:
                indptr, indices = self.rows(shard)
                for user in mine:
                    items = indices[indptr[user - first] : indptr[user - first + 1]].astype(np.int64)
                    found.append((np.full(items.size, user), items))
        pairs = [np.concatenate(column) for column in zip(*found, strict=True)]
        return Dataset(pairs[0], pairs[1], None, self.user_ids, self.item_ids)

    def sample_users(self, most: int, seed: int) -> Dataset:
        """Read the interactions of at most so many users, drawn at random, into a data set with all ids."""
        rng = np.random.default_rng(derive(seed, Stream.SPLIT))
        users = len(self.user_ids)
        return self.of_users(np.sort(rng.choice(users, min(most, users), replace=False)))

    def all_rows(self) -> CSR:
        """Join what `rows` reads of all shards in one more file, which is mapped into memory."""
        lengths = np.concatenate([self.lengths(shard) for shard in range(self.count)])
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        joined = np.memmap(self.folder / "all.int32", np.int32, "w+", shape=(len(self),))
        for shard in range(self.count):
            first, last = indptr[self.bounds[shard : shard + 2]]
            joined[first:last] = self.rows(shard)[1]
        return indptr, joined


def shard_file(folder: Path, shard: int) -> Path:
    """Name the file of a shard's items."""
    return folder / f"{shard:06}.npy"


def stored_ids(ids: ExternalIds) -> NDArray[np.int64] | NDArray[np.uint8]:
    """Give ids as an array to store; strings have no line breaks."""
    return ids if isinstance(ids, np.ndarray) else np.frombuffer("\n".join(ids).encode(), np.uint8)


def _ids_of(stored: NDArray[np.int64] | NDArray[np.uint8]) -> ExternalIds:
    if stored.dtype == np.uint8:
        return stored.tobytes().decode().split("\n")
    return stored.astype(np.int64, copy=False)

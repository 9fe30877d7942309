"""The `Dataset`: interactions of users with items, as dense indices, and the ids behind the indices."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuralcf.data.csr import CSR, csr_from_pairs, largest_of_pairs
from neuralcf.data.features import Features
from neuralcf.errors import ArgumentError, argument

__all__ = ["Dataset", "ExternalIds", "compacted", "is_integer", "parse_id", "with_text_ids"]

ExternalIds: TypeAlias = NDArray[np.int64] | list[str]
"""The ids of all users or all items, unique; the position of an id is its dense index."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Interactions in their original order: user `users[n]` with item `items[n]` at `timestamps[n]`.

    The ids determine the number of users and items; after a split, some of them may have no interactions.
    The arrays are read-only copies.

    Raises:
        ArgumentError: lengths that differ, an index without an id, a duplicate id, a timestamp that is not a number, a
            weight that is not a number above 0.
    """

    users: NDArray[np.int64]
    """int64 [n]: dense user indices."""

    items: NDArray[np.int64]
    """int64 [n]: dense item indices."""

    timestamps: NDArray[np.int64] | NDArray[np.float64] | None
    """int64 or float64 [n], any unit; None if the order of events is unknown."""

    user_ids: ExternalIds
    """int64 [U], or U strings."""

    item_ids: ExternalIds
    """int64 [I], or I strings."""

    user_features: Features | None = None
    """The encoded attributes of all U users; None without any."""

    item_features: Features | None = None
    """The encoded attributes of all I items; None without any."""

    weights: NDArray[np.float32] | None = None
    """float32 [n], finite and above 0: how much each interaction counts beside the others; None if all count alike."""

    dislikes: Dataset | None = None
    """Items that users dislike, with the same ids, and none of their interactions; None without any. They are no
    interactions: trainers take them for known negatives, and they are never recommended."""

    def __post_init__(self) -> None:
        for name, ids in (("user_ids", self.user_ids), ("item_ids", self.item_ids)):
            object.__setattr__(self, name, _checked_ids(name, ids))
        for name, size in (("users", self.num_users), ("items", self.num_items)):
            object.__setattr__(self, name, _checked_indices(name, getattr(self, name), size))
        if self.timestamps is not None:
            object.__setattr__(self, "timestamps", _checked_timestamps(self.timestamps))
        if self.weights is not None:
            object.__setattr__(self, "weights", _checked_weights(np.asarray(self.weights)))
        columns = {name: getattr(self, name) for name in ("users", "items", "timestamps", "weights")}
        lengths = {name: len(column) for name, column in columns.items() if column is not None}
        if len(set(lengths.values())) > 1:
            raise ArgumentError(f"{', '.join(lengths)}: expected equal lengths, got {lengths}")
        for name, features, size in (
            ("user_features", self.user_features, self.num_users),
            ("item_features", self.item_features, self.num_items),
        ):
            if features is not None and len(features) != size:
                raise ArgumentError(f"{name}: expected {size} rows, one for each id, got {len(features)}")
        if (other := self.dislikes) is not None:
            sizes, expected = (other.num_users, other.num_items), (self.num_users, self.num_items)
            if sizes != expected:
                raise ArgumentError(f"dislikes: expected ids of {expected} users and items, as here, got {sizes}")

    def __len__(self) -> int:
        return len(self.users)

    def __repr__(self) -> str:
        timed = "without timestamps" if self.timestamps is None else "with timestamps"
        if self.dislikes is not None:
            timed += f", {len(self.dislikes)} dislikes"
        return f"Dataset({len(self)} interactions of {self.num_users} users with {self.num_items} items, {timed})"

    @property
    def num_users(self) -> int:
        """U, the number of user ids."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """I, the number of item ids."""
        return len(self.item_ids)

    @classmethod
    def from_ids(
        cls,
        user_ids: Sequence[int] | Sequence[str] | NDArray[Any],
        item_ids: Sequence[int] | Sequence[str] | NDArray[Any],
        timestamps: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        dislikes: tuple[Any, Any] | None = None,
    ) -> Dataset:
        """Build a data set from the ids of n interactions.

        Dense indices follow the sorted ids, so they do not depend on the order of the interactions. Ids are never
        coerced: user ids are all integers or all strings, and so are item ids.

        Args:
            user_ids: n ids.
            item_ids: n ids.
            timestamps: n numbers, or None.
            weights: n numbers above 0, or None.
            dislikes: m user ids and m item ids, or None. A dislike that is an interaction too, or of a user or item
                without interactions, does not count.

        Raises:
            TypeError: ids that are neither all integers nor all strings.
            ArgumentError: as the constructor.
        """
        unique_users, users = _dense(user_ids, "user_ids")
        unique_items, items = _dense(item_ids, "item_ids")
        times, heavy = (None if column is None else np.asarray(column) for column in (timestamps, weights))
        dataset = cls(users, items, times, unique_users, unique_items, weights=heavy)
        return dataset if dislikes is None else dataset.with_dislikes(cls.from_ids(*dislikes))

    def with_dislikes(self, dislikes: Dataset) -> Dataset:
        """Add dislikes, whose ids may be others; those that are interactions, or of other users or items, do not count.

        Of several with the same user and item the earliest is kept, or the first without timestamps.
        """
        users, items = _places(self.user_ids, dislikes.user_ids), _places(self.item_ids, dislikes.item_ids)
        mine = dislikes.reindexed(users, items, self.user_ids, self.item_ids)
        keys = mine.users * self.num_items + mine.items
        order = np.arange(len(mine)) if mine.timestamps is None else np.argsort(mine.timestamps, kind="stable")
        _, first = np.unique(keys[order], return_index=True)
        kept = np.sort(order[first])
        kept = kept[~np.isin(keys[kept], self.users * self.num_items + self.items)]
        return replace(self, dislikes=mine.take(kept) if kept.size else None)

    def take(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> Dataset:
        """Select interactions by a mask [n] or by position; indices, ids, features and dislikes stay unchanged."""
        timestamps = None if self.timestamps is None else self.timestamps[which]
        weights = None if self.weights is None else self.weights[which]
        return replace(self, users=self.users[which], items=self.items[which], timestamps=timestamps, weights=weights)

    def reindexed(
        self, users: NDArray[np.int64], items: NDArray[np.int64], user_ids: ExternalIds, item_ids: ExternalIds
    ) -> Dataset:
        """Give users and items other dense indices; the result has no features.

        Args:
            users: int64 [U], the new index of each user, -1 to leave the user out.
            items: int64 [I], likewise.
            user_ids: the ids behind the new indices.
            item_ids: likewise.
        """
        kept = (users[self.users] >= 0) & (items[self.items] >= 0)
        part = self if kept.all() else self.take(kept)
        return Dataset(
            users[part.users],
            items[part.items],
            part.timestamps,
            user_ids,
            item_ids,
            weights=part.weights,
            dislikes=None if self.dislikes is None else self.dislikes.reindexed(users, items, user_ids, item_ids),
        )

    def user_items(self) -> CSR:
        """Return each user's items as CSR rows, sorted and unique: `(indptr int64 [U + 1], indices int32)`."""
        return csr_from_pairs(self.users, self.items, self.num_users, self.num_items)

    def known_items(self) -> CSR:
        """Return what is not to be recommended to each user, their items and dislikes, in the form of `user_items`."""
        if self.dislikes is None:
            return self.user_items()
        users = np.concatenate([self.users, self.dislikes.users])
        items = np.concatenate([self.items, self.dislikes.items])
        return csr_from_pairs(users, items, self.num_users, self.num_items)

    def pair_weights(self) -> NDArray[np.float32] | None:
        """Return the weight of each distinct pair, in the order of `user_items`; None if all count alike.

        A pair that occurs several times has the largest of its weights. Only ratios mean something, so the weights are
        divided by their mean: float32 [nnz], of mean 1.
        """
        if self.weights is None or not len(self):
            return None
        weights = largest_of_pairs(self.users, self.items, self.weights, self.num_items)
        return np.asarray(weights / weights.mean(dtype=np.float64), np.float32)

    def fingerprint(self) -> str:
        """Compute the SHA-256 of interactions and ids, without features, in hexadecimal; the same on every machine."""
        digest = hashlib.sha256(b"neuralcf dataset 1")
        for ids in (self.user_ids, self.item_ids):
            if isinstance(ids, list):
                encoded = [text.encode() for text in ids]
                _update(digest, b"str", np.array([len(text) for text in encoded], dtype=np.int64))
                digest.update(b"".join(encoded))
            else:
                _update(digest, b"int64", ids)
        for part in (self.users, self.items):
            _update(digest, b"index", part)
        if self.timestamps is not None:
            _update(digest, self.timestamps.dtype.name.encode(), self.timestamps)
        if self.weights is not None:
            _update(digest, b"weights", self.weights)
        if self.dislikes is not None:
            digest.update(b"dislikes " + self.dislikes.fingerprint().encode())
        return digest.hexdigest()


def compacted(dataset: Dataset) -> Dataset:
    """Leave out the ids, and with them the features and dislikes, of users and items without interactions."""
    places, ids, features = [], [], list[Features | None]()
    for side in ("user", "item"):
        indices, all_ids = getattr(dataset, f"{side}s"), getattr(dataset, f"{side}_ids")
        present = np.flatnonzero(np.bincount(indices, minlength=len(all_ids)))
        dense = np.full(len(all_ids), -1)
        dense[present] = np.arange(present.size)
        places.append(dense)
        ids.append(all_ids[present] if isinstance(all_ids, np.ndarray) else [all_ids[place] for place in present])
        of_side: Features | None = getattr(dataset, f"{side}_features")
        features.append(None if of_side is None else of_side.take(present))
    return replace(dataset.reindexed(*places, *ids), user_features=features[0], item_features=features[1])


def with_text_ids(dataset: Dataset, side: str) -> Dataset:
    """Turn the integer ids of one side, `user` or `item`, into text; dense indices follow their order as text.

    The result has no features.
    """
    ids = getattr(dataset, f"{side}_ids")
    if isinstance(ids, list):
        return dataset
    texts = [str(id_) for id_ in ids.tolist()]
    order = sorted(range(len(texts)), key=texts.__getitem__)
    dense = np.empty(len(texts), dtype=np.int64)
    dense[order] = np.arange(len(texts))
    sorted_texts = [texts[place] for place in order]
    if side == "user":
        return dataset.reindexed(dense, np.arange(dataset.num_items), sorted_texts, dataset.item_ids)
    return dataset.reindexed(np.arange(dataset.num_users), dense, dataset.user_ids, sorted_texts)


def is_integer(text: str) -> bool:
    """Tell whether the text is an int64 in canonical form (`7`, not `007`), so that parsing it loses nothing."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
        return False
    return str(int(text)) == text and -(2**63) <= int(text) < 2**63


def parse_id(text: str, kind: str) -> int | str:
    """Parse a user id given as text into the type of the model's ids, `str` or `int64`.

    Raises:
        ArgumentError: the model's ids are integers and the text is not one.
    """
    if kind == "str":
        return text
    if not is_integer(text):
        raise ArgumentError(f"{argument('users')}: this model's ids are integers, got {text!r}")
    return int(text)


def _places(ids: ExternalIds, wanted: ExternalIds) -> NDArray[np.int64]:
    """Find the place of each wanted id, -1 if it is not among the ids."""
    place = {id_: n for n, id_ in enumerate(ids if isinstance(ids, list) else ids.tolist())}
    return np.array([place.get(id_, -1) for id_ in (wanted if isinstance(wanted, list) else wanted.tolist())], np.int64)


def _update(digest: Any, kind: bytes, array: NDArray[Any]) -> None:
    digest.update(b"%s %d\n" % (kind, array.size))
    digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def _dense(ids: Sequence[int] | Sequence[str] | NDArray[Any], name: str) -> tuple[ExternalIds, NDArray[np.int64]]:
    """Return the sorted unique ids, and for each given id its position among them."""
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
        if ids.dtype == np.uint64 and ids.size and ids.max() > np.iinfo(np.int64).max:
            raise ArgumentError(f"{name}: expected integers that fit int64, got {ids.max()}")
        unique, dense = np.unique(ids.astype(np.int64, copy=False), return_inverse=True)
        return unique, dense.astype(np.int64, copy=False)
    values: list[Any] = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    if all(isinstance(value, str) for value in values):
        distinct = sorted(set(values))
        index = {value: position for position, value in enumerate(distinct)}
        return distinct, np.fromiter((index[value] for value in values), dtype=np.int64, count=len(values))
    for position, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"{name}[{position}]: expected all integers or all strings, got {value!r}")
    try:
        return _dense(np.array(values, dtype=np.int64), name)
    except OverflowError as error:
        raise ArgumentError(f"{name}: expected integers that fit int64: {error}") from error


def _checked_ids(name: str, ids: ExternalIds) -> ExternalIds:
    if not isinstance(ids, np.ndarray):
        texts = list(ids)
        if not all(isinstance(text, str) for text in texts):
            raise TypeError(f"{name}: expected an integer array or strings, got a {type(ids).__name__} of other values")
        if len(set(texts)) < len(texts):
            raise ArgumentError(
                f"{name}: expected unique ids, got {len(texts)} ids, {len(set(texts))} of them distinct"
            )
        return texts
    array = _frozen_integers(name, ids)
    if np.unique(array).size < array.size:
        raise ArgumentError(
            f"{name}: expected unique ids, got {array.size} ids, {np.unique(array).size} of them distinct"
        )
    return array


def _checked_indices(name: str, indices: NDArray[Any], size: int) -> NDArray[np.int64]:
    array = _frozen_integers(name, np.asarray(indices))
    if array.size and (array.min() < 0 or array.max() >= size):
        worst = array.min() if array.min() < 0 else array.max()
        raise ArgumentError(f"{name}: expected indices from 0 to {size - 1}, got {worst}")
    return array


def _frozen_integers(name: str, array: NDArray[Any]) -> NDArray[np.int64]:
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise ArgumentError(f"{name}: expected integers [n], got {array.dtype} {list(array.shape)}")
    return _frozen(array, np.int64)


def _checked_timestamps(timestamps: NDArray[Any]) -> NDArray[Any]:
    if timestamps.ndim != 1 or timestamps.dtype.kind not in "iuf":
        raise ArgumentError(f"timestamps: expected numbers [n], got {timestamps.dtype} {list(timestamps.shape)}")
    if timestamps.dtype.kind != "f":
        return _frozen(timestamps, np.int64)
    if not np.isfinite(timestamps).all():
        raise ArgumentError(f"timestamps: expected finite numbers, got {timestamps[~np.isfinite(timestamps)][0]}")
    return _frozen(timestamps, np.float64)


def _checked_weights(weights: NDArray[Any]) -> NDArray[np.float32]:
    if weights.ndim != 1 or weights.dtype.kind not in "iuf":
        raise ArgumentError(f"weights: expected numbers [n], got {weights.dtype} {list(weights.shape)}")
    with np.errstate(over="ignore"):
        narrow = weights.astype(np.float32)
    wrong = ~(np.isfinite(narrow) & (narrow > 0))
    if wrong.any():
        raise ArgumentError(f"weights: expected finite numbers above 0, got {weights[wrong][0]}")
    return _frozen(weights, np.float32)


def _frozen(array: NDArray[Any], dtype: type[np.int64] | type[np.float64] | type[np.float32]) -> NDArray[Any]:
    if array.dtype == dtype and not array.flags.writeable and array.flags.owndata:
        return array  # a frozen copy already
    copy = array.astype(dtype)
    copy.flags.writeable = False
    return copy

"""The `Recommender`: recommendations and scores in external ids."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike, fspath
from typing import Any, Literal, NamedTuple, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import Ids, Scorer, open_model
from neuralcf.errors import ArgumentError, ModelFormatError, UnknownItemError, UnknownUserError

__all__ = ["Recommendations", "Recommender"]

_IdArray: TypeAlias = NDArray[np.int64] | NDArray[np.object_]
_ManyIds: TypeAlias = Sequence[int] | Sequence[str] | NDArray[Any]
_OneOrManyIds: TypeAlias = SupportsIndex | str | _ManyIds


class Recommendations(NamedTuple):
    """The best `k` items of each of `B` users; for a single user the arrays have one dimension less."""

    ids: _IdArray
    """`[B, k]`: item ids, best first; int64 padded with -1, or an object array of str padded with None."""
    scores: NDArray[np.float32]
    """float32 `[B, k]`: probabilities or logits; padded with negative infinity."""
    counts: NDArray[np.int64]
    """int64 `[B]`: number of items in each row; the rest is padding."""
    known: NDArray[np.bool_]
    """bool `[B]`: whether the user is in the model."""


class Recommender:
    """A model with external ids, int64 or str. Ids are never coerced: "7" is not 7.

    Immutable, so threads can share one. Needs NumPy alone. Pickled as path and digest; unpickling opens the files at
    that path, which must not have changed.
    """

    def __init__(self, scorer: Scorer, user_ids: Ids, item_ids: Ids) -> None:
        self._scorer = scorer
        self._user_ids = user_ids
        self._item_ids = item_ids
        self._has_seen = scorer.nbytes["seen"] > 0

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        threads: int | None = None,
        isa: str | None = None,
        max_bytes: SupportsIndex | None = None,
    ) -> "Recommender":
        """Open a model directory that was saved with ids.

        Args:
            path: the model directory.
            threads: as for `Scorer.load`.
            isa: as for `Scorer.load`.
            max_bytes: as for `Scorer.load`.

        Raises:
            ArgumentError: the model was saved without ids.
            ModelFormatError: the files are not a valid model.
            OSError: the files cannot be read; FileNotFoundError if there are none.
        """
        scorer, user_ids, item_ids = open_model(path, threads=threads, isa=isa, max_bytes=max_bytes)
        if user_ids is None or item_ids is None:
            raise ArgumentError(
                f"{fspath(path)}: the model was saved without ids; save it with ids=(user ids, item ids), "
                "or use neuralcf.Scorer with dense indices"
            )
        return cls(scorer, user_ids, item_ids)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as path and digest, like `Scorer`."""
        _, arguments = self._scorer.__reduce__()
        return _reopen, arguments

    def __copy__(self) -> "Recommender":
        """Return itself, because it is immutable."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Recommender":
        """Return itself, because it is immutable."""
        return self

    @property
    def scorer(self) -> Scorer:
        """The scorer of the same model, which works with dense indices."""
        return self._scorer

    @property
    def user_ids(self) -> Ids:
        """The user ids: `find(ids)` returns dense indices, `take(indices)` returns ids, `len` the number of users."""
        return self._user_ids

    @property
    def item_ids(self) -> Ids:
        """The item ids, with the same methods as `user_ids`."""
        return self._item_ids

    @property
    def num_users(self) -> int:
        """Number of users in the model."""
        return self._scorer.num_users

    @property
    def num_items(self) -> int:
        """Number of items in the model."""
        return self._scorer.num_items

    def __repr__(self) -> str:
        return f"<Recommender: {self._scorer.kind}, {self.num_users} users, {self.num_items} items>"

    def recommend(
        self,
        users: _OneOrManyIds,
        k: SupportsIndex = 10,
        *,
        exclude_seen: bool = True,
        allow: _ManyIds | None = None,
        deny: _ManyIds | None = None,
        on_unknown: Literal["raise", "skip"] = "raise",
        logits: bool = False,
        threads: int | None = None,
    ) -> Recommendations:
        """Find the best items of each user.

        Args:
            users: `[B]` user ids, or one id; for one id the result has one dimension less.
            k: number of items per user, at least 1.
            exclude_seen: leave out the interactions stored with the model.
            allow: ids of the only items to return.
            deny: ids of items never to return.
            on_unknown: "raise", or "skip" to return an empty row for an unknown user, marked in `known`, and to ignore
                unknown items in `allow` and `deny`.
            logits: return logits instead of probabilities.
            threads: number of threads for this call.

        Raises:
            UnknownUserError, UnknownItemError: ids that are not in the model, under `on_unknown="raise"`.
            ArgumentError: `k` below 1; `exclude_seen` for a model without stored interactions.
            TypeError: ids whose type is not that of the model's ids.
        """
        if on_unknown not in ("raise", "skip"):
            raise ArgumentError(f'on_unknown: expected "raise" or "skip", got {on_unknown!r}')
        if exclude_seen and not self._has_seen:
            raise ArgumentError(
                "exclude_seen: the model was saved without interactions; save it with seen=..., "
                "or pass exclude_seen=False to also recommend items that users have already seen"
            )
        single = _is_one(users)
        given: Any = [_one(users)] if single else _as_ids(users)
        user_indices = _find(self._user_ids, given, "users")
        known = user_indices >= 0
        if on_unknown == "raise" and not known.all():
            raise UnknownUserError(*_unknown("users", given, known))

        items, scores = self._scorer.top_k(
            user_indices[known],
            k,
            exclude="seen" if exclude_seen else None,
            allow=self._filter(allow, "allow", on_unknown),
            deny=self._filter(deny, "deny", on_unknown),
            logits=logits,
            threads=threads,
        )
        result = self._in_external_ids(known, items, scores)
        return Recommendations(*(part[0] for part in result)) if single else result

    def score_batch(
        self,
        users: _OneOrManyIds,
        items: _ManyIds,
        *,
        logits: bool = False,
        threads: int | None = None,
    ) -> NDArray[np.float32]:
        """Score pairs.

        Args:
            users: `[B]` user ids, or one id for all items.
            items: `[B]` item ids.
            logits: return logits instead of probabilities.
            threads: number of threads for this call.

        Returns:
            float32 `[B]`.

        Raises:
            UnknownUserError, UnknownItemError: ids that are not in the model.
            ArgumentError: lengths that differ.
            TypeError: ids whose type is not that of the model's ids.
        """
        single = _is_one(users)
        given: Any = [_one(users)] if single else _as_ids(users)
        user_indices = _find(self._user_ids, given, "users")
        if not (known := user_indices >= 0).all():
            raise UnknownUserError(*_unknown("users", given, known))
        items = _as_ids(items)
        item_indices = _find(self._item_ids, items, "items")
        if not (known := item_indices >= 0).all():
            raise UnknownItemError(*_unknown("items", items, known))
        return self._scorer.score_batch(
            int(user_indices[0]) if single else user_indices, item_indices, logits=logits, threads=threads
        )

    def _filter(self, ids: _ManyIds | None, what: str, on_unknown: str) -> NDArray[np.int64] | None:
        """Return the indices of allowed or denied items."""
        if ids is None:
            return None
        ids = _as_ids(ids)
        indices = _find(self._item_ids, ids, what)
        known = indices >= 0
        if on_unknown == "raise" and not known.all():
            raise UnknownItemError(*_unknown(what, ids, known))
        return indices[known]

    def _in_external_ids(
        self, known: NDArray[np.bool_], items: NDArray[np.int64], scores: NDArray[np.float32]
    ) -> Recommendations:
        """Map item indices to ids, and insert an empty row for each unknown user."""
        rows, k = len(known), items.shape[1]
        indices = np.full((rows, k), -1, np.int64)
        indices[known] = items
        all_scores = np.full((rows, k), -np.inf, np.float32)
        all_scores[known] = scores
        real = indices >= 0
        strings = self._item_ids.kind == "str"
        ids: _IdArray = np.full((rows, k), None, object) if strings else np.full((rows, k), -1, np.int64)
        ids[real] = self._item_ids.take(indices[real])
        return Recommendations(ids, all_scores, real.sum(axis=1), known)


def _is_one(users: object) -> bool:
    return isinstance(users, (str, int, np.integer, np.bool_)) or (isinstance(users, np.ndarray) and users.ndim == 0)


def _one(user: Any) -> Any:
    return user.item() if isinstance(user, np.ndarray) else user


def _as_ids(ids: Any) -> Any:
    """Return ids in a form that both kinds of models take: a list, a tuple or an array that is not of objects.

    Arrow arrays, views of dictionaries, sets, iterators and arrays of Python objects become lists, and so does anything
    empty, whatever its type.
    """
    if isinstance(ids, np.ndarray):
        return ids.tolist() if ids.dtype == object or (ids.ndim == 1 and ids.size == 0) else ids
    if isinstance(ids, list | tuple | range) or hasattr(ids, "__array__"):
        return ids.to_pylist() if hasattr(ids, "to_pylist") else ids
    if isinstance(ids, Iterable) and not isinstance(ids, str | bytes | Mapping):
        return list(ids)
    return ids


def _find(table: Ids, ids: Any, what: str) -> NDArray[np.int64]:
    """Return the indices of ids, -1 for unknown ones; raise TypeError for ids of another type."""
    if ids is None:
        raise TypeError(f"{what}: this model's ids are {table.kind}: expected some, got None")
    try:
        return table.find(ids)
    except TypeError as error:
        raise TypeError(f"{what}: this model's ids are {table.kind}: {error}") from None


def _unknown(what: str, ids: Any, known: NDArray[np.bool_]) -> tuple[str, list[Any]]:
    """Return an error message and the unknown ids."""
    given = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    unknown = list(dict.fromkeys(given[at] for at in np.flatnonzero(~known)))
    shown = ", ".join(repr(id_) for id_ in unknown[:5])
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    return f"{what}: not in the model: {shown}{more}", unknown


def _reopen(path: str, digest: str, threads: int | None, isa: str | None) -> Recommender:
    scorer, user_ids, item_ids = open_model(path, threads=threads, isa=isa, digest=digest)
    if user_ids is None or item_ids is None:
        raise ModelFormatError(f"{path}: expected the ids of a pickled Recommender, got a model without ids")
    return Recommender(scorer, user_ids, item_ids)

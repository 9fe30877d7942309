"""The `Recommender`: recommendations and scores in external ids."""

from os import PathLike, fspath
from threading import Lock
from typing import Any, NamedTuple, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import Ids, ItemSet, Scorer, open_model
from neuralcf.errors import ArgumentError, ModelFormatError
from neuralcf.results import TopK, UserVectors
from neuralcf.serving.generations import Generation
from neuralcf.serving.ids import (
    DenseRows,
    Histories,
    ManyIds,
    OneOrManyIds,
    OnUnknown,
    Rows,
    as_ids,
    check_on_unknown,
    dense,
    dense_rows,
    external,
    is_one,
    joined_rows,
    one,
    take_rows,
)
from neuralcf.serving.recommendations import Recommendations

__all__ = ["Recommendations", "Recommender"]


_ItemFilter: TypeAlias = ItemSet | NDArray[np.int64] | None


class _Listing(NamedTuple):
    """What the lists of a call have in common."""

    k: SupportsIndex
    allow: _ItemFilter
    deny: _ItemFilter
    least: float | None
    """The least score to return."""
    logits: bool
    threads: int | None

    def best(self, scorer: Scorer, users: Any, exclude: Rows | str | None) -> TopK:
        return scorer.top_k(
            users,
            self.k,
            exclude=exclude,
            allow=self.allow,
            deny=self.deny,
            logits=self.logits,
            threads=self.threads,
        )


class Recommender:
    """A model with external ids, int64 or str. Ids are never coerced: "7" is not 7.

    Threads can share one. What can change, such as named sets of items, changes as a whole: a call answers from one
    generation, whose number it returns. Needs NumPy alone. Pickled as path and digest; unpickling opens the files at
    that path, which must not have changed, without what was set at run time.
    """

    def __init__(self, scorer: Scorer, user_ids: Ids, item_ids: Ids, *, popular: bool = True) -> None:
        self._current = Generation.first(scorer, user_ids, item_ids, popular=popular)
        self._changing = Lock()

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        threads: int | None = None,
        isa: str | None = None,
        max_bytes: SupportsIndex | None = None,
        popular: bool = True,
    ) -> "Recommender":
        """Open a model directory that was saved with ids.

        Args:
            path: the model directory.
            threads: as for `Scorer.load`.
            isa: as for `Scorer.load`.
            max_bytes: as for `Scorer.load`.
            popular: count how many users have each item, for `on_unknown="popular"`; some 80 bytes for each item.

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
        return cls(scorer, user_ids, item_ids, popular=popular)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as path and digest, like `Scorer`."""
        model = self._current
        _, arguments = model.scorer.__reduce__()
        return _reopen, (*arguments, model.popularity is not None)

    def __copy__(self) -> "Recommender":
        """Return itself: all references share what is set at run time."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Recommender":
        """Return itself: all references share what is set at run time."""
        return self

    @property
    def scorer(self) -> Scorer:
        """The scorer of the same model, which works with dense indices."""
        return self._current.scorer

    @property
    def user_ids(self) -> Ids:
        """The user ids: `find(ids)` returns dense indices, `take(indices)` returns ids, `len` the number of users."""
        return self._current.user_ids

    @property
    def item_ids(self) -> Ids:
        """The item ids, with the same methods as `user_ids`."""
        return self._current.item_ids

    @property
    def num_users(self) -> int:
        """Number of users in the model."""
        return self._current.scorer.num_users

    @property
    def num_items(self) -> int:
        """Number of items in the model."""
        return self._current.scorer.num_items

    @property
    def generation(self) -> int:
        """The number of the current generation: 1 after loading, and 1 more with every change."""
        return self._current.number

    def __repr__(self) -> str:
        model = self._current.scorer
        return f"<Recommender: {model.kind}, {model.num_users} users, {model.num_items} items>"

    def recommend(
        self,
        users: OneOrManyIds,
        k: SupportsIndex = 10,
        *,
        exclude_seen: bool = True,
        exclude: Histories | None = None,
        allow: str | ManyIds | None = None,
        deny: str | ManyIds | None = None,
        min_score: float | None = None,
        on_unknown: OnUnknown = "raise",
        logits: bool = False,
        threads: int | None = None,
    ) -> Recommendations:
        """Find the best items of each user.

        Args:
            users: `[B]` user ids, or one id; for one id the result has one dimension less.
            k: number of items per user, at least 1.
            exclude_seen: leave out the interactions stored with the model.
            exclude: ids of items that a user must not get, a list for each user; for one user a list of ids.
            allow: the only items to return: a list of ids, or a str, an expression of named sets such as
                `"in_stock & shoes - adult"`; see `set_items`. A single str is never an id.
            deny: items never to return, as for `allow`.
            min_score: return only items that score at least this: a probability, or a logit with `logits`.
            on_unknown: "raise"; "skip" to return an empty row for an unknown user, marked in `known`, and to ignore
                unknown items in filters; or "popular" to return the items that most users have to an unknown user,
                scored by the share of the users who have them, and otherwise as "skip".
            logits: return logits instead of probabilities.
            threads: number of threads for this call.

        Raises:
            UnknownUserError, UnknownItemError: ids that are not in the model, under `on_unknown="raise"`.
            ArgumentError: `k` below 1; `exclude_seen` or "popular" for a model without stored interactions; an
                expression that is none, or names a set that does not exist; `exclude` for another number of users.
            TypeError: ids whose type is not that of the model's ids.
        """
        model = self._current
        raising = _raises(model, on_unknown)
        if exclude_seen and model.scorer.nbytes["seen"] == 0:
            raise ArgumentError(
                "exclude_seen: the model was saved without interactions; save it with seen=..., "
                "or pass exclude_seen=False to also recommend items that users have already seen"
            )
        single = is_one(users)
        indices = dense(model.user_ids, [one(users)] if single else as_ids(users), "users", raising=raising)
        known = indices >= 0
        listing = _Listing(k, *_items(model, allow, deny, raising=raising), _least(min_score), logits, threads)
        rows = None if exclude is None else _excluded(model, exclude, len(indices), raising=raising)

        users, given = indices[known], None if rows is None else take_rows(rows, known)
        if exclude_seen and given is not None:
            given = joined_rows(model.scorer.seen_items(users), given)
        best = listing.best(model.scorer, users, "seen" if exclude_seen and given is None else given)
        return _result(model, listing, best, known, known, on_unknown, rows, single=single)

    def recommend_for_history(
        self,
        items: Histories,
        k: SupportsIndex = 10,
        *,
        weights: Any = None,
        exclude_seen: bool = True,
        exclude: Histories | None = None,
        allow: str | ManyIds | None = None,
        deny: str | ManyIds | None = None,
        min_score: float | None = None,
        on_unknown: OnUnknown = "raise",
        logits: bool = False,
        threads: int | None = None,
    ) -> Recommendations:
        """Find the best items of users who are not in the model, by the items that they have.

        Args:
            items: a list of item ids, or `[B]` such lists, one for each user; for one list the result has one dimension
                less. The order of ids does not matter.
            k: number of items per user, at least 1.
            weights: how much each item counts, above 0, in the form of `items`; by default each counts once, however
                often it is repeated. Weights of a repeated item are summed.
            exclude_seen: leave out the items of the history.
            exclude: as for `recommend`.
            allow: as for `recommend`.
            deny: as for `recommend`.
            min_score: as for `recommend`.
            on_unknown: "raise"; "skip" to ignore unknown items; or "popular" to ignore them too, and to return popular
                items for a history without known ones. Otherwise such a history gets what the model recommends to a
                user of whom nothing is known. `known` marks it in either case.
            logits: return logits instead of probabilities.
            threads: number of threads for this call.

        Raises:
            UnknownItemError: ids that are not in the model, under `on_unknown="raise"`.
            ArgumentError, TypeError: as for `recommend`; weights that do not match the items.
        """
        model = self._current
        raising = _raises(model, on_unknown)
        histories = dense_rows(model.item_ids, items, "items", raising=raising)
        known = np.diff(histories.rows[0]) > 0
        listing = _Listing(k, *_items(model, allow, deny, raising=raising), _least(min_score), logits, threads)
        rows = histories.rows if exclude_seen else None
        if exclude is not None:
            given = _excluded(model, exclude, histories.users, raising=raising)
            rows = given if rows is None else joined_rows(rows, given)
        listed = known if on_unknown == "popular" else np.ones(known.size, np.bool_)
        # A history without known items has no weights either, so all of them belong to the rows that are listed.
        vectors = model.scorer.fold_in(
            take_rows(histories.rows, listed), weights=_weights(weights, histories), threads=threads
        )
        best = listing.best(model.scorer, vectors, None if rows is None else take_rows(rows, listed))
        return _result(model, listing, best, known, listed, on_unknown, rows, single=histories.single)

    def user_vectors_for(
        self,
        histories: Histories,
        *,
        weights: Any = None,
        on_unknown: OnUnknown = "raise",
        threads: int | None = None,
    ) -> UserVectors:
        """Compute the embeddings of users who are not in the model, by the items that they have.

        Args:
            histories: a list of item ids for each user, `[B]`; one list of ids is one user.
            weights: as for `recommend_for_history`.
            on_unknown: "raise", or "skip" to ignore unknown items. A history without items gives the vectors of a user
                of whom nothing is known.
            threads: number of threads for this call.

        Returns:
            `UserVectors` of `B` users, which the methods of `scorer` take in place of users.

        Raises:
            UnknownItemError, ArgumentError, TypeError: as for `recommend_for_history`.
        """
        model = self._current
        check_on_unknown(on_unknown, "raise", "skip")
        found = dense_rows(model.item_ids, histories, "histories", raising=on_unknown == "raise")
        return model.scorer.fold_in(found.rows, weights=_weights(weights, found), threads=threads)

    def score_batch(
        self,
        users: OneOrManyIds,
        items: ManyIds,
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
        model = self._current
        single = is_one(users)
        user_indices = dense(model.user_ids, [one(users)] if single else as_ids(users), "users", raising=True)
        item_indices = dense(model.item_ids, as_ids(items), "items", raising=True)
        return model.scorer.score_batch(
            int(user_indices[0]) if single else user_indices, item_indices, logits=logits, threads=threads
        )

    def set_items(self, name: str, items: ManyIds, *, on_unknown: OnUnknown = "raise") -> None:
        """Give a set of items a name, for `allow` and `deny`; a set that has the name is replaced.

        Calls that have begun answer with the old set.

        Args:
            name: letters, digits, `_`, `.` and `:`.
            items: ids of the items.
            on_unknown: "raise", or "skip" to ignore unknown items.

        Raises:
            UnknownItemError: ids that are not in the model, under `on_unknown="raise"`.
            ArgumentError: a name with other characters.
            TypeError: ids whose type is not that of the model's ids.
        """
        check_on_unknown(on_unknown, "raise", "skip")
        with self._changing:
            model = self._current
            indices = _indices(model, items, "items", raising=on_unknown == "raise")
            self._current = model.with_sets(model.sets.with_set(name, ItemSet(model.scorer.num_items, indices)))

    def change_items(
        self, name: str, *, add: ManyIds = (), remove: ManyIds = (), on_unknown: OnUnknown = "raise"
    ) -> None:
        """Add items to a named set, and take others out, in one step.

        Args:
            name: the name of a set.
            add: ids of items to add; those in the set stay.
            remove: ids of items to take out, also of those in `add`; those not in the set are no error.
            on_unknown: as for `set_items`.

        Raises:
            ArgumentError: no set has this name.
            UnknownItemError, TypeError: as for `set_items`.
        """
        check_on_unknown(on_unknown, "raise", "skip")
        with self._changing:
            model = self._current
            raising = on_unknown == "raise"
            added, removed = (
                _indices(model, ids, what, raising=raising) for ids, what in ((add, "add"), (remove, "remove"))
            )
            changed = _named(model, name).changed(added, removed)
            self._current = model.with_sets(model.sets.with_set(name, changed))

    def drop_items(self, name: str) -> None:
        """Forget a named set; calls that name it then fail.

        Raises:
            ArgumentError: no set has this name.
        """
        with self._changing:
            model = self._current
            _named(model, name)
            sets = model.sets.without(name)
            assert sets is not None
            self._current = model.with_sets(sets)

    @property
    def item_sets(self) -> dict[str, int]:
        """The named sets, with the number of items in each."""
        sets = self._current.sets
        return {name: len(found) for name in sets.names if (found := sets.get(name)) is not None}


def _named(model: Generation, name: str) -> ItemSet:
    found = model.sets.get(name)
    if found is None:
        raise ArgumentError(f"name: no set is named {name!r}; known: {', '.join(model.sets.names) or 'none'}")
    return found


def _indices(model: Generation, ids: Any, what: str, *, raising: bool) -> NDArray[np.int64]:
    """Return the indices of the items that the model knows."""
    found = dense(model.item_ids, as_ids(ids), what, raising=raising)
    return found[found >= 0]


def _raises(model: Generation, on_unknown: OnUnknown) -> bool:
    """Check `on_unknown`; return whether unknown ids raise."""
    check_on_unknown(on_unknown, "raise", "skip", "popular")
    if on_unknown == "popular" and model.popularity is None:
        raise ArgumentError(
            'on_unknown: "popular" needs stored interactions and load(popular=True), and this model lacks one of them'
        )
    return on_unknown == "raise"


def _items(model: Generation, allow: Any, deny: Any, *, raising: bool) -> tuple[_ItemFilter, _ItemFilter]:
    """Return the allowed and the denied items."""

    def filter_of(given: Any, what: str) -> _ItemFilter:
        if given is None or isinstance(given, str):
            return None if given is None else model.sets.evaluate(given, what=what)
        return _indices(model, given, what, raising=raising)

    return filter_of(allow, "allow"), filter_of(deny, "deny")


def _excluded(model: Generation, exclude: Any, users: int, *, raising: bool) -> Rows:
    found = dense_rows(model.item_ids, exclude, "exclude", raising=raising)
    if found.users != users:
        got = "one list of ids" if found.single else str(found.users)
        raise ArgumentError(f"exclude: expected a list of ids for each of {users} users, got {got}")
    return found.rows


def _weights(weights: Any, histories: DenseRows) -> NDArray[np.float64] | None:
    """Return the weights of the histories' items."""
    if weights is None:
        return None
    weights = as_ids(weights)
    try:
        if len(weights) and hasattr(weights[0], "__len__"):
            weights = np.concatenate([np.asarray(row, np.float64) for row in weights])
        values = np.asarray(weights, np.float64)
    except (TypeError, ValueError):
        raise TypeError("weights: expected numbers, in the form of the items") from None
    if values.shape != (histories.given,):
        raise ArgumentError(f"weights: expected one for each of {histories.given} items, got {values.size}")
    return values[histories.positions]


def _least(min_score: Any) -> float | None:
    if min_score is None:
        return None
    if isinstance(min_score, bool) or not isinstance(min_score, int | float | np.number):
        raise TypeError(f"min_score: expected a number, got {type(min_score).__name__}")
    if np.isnan(min_score):
        raise ArgumentError("min_score: expected a number, got nan")
    return float(min_score)


def _result(
    model: Generation,
    listing: _Listing,
    best: TopK,
    known: NDArray[np.bool_],
    listed: NDArray[np.bool_],
    on_unknown: OnUnknown,
    exclude: Rows | None,
    *,
    single: bool,
) -> Recommendations:
    """Return the lists of the users that `listed` marks, and empty or popular ones for the others."""
    found, scores = best
    if not listed.all():
        shape = (len(listed), found.shape[1])
        found, scores = np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)
        found[listed], scores[listed] = best
        if on_unknown == "popular" and model.popularity is not None:
            others = ~listed
            users = np.zeros(int(others.sum()), np.int64)
            rows = None if exclude is None else take_rows(exclude, others)
            found[others], scores[others] = listing.best(model.popularity, users, rows)
    if listing.least is not None:
        below = scores.astype(np.float64) < listing.least
        found[below], scores[below] = -1, -np.inf
    ids = external(model.item_ids, found)
    result = Recommendations(ids, scores, (found >= 0).sum(axis=1), known, model.number)
    return result[0] if single else result


def _reopen(path: str, digest: str, threads: int | None, isa: str | None, popular: bool) -> Recommender:
    scorer, user_ids, item_ids = open_model(path, threads=threads, isa=isa, digest=digest)
    if user_ids is None or item_ids is None:
        raise ModelFormatError(f"{path}: expected the ids of a pickled Recommender, got a model without ids")
    return Recommender(scorer, user_ids, item_ids, popular=popular)

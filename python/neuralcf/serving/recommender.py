"""The `Recommender`: recommendations and scores in external ids."""

from collections.abc import Callable, Iterator, Mapping
from os import PathLike, fspath
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import Groups, Ids, ItemSet, Scorer, open_model
from neuralcf.attributes import FeatureMap
from neuralcf.errors import ArgumentError
from neuralcf.results import ItemVectors, UserVectors
from neuralcf.serving.explanation import Explanation, leave_one_out
from neuralcf.serving.generations import Generation
from neuralcf.serving.hub import model_directory, push
from neuralcf.serving.ids import (
    Histories,
    Id,
    ManyIds,
    OneOrManyIds,
    OnUnknown,
    Rows,
    as_ids,
    check_on_unknown,
    dense,
    dense_rows,
    external,
    id_array,
    is_one,
    joined_rows,
    one,
    take_rows,
)
from neuralcf.serving.listing import (
    Listing,
    Search,
    check_lists,
    excluded_rows,
    filter_of,
    indices_of,
    raises,
    weights_of,
)
from neuralcf.serving.new_items import item_vectors
from neuralcf.serving.recommendations import Recommendations
from neuralcf.serving.watcher import Watcher

__all__ = ["Recommendations", "Recommender"]


class Recommender:
    """A model with external ids, int64 or str. Ids are never coerced: "7" is not 7.

    Threads can share one. What can change, such as named sets of items, changes as a whole: a call answers from one
    generation, whose number it returns. Needs NumPy alone. Pickled as path and digest; unpickling opens the files at
    that path, which must not have changed, without the named sets and groups. One whose items have been changed cannot
    be pickled: the files do not have the changes.
    """

    def __init__(
        self,
        scorer: Scorer,
        user_ids: Ids,
        item_ids: Ids,
        item_features: FeatureMap | None = None,
        *,
        popular: bool = True,
    ) -> None:
        self._current = Generation.first(scorer, user_ids, item_ids, item_features, popular=popular)
        self._changing = Lock()
        self._reloading = Lock()
        self._max_bytes: SupportsIndex | None = None

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
        recommender = cls(*_open(path, threads, isa, max_bytes), popular=popular)
        recommender._max_bytes = max_bytes
        return recommender

    @classmethod
    def from_pretrained(
        cls, name: str | PathLike[str], *, revision: str | None = None, **options: Any
    ) -> "Recommender":
        """Open a model directory, or a model of a hub, which is downloaded once and then taken from the cache.

        The files are what config.json says, by their digests. Needs huggingface_hub, which also reads the address of
        the hub, the token and the place of the cache from its environment variables (`HF_ENDPOINT`, `HF_TOKEN`,
        `HF_HOME`); `HF_HUB_OFFLINE=1` uses the cache alone.

        Args:
            name: a directory, or the name of a repository such as `"user/model"`.
            revision: a branch, tag or commit of the repository; by default its main branch.
            **options: as for `load`.

        Raises:
            ArgumentError, ModelFormatError: as for `load`; a directory with a `revision`.
            ImportError: huggingface_hub is not installed.
            OSError: as for `load`; the model cannot be downloaded; FileNotFoundError for a name that can be none.
        """
        return cls.load(model_directory(name, revision), **options)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        private: bool | None = None,
        seen: bool = False,
        message: str | None = None,
    ) -> str:
        """Upload the directory that the model was loaded from to a hub, in one commit, with its model card.

        Args:
            repo_id: the repository, such as `"user/model"`, which is made if there is none.
            revision: the branch, which is made if there is none; by default the main branch.
            private: whether a new repository is private; by default as the owner has set.
            seen: also upload each user's interactions, which `exclude_seen=True` needs. External user ids are in the
                model in any case.
            message: the message of the commit.

        Returns:
            The id of the commit, a `revision` for `from_pretrained`.

        Raises:
            ArgumentError: the model was not loaded from a directory, or its items were changed since.
            ModelFormatError: the directory no longer holds the model that was loaded.
            ImportError: huggingface_hub is not installed.
            OSError: the model cannot be uploaded, as huggingface_hub reports it.
        """
        model = self._current
        if model.scorer is not model.loaded:
            raise ArgumentError("push_to_hub: items were changed since the model was loaded; its files lack these")
        _, (origin, digest, threads, isa, _) = _origin(model.loaded, None)
        open_model(origin, digest=digest, threads=threads, isa=isa)
        return push(Path(origin), repo_id, revision=revision, private=private, seen=seen, message=message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as path and digest, like `Scorer`."""
        model = self._current
        if model.scorer is not model.loaded:
            raise TypeError(
                "a Recommender whose items were changed cannot be pickled, because its files do not have the changes"
            )
        _, arguments = model.loaded.__reduce__()
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
        """Number of items in the model, without those that have been removed."""
        return len(self._current.item_ids)

    @property
    def generation(self) -> int:
        """The number of the current generation: 1 after loading, and 1 more with every change."""
        return self._current.number

    @staticmethod
    def _check_seen(model: Generation, exclude_seen: bool) -> None:
        if exclude_seen and model.scorer.nbytes["seen"] == 0:
            raise ArgumentError(
                "exclude_seen: the model was saved without interactions; save it with seen=..., "
                "or pass exclude_seen=False to also recommend items that users have already seen"
            )

    def __repr__(self) -> str:
        model = self._current.scorer
        return f"<Recommender: {model.kind}, {model.num_users} users, {self.num_items} items>"

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
        max_per_group: Mapping[str, int] | None = None,
        after: Any = None,
        on_unknown: OnUnknown = "raise",
        logits: bool = False,
        search: Search = "exact",
        recall: float | None = None,
        probes: SupportsIndex | None = None,
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
            max_per_group: at most so many items of a group in a list, by the name of the groups, as in `{"brand": 2}`;
                see `set_groups`. The list is what walking down the whole ranking gives.
            after: the end of a page, `(score, id)`, as `Recommendations.end` gives it; one for each user, None for a
                user who begins at the top. The list is the next page: pages are the parts of one long list, as long as
                they tell the same `generation`. If the item no longer scores this, all items that score less follow.
            on_unknown: "raise"; "skip" to return an empty row for an unknown user, marked in `known`, and to ignore
                unknown items in filters; or "popular" to return the items that most users have to an unknown user,
                scored by the share of the users who have them, and otherwise as "skip".
            logits: return logits instead of probabilities.
            search: "exact", or "approximate": faster in a large catalogue, by the index that the model was saved with
                (`Scorer.build_index`, `neuralcf index`). It may miss items; those it returns have their exact scores,
                and no filter leaks.
            recall: of an approximate search: the share of the exact list that it finds, in the mean over users; 0.99 by
                default, at most 0.999.
            probes: in place of `recall`: how many lists of the index to visit.
            threads: number of threads for this call.

        Raises:
            UnknownUserError, UnknownItemError: ids that are not in the model, under `on_unknown="raise"`.
            ArgumentError: `k` below 1; `exclude_seen` or "popular" for a model without stored interactions; an
                expression that is none, or names a set that does not exist; `exclude` for another number of users;
                "approximate" for a model without an index, or with `max_per_group` or `after`.
            ModelFormatError: "approximate", and the index of the model is damaged, or is that of another model.
            TypeError: ids whose type is not that of the model's ids.
        """
        model = self._current
        raising = raises(model, on_unknown)
        self._check_seen(model, exclude_seen)
        single = is_one(users)
        given = [one(users)] if single else as_ids(users)
        indices = dense(model.user_ids, given, "users", raising=raising)
        known = indices >= 0
        listing = Listing.of(
            model,
            len(indices),
            k,
            allow=allow,
            deny=deny,
            min_score=min_score,
            max_per_group=max_per_group,
            after=after,
            raising=raising,
            logits=logits,
            threads=threads,
            search=search,
            recall=recall,
            probes=probes,
        )
        rows = None if exclude is None else excluded_rows(model, exclude, len(indices), raising=raising)
        found = indices if raising else indices[known]
        return listing.result(
            listing.best(found, _seen_and(model, found, exclude_seen, rows, known), known),
            known,
            known,
            popular=on_unknown == "popular",
            exclude=rows,
            users=id_array(model.user_ids, given),
            single=single,
        )

    def recommend_all(
        self, k: SupportsIndex = 10, *, batch_size: int = 4096, **options: Any
    ) -> Iterator[Recommendations]:
        """Recommend to all users of the model, in constant memory: yields the lists of `batch_size` users at a time.

        All lists are of one generation, the current one when the first is asked for.

        Args:
            k: number of items per user, at least 1.
            batch_size: users at a time, at least 1.
            **options: as for `recommend`, but lists for each user, `exclude` and `after`.

        Raises:
            ArgumentError, TypeError, UnknownItemError: as for `recommend`.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ArgumentError(f"batch_size: expected an integer of at least 1, got {batch_size!r}")
        if {"exclude", "after"} & options.keys():
            raise TypeError("recommend_all: takes the options of recommend but exclude and after")
        frozen = self.snapshot()
        for start in range(0, frozen.num_users, batch_size):
            users = frozen.user_ids.take(range(start, min(frozen.num_users, start + batch_size)))
            yield frozen.recommend(users, k, **options)

    def snapshot(self) -> "Recommender":
        """Return a recommender that stays at the current generation, whatever happens to this one; copies nothing."""
        return self._frozen(self._current)

    def _frozen(self, generation: Generation) -> "Recommender":
        frozen = object.__new__(Recommender)
        frozen._current, frozen._max_bytes = generation, self._max_bytes
        frozen._changing, frozen._reloading = Lock(), Lock()
        return frozen

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
        max_per_group: Mapping[str, int] | None = None,
        after: Any = None,
        on_unknown: OnUnknown = "raise",
        logits: bool = False,
        search: Search = "exact",
        recall: float | None = None,
        probes: SupportsIndex | None = None,
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
            max_per_group: as for `recommend`.
            after: as for `recommend`.
            on_unknown: "raise"; "skip" to ignore unknown items; or "popular" to ignore them too, and to return popular
                items for a history without known ones. Otherwise such a history gets what the model recommends to a
                user of whom nothing is known. `known` marks it in either case.
            logits: return logits instead of probabilities.
            search: as for `recommend`.
            recall: as for `recommend`.
            probes: as for `recommend`.
            threads: number of threads for this call.

        Raises:
            UnknownItemError: ids that are not in the model, under `on_unknown="raise"`.
            ArgumentError, TypeError, ModelFormatError: as for `recommend`; ArgumentError also for weights that do not
                match the items.
        """
        model = self._current
        raising = raises(model, on_unknown)
        histories = dense_rows(model.item_ids, items, "items", raising=raising)
        known = np.diff(histories.rows[0]) > 0
        listing = Listing.of(
            model,
            histories.users,
            k,
            allow=allow,
            deny=deny,
            min_score=min_score,
            max_per_group=max_per_group,
            after=after,
            raising=raising,
            logits=logits,
            threads=threads,
            search=search,
            recall=recall,
            probes=probes,
        )
        rows = histories.rows if exclude_seen else None
        if exclude is not None:
            given = excluded_rows(model, exclude, histories.users, raising=raising)
            rows = given if rows is None else joined_rows(rows, given)
        listed = known if on_unknown == "popular" else np.ones(known.size, np.bool_)
        # A history without known items has no weights either, so all of them belong to the rows that are listed.
        vectors = model.scorer.fold_in(
            take_rows(histories.rows, listed), weights=weights_of(weights, histories), threads=threads
        )
        return listing.result(
            listing.best(vectors, None if rows is None else take_rows(rows, listed), listed),
            known,
            listed,
            popular=on_unknown == "popular",
            exclude=rows,
            users=None,
            single=histories.single,
        )

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
        return model.scorer.fold_in(found.rows, weights=weights_of(weights, found), threads=threads)

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

    def rank_of(
        self,
        users: OneOrManyIds,
        items: ManyIds,
        *,
        exclude_seen: bool = True,
        allow: str | ManyIds | None = None,
        deny: str | ManyIds | None = None,
        threads: int | None = None,
    ) -> NDArray[np.int64]:
        """Count, for each pair, the other unfiltered items that score at least as high: 0 for the best item.

        Args:
            users: `[B]` user ids, or one id for all items.
            items: `[B]` item ids; an item that is itself filtered is still ranked.
            exclude_seen: as for `recommend`.
            allow: as for `recommend`.
            deny: as for `recommend`.
            threads: number of threads for this call.

        Returns:
            int64 `[B]`.

        Raises:
            UnknownUserError, UnknownItemError, ArgumentError, TypeError: as for `score_batch` and `recommend`.
        """
        model = self._current
        self._check_seen(model, exclude_seen)
        single = is_one(users)
        user_indices = dense(model.user_ids, [one(users)] if single else as_ids(users), "users", raising=True)
        item_indices = dense(model.item_ids, as_ids(items), "items", raising=True)
        return model.scorer.rank_of(
            np.repeat(user_indices, len(item_indices)) if single else user_indices,
            item_indices,
            exclude="seen" if exclude_seen else None,
            allow=filter_of(model, allow, "allow", raising=True),
            deny=filter_of(model, deny, "deny", raising=True),
            threads=threads,
        )

    def similar_items(
        self,
        items: OneOrManyIds,
        k: SupportsIndex = 10,
        *,
        allow: str | ManyIds | None = None,
        deny: str | ManyIds | None = None,
        min_score: float | None = None,
        max_per_group: Mapping[str, int] | None = None,
        after: Any = None,
        on_unknown: OnUnknown = "raise",
        threads: int | None = None,
    ) -> Recommendations:
        """Find the items that are most alike: that the model scores high for the same users.

        The score is the cosine of the items' double-centred logits for 128 users of the model, from -1 to 1; see
        `neuralcf.serving.similarity`. The first call computes them for all items.

        Args:
            items: `[B]` item ids, or one id; for one id the result has one dimension less. An item is not in its own
                list.
            k: number of similar items, at least 1.
            allow: as for `recommend`.
            deny: as for `recommend`.
            min_score: return only items whose cosine is at least this.
            max_per_group: as for `recommend`.
            after: as for `recommend`.
            on_unknown: "raise", or "skip" to return an empty row for an unknown item, marked in `known`, and to ignore
                unknown items in filters.
            threads: number of threads for this call.

        Raises:
            UnknownItemError, ArgumentError, TypeError: as for `recommend`.
        """
        model = self._current
        check_on_unknown(on_unknown, "raise", "skip")
        raising = on_unknown == "raise"
        single = is_one(items)
        given = [one(items)] if single else as_ids(items)
        indices = dense(model.item_ids, given, "items", raising=raising)
        known = indices >= 0
        listing = Listing.of(
            model,
            len(indices),
            k,
            allow=allow,
            deny=deny,
            min_score=min_score,
            max_per_group=max_per_group,
            after=after,
            raising=raising,
            logits=True,
            threads=threads,
        )
        own = np.arange(int(known.sum()) + 1), indices[known]
        best = listing.best(model.similarity.vectors(indices[known]), own, known, model.similarity.items())
        return listing.result(
            best, known, known, popular=False, exclude=None, users=id_array(model.item_ids, given), single=single
        )

    def similar_users(
        self, users: OneOrManyIds, k: SupportsIndex = 10, *, threads: int | None = None
    ) -> Recommendations:
        """Find the users who are most alike: for whom the model scores the same items high.

        The score is the cosine of the users' double-centred logits for 128 items of the model, from -1 to 1; see
        `neuralcf.serving.similarity`. The first call computes them for all users.

        Args:
            users: `[B]` user ids, or one id; for one id the result has one dimension less. A user is not in the own
                list.
            k: number of similar users, at least 1.
            threads: number of threads for this call.

        Returns:
            `Recommendations` whose `ids` are ids of users.

        Raises:
            UnknownUserError, ArgumentError, TypeError: as for `recommend`.
        """
        model = self._current
        single = is_one(users)
        given = [one(users)] if single else as_ids(users)
        indices = dense(model.user_ids, given, "users", raising=True)
        check_lists(len(indices), k)
        own = np.arange(len(indices) + 1), indices
        found, scores = model.similarity.users().top_k(indices, k, exclude=own, logits=True, threads=threads)
        result = Recommendations(
            external(model.user_ids, found),
            scores,
            (found >= 0).sum(axis=1),
            indices >= 0,
            model.number,
            id_array(model.user_ids, given),
        )
        return result[0] if single else result

    def explain(self, user: Id, item: Id, *, reasons: int = 5, threads: int | None = None) -> Explanation:
        """Tell why an item has its score for a user.

        Args:
            user: a user id.
            item: an item id.
            reasons: how many items of the user to name that speak most for it, those whose absence lowers the logit
                most; 0 for none. They come from the stored interactions, by leaving each out of the user's history and
                folding in the rest (`Scorer.fold_in`); the time grows with the number of the user's items.
            threads: number of threads for this call.

        Raises:
            UnknownUserError, UnknownItemError, TypeError: as for `score_batch`.
            ArgumentError: a negative number of reasons.
        """
        model = self._current
        if isinstance(reasons, bool) or not isinstance(reasons, int) or reasons < 0:
            raise ArgumentError(f"reasons: expected an integer of at least 0, got {reasons!r}")
        user_index, item_index = (
            int(dense(table, [one(id_)], what, raising=True)[0])
            for table, id_, what in ((model.user_ids, user, "user"), (model.item_ids, item, "item"))
        )
        scorer = model.scorer
        bias, gmf, mlp = scorer.explain([user_index], [item_index])
        logit, probability = (
            float(scorer.score_batch([user_index], [item_index], logits=logits)[0]) for logits in (True, False)
        )
        named: list[tuple[Id, float]] = []
        if reasons and scorer.nbytes["seen"] > 0:
            history = scorer.seen_items([user_index])[1]
            history = history[history != item_index]
            falls = leave_one_out(scorer, history, item_index, threads)
            best = np.argsort(-falls, kind="stable")[:reasons]
            ids = external(model.item_ids, history[best]).tolist()
            named = [(id_, fall) for id_, fall in zip(ids, falls[best].tolist(), strict=True) if fall > 0]
        return Explanation(one(user), one(item), logit, probability, bias, gmf[0], mlp[0], named, model.number)

    def set_groups(self, name: str, items: ManyIds, groups: Any, *, on_unknown: OnUnknown = "raise") -> None:
        """Give each item a group, such as its brand or author, for `max_per_group`.

        Groups that have the name are replaced. An item that is not named has no group: a list may hold any number of
        such items.

        Args:
            name: the name of the groups, such as `"brand"`.
            items: `[n]` item ids.
            groups: the group of each, `[n]` values that can be keys of a dictionary; None for no group.
            on_unknown: "raise", or "skip" to ignore unknown items.

        Raises:
            ArgumentError: lengths that differ.
            UnknownItemError, TypeError: as for `set_items`; TypeError also for groups that cannot be keys.
        """
        check_on_unknown(on_unknown, "raise", "skip")
        if not isinstance(name, str):
            raise TypeError(f"name: expected a str, got {type(name).__name__}")
        labels = groups.tolist() if isinstance(groups, np.ndarray) else list(as_ids(groups))
        with self._changing:
            model = self._current
            found = dense(model.item_ids, as_ids(items), "items", raising=on_unknown == "raise")
            if len(labels) != len(found):
                raise ArgumentError(f"groups: expected one for each of {len(found)} items, got {len(labels)}")
            number_of: dict[Any, int] = {None: -1}
            numbers = np.array([number_of.setdefault(label, len(number_of) - 1) for label in labels], np.int64)
            of_item = np.full(model.scorer.num_items, -1, np.int64)
            of_item[found[found >= 0]] = numbers[found >= 0]
            self._current = model.next(groups=MappingProxyType({**model.groups, name: Groups(of_item)}))

    def drop_groups(self, name: str) -> None:
        """Forget groups; calls that name them then fail.

        Raises:
            ArgumentError: no groups have this name.
        """
        with self._changing:
            model = self._current
            if name not in model.groups:
                known = ", ".join(sorted(model.groups)) or "none"
                raise ArgumentError(f"name: no groups are named {name!r}; known: {known}")
            groups = {other: named for other, named in model.groups.items() if other != name}
            self._current = model.next(groups=MappingProxyType(groups))

    @property
    def item_groups(self) -> dict[str, int]:
        """The named groups, with the number of items that have a group."""
        return {name: int((named.numbers() >= 0).sum()) for name, named in sorted(self._current.groups.items())}

    def reload(
        self,
        path: str | PathLike[str] | None = None,
        *,
        prepare: Callable[["Recommender"], object] | None = None,
    ) -> bool:
        """Exchange the model for the one that a directory holds now; no call fails or waits meanwhile.

        The new model is loaded and checked beside the old one, which stays if anything is wrong. Calls that have begun
        finish on the old one. Named sets and groups are carried over by id: an item that only the new model has is in
        none of them, so a set that `deny` names should be set again if there are such items. What `add_items`,
        `update_items` and `remove_items` have changed ends: the items are those of the new directory.

        Args:
            path: the model directory; by default the one that the model was loaded from.
            prepare: called with the new model before it is exchanged, to check it or to set its named sets and groups;
                those that it sets are not carried over. What it raises refuses the model.

        Returns:
            Whether the model was exchanged; False if the directory holds the model that is in use, and its index.

        Raises:
            ArgumentError: the model was saved without ids, or with ids of another type; no path, and the model was not
                loaded from one.
            ModelFormatError, OSError, MemoryError: as for `load`.
            Exception: what `prepare` raises.
        """
        with self._reloading:
            old = self._current
            _, (origin, digest, threads, isa, index_digest) = _origin(old.loaded, path)
            opened = _open(origin if path is None else path, threads, isa, self._max_bytes)
            _, (_, found, _, _, found_index) = _origin(opened[0], None)
            if (found, found_index) == (digest, index_digest):
                return False
            fresh = Generation.first(*opened, popular=old.popularity is not None or old.scorer.nbytes["seen"] == 0)
            for what in ("user_ids", "item_ids"):
                before, now = getattr(old, what).kind, getattr(fresh, what).kind
                if before != now:
                    raise ArgumentError(f"{what}: expected {before}, as in the model in use, got {now}")
            fresh.scorer.top_k(0, 1)  # a first call, before anybody depends on it
            fresh.similarity.compute_like(old.similarity)
            if prepare is not None:
                prepared = self._frozen(fresh)
                prepare(prepared)
                fresh = prepared._current
            with self._changing:
                self._current = fresh.after(self._current)
            return True

    def watch(
        self,
        path: str | PathLike[str] | None = None,
        *,
        every: float = 1.0,
        on_reload: Callable[[int], object] | None = None,
        on_error: Callable[[Exception], object] | None = None,
    ) -> Watcher:
        """Reload the model whenever its directory changes, on a thread of its own, until the result is stopped.

        Forked processes have no such thread: each calls `watch` itself.

        Args:
            path: the model directory; by default the one that the model was loaded from.
            every: seconds between two looks at the directory.
            on_reload: called with the new generation after each exchange.
            on_error: called with the exception if a new directory is refused; by default it is logged under
                `neuralcf`. The old model stays, and the directory is tried again when it changes again.

        Returns:
            A `Watcher`, with a method `stop`; it is a context manager too.

        Raises:
            ArgumentError: no path, and the model was not loaded from one; `every` is not above 0.
        """
        folder = fspath(_origin(self._current.loaded, path)[1][0] if path is None else path)

        def exchange() -> int | None:
            return self.generation if self.reload(folder) else None

        return Watcher(folder, exchange, every, on_reload, on_error)

    def add_items(self, ids: ManyIds, *, vectors: ItemVectors | None = None, attributes: Any = None) -> int:
        """Add items while others read: calls that have begun answer without them, all later ones with all of them.

        New items are in no named set and no group, no user has them, and similar items are found among them too. An
        item that was removed is the one that it was: users who had it still have it.

        Args:
            ids: `[n]` ids that are not in the model.
            vectors: their embeddings, of `n` items.
            attributes: in place of vectors, for a model that was trained with features of items: a dictionary of the
                columns of the training, or a table of pandas, polars or Arrow. A value is text or a number, as in the
                file of the training; several are a list or joined by `|`; None is missing, and so is a column that is
                not given. An unknown value says nothing.

        Returns:
            The number of the generation that has them.

        Raises:
            ArgumentError: an id that is in the model already or given twice; vectors that do not fit the model;
                attributes for a model without features, of a column that it does not know, of another number of items,
                or no number in a column of numbers.
            TypeError: ids whose type is not that of the model's ids, or that are not a list; vectors that are not
                `ItemVectors`; both vectors and attributes, or neither.
        """
        with self._changing:
            model = self._current
            given = _many(ids)
            found = dense(model.item_ids, given, "ids", raising=False)
            _check_once(given)
            if (found >= 0).any():
                known = list(given)[int(np.flatnonzero(found >= 0)[0])]
                raise ArgumentError(f"ids: in the model already: {known!r}; update_items changes it")
            vectors = item_vectors(vectors, attributes, model.item_features, len(found))
            self._current = model.with_new_items(given, vectors) if len(found) else model
            return self._current.number

    def update_items(self, ids: ManyIds, *, vectors: ItemVectors | None = None, attributes: Any = None) -> int:
        """Give items other vectors while others read: calls that have begun answer with the old ones.

        All later calls answer as a model that was saved with these vectors would, bit for bit. How a history becomes
        the vectors of a new user stays as it is if the model has history.safetensors.

        Args:
            ids: `[n]` item ids.
            vectors: their embeddings, of `n` items.
            attributes: as for `add_items`; the vectors are then those of the attributes alone.

        Returns:
            The number of the generation that has them.

        Raises:
            UnknownItemError: ids that are not in the model.
            ArgumentError: an id that is given twice; vectors or attributes as for `add_items`.
            TypeError: as for `add_items`.
        """
        with self._changing:
            model = self._current
            given = _many(ids)
            found = dense(model.item_ids, given, "ids", raising=True)
            _check_once(given)
            vectors = item_vectors(vectors, attributes, model.item_features, len(found))
            self._current = model.with_items(found, vectors) if len(found) else model
            return self._current.number

    def remove_items(self, ids: ManyIds, *, on_unknown: OnUnknown = "raise") -> int:
        """Remove items while others read. Calls that have begun may return them, no later one does, whatever it asks.

        Their ids are unknown from then on, as if they had never been in the model, until they are added again.

        Args:
            ids: `[n]` item ids.
            on_unknown: "raise", or "skip" to ignore unknown items.

        Returns:
            The number of the generation that lacks them.

        Raises:
            UnknownItemError: ids that are not in the model, under `on_unknown="raise"`.
            ArgumentError: an id that is given twice.
            TypeError: ids whose type is not that of the model's ids, or that are not a list.
        """
        check_on_unknown(on_unknown, "raise", "skip")
        with self._changing:
            model = self._current
            given = _many(ids)
            found = dense(model.item_ids, given, "ids", raising=on_unknown == "raise")
            _check_once(given)
            found = found[found >= 0]
            self._current = model.without_items(found) if len(found) else model
            return self._current.number

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
            indices = indices_of(model, items, "items", raising=on_unknown == "raise")
            self._current = model.next(sets=model.sets.with_set(name, ItemSet(model.scorer.num_items, indices)))

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
                indices_of(model, ids, what, raising=raising) for ids, what in ((add, "add"), (remove, "remove"))
            )
            changed = _named(model, name).changed(added, removed)
            self._current = model.next(sets=model.sets.with_set(name, changed))

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
            self._current = model.next(sets=sets)

    @property
    def item_sets(self) -> dict[str, int]:
        """The named sets, with the number of items in each."""
        sets = self._current.sets
        return {name: len(found) for name in sets.names if (found := sets.get(name)) is not None}


def _many(ids: Any) -> Any:
    """Return ids as a list or an array."""
    if is_one(ids):
        raise TypeError(f"ids: expected a list of ids, got {type(ids).__name__}")
    return as_ids(ids)


def _check_once(ids: Any) -> None:
    """Raise ArgumentError if an id is given twice."""
    seen = set()
    for id_ in ids.tolist() if isinstance(ids, np.ndarray) else ids:
        if id_ in seen:
            raise ArgumentError(f"ids: expected each once, got {id_!r} twice")
        seen.add(id_)


def _named(model: Generation, name: str) -> ItemSet:
    found = model.sets.get(name)
    if found is None:
        raise ArgumentError(f"name: no set is named {name!r}; known: {', '.join(model.sets.names) or 'none'}")
    return found


def _seen_and(
    model: Generation,
    users: NDArray[np.int64],
    exclude_seen: bool,
    rows: Rows | None,
    known: NDArray[np.bool_],
) -> Rows | str | None:
    """Return what the known users must not get: what they have seen, the rows of a call, or both."""
    if rows is None:
        return "seen" if exclude_seen else None
    rows = take_rows(rows, known)
    return joined_rows(model.scorer.seen_items(users), rows) if exclude_seen else rows


def _origin(scorer: Scorer, path: object) -> tuple[Any, tuple[Any, ...]]:
    """Return how the scorer was loaded: what its pickle holds."""
    try:
        reopen, arguments = scorer.__reduce__()
    except TypeError:
        if path is None:
            raise ArgumentError("path: expected one, because the model was not loaded from a directory") from None
        return None, (None, None, scorer.threads, scorer.isa, None)
    return reopen, arguments


def _open(
    path: str | PathLike[str],
    threads: int | None,
    isa: str | None,
    max_bytes: SupportsIndex | None,
    digest: str | None = None,
    index_digest: str | None = None,
) -> tuple[Scorer, Ids, Ids, FeatureMap | None]:
    while True:
        scorer, user_ids, item_ids = open_model(
            path, threads=threads, isa=isa, max_bytes=max_bytes, digest=digest, index_digest=index_digest
        )
        if user_ids is None or item_ids is None:
            raise ArgumentError(
                f"{fspath(path)}: the model was saved without ids; save it with ids=(user ids, item ids), "
                "or use neuralcf.Scorer with dense indices"
            )
        features, model_id = FeatureMap.read(path, "item")
        if features is None or model_id == scorer.metadata["model_id"]:
            return scorer, user_ids, item_ids, features  # else another one was published meanwhile


def _reopen(
    path: str, digest: str, threads: int | None, isa: str | None, index_digest: str | None, popular: bool
) -> Recommender:
    return Recommender(*_open(path, threads, isa, None, digest, index_digest), popular=popular)

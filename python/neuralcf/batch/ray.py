"""Lists for the rows of a Ray Dataset, by actors that hold the model, or a shard of its catalogue each.

A row depends on its user and filters alone, so that the result has the same bits however the rows are cut into blocks,
and what Ray repeats after a failure gives them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuralcf.batch.shards import ShardList, check_known, list_in_shard, merge, shard_paths
from neuralcf.batch.worker import Opening, list_columns, users_and_lists
from neuralcf.errors import ArgumentError, argument
from neuralcf.serving.ids import ManyIds
from neuralcf.serving.listing import Search
from neuralcf.serving.recommender import Recommender

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset

__all__ = ["recommend"]


def recommend(
    dataset: Dataset,
    model: str | PathLike[str],
    *,
    user: str = "user",
    k: int = 10,
    exclude_seen: bool = True,
    exclude: str | None = None,
    allow: str | ManyIds | None = None,
    deny: str | ManyIds | None = None,
    sets: Mapping[str, ManyIds] | None = None,
    logits: bool = False,
    search: Search = "exact",
    recall: float | None = None,
    probes: int | None = None,
    threads: int = 1,
    actors: int | tuple[int, int] = (1, 64),
    batch_size: int = 4096,
) -> Dataset:
    """Recommend items to the user of each row.

    Args:
        dataset: one row for each user, with a column of user ids and any others.
        model: a model directory with ids, or a folder of shards that `neuralcf.batch.shards.split` wrote, at this path
            on the driver and on every node. Each shard gets an actor of its own, wherever Ray finds room.
        user: the column of user ids, of the type of the model's ids. A user who is not in the model, or null, keeps
            the row, with no items and `known` false.
        k: items for each user, at least 1.
        exclude_seen: leave out the interactions stored with the model.
        exclude: a column of lists of item ids that the row's user must not get; null for none. Unknown ids are ignored.
        allow: the only items to return: a list of ids, or an expression of the names in `sets`.
        deny: items never to return, likewise.
        sets: named sets of item ids, for expressions such as `"in_stock - adult"`.
        logits: return logits instead of probabilities.
        search: "exact", or "approximate" for a model that was saved with an index, each shard
            with its own; as for `Recommender.recommend`.
        recall: as for `Recommender.recommend`.
        probes: as for `Recommender.recommend`.
        threads: threads of each actor, and the CPUs that it asks Ray for.
        actors: how many actors hold the model, or the least and the most of them. With shards, how many actors merge
            lists.
        batch_size: users scored at a time.

    Returns:
        A dataset, computed when it is read: the user column; `items`, lists of ids, best first; `scores`, lists of
        float32; `known`, boolean. Rows are in the order of `dataset` if Ray preserves it.

    Raises:
        ArgumentError: `exclude_seen` for a model without interactions, `k` below 1 or an invalid expression. Reading
            the result raises it, wrapped by Ray, for a column that is missing or has another type.
        UnknownItemError: ids in `allow`, `deny` or `sets` that are not in the model.
        ImportError: ray is not installed.
        ModelFormatError, OSError: the model cannot be opened. An actor whose model is another than the driver's raises
            ModelFormatError too.
    """
    try:
        from ray.data import ActorPoolStrategy
    except ImportError as error:
        raise ImportError("neuralcf.batch.ray needs ray: pip install 'neuralcf[ray]'") from error
    filters: dict[str, Any] = {"k": k, "allow": allow, "deny": deny, "exclude_seen": exclude_seen}
    filters |= {"search": search, "recall": recall, "probes": probes}
    columns = [user] if exclude is None else [user, exclude]
    sharded = not (Path(model) / "model.safetensors").is_file() and any(Path(model).glob("shard-*"))
    source: _WholeModel | _Shards
    if sharded:
        source = _Shards.start(model, threads, sets or {}, filters, logits)
    else:
        source = _WholeModel.check(model, threads, sets or {}, {**filters, "logits": logits})
    least, most = (actors, actors) if isinstance(actors, int) else actors
    return dataset.select_columns(columns).map_batches(
        _Lister,
        fn_constructor_args=(source, columns),
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=ActorPoolStrategy(min_size=least, max_size=most),
        num_cpus=0 if sharded else threads,  # shards compute on actors of their own
    )


class _WholeModel:
    """The whole model, which each actor opens."""

    def __init__(self, opening: Opening, filters: Mapping[str, Any]) -> None:
        self.opening, self.filters = opening, filters

    @classmethod
    def check(
        cls, model: str | PathLike[str], threads: int, sets: Mapping[str, ManyIds], filters: Mapping[str, Any]
    ) -> _WholeModel:
        """Open the model and try the filters, so that bad ones fail on the driver."""
        recommender = Recommender.load(model, threads=threads)
        opening = Opening.of(recommender, threads, sets, filters["search"])
        opening.name_sets(recommender)
        recommender.recommend([], threads=threads, **filters)
        return cls(opening, filters)

    def kinds(self) -> tuple[str, str]:
        recommender = self.opening.open()
        return recommender.user_ids.kind, recommender.item_ids.kind

    def lists(self, users: Any, exclude: list[Any] | None) -> Any:
        recommender = self.opening.open()
        return recommender.recommend(
            users, on_unknown="skip", exclude=exclude, threads=self.opening.threads, **self.filters
        )


class _Shard:
    """An actor with one shard of the catalogue."""

    def __init__(self, path: str, threads: int, sets: Mapping[str, ManyIds], filters: Mapping[str, Any]) -> None:
        self.recommender = Recommender.load(path, threads=threads)
        self.filters = {**filters, "threads": threads}
        for name, items in sets.items():
            self.recommender.set_items(name, items, on_unknown="skip")

    def check(self) -> tuple[str, str]:
        """Try the filters, and return the kinds of ids."""
        self.lists([], None)
        return self.recommender.user_ids.kind, self.recommender.item_ids.kind

    def find(self, items: ManyIds) -> Any:
        return self.recommender.item_ids.find(items)

    def lists(self, users: Any, exclude: list[Any] | None) -> ShardList:
        return list_in_shard(self.recommender, users, exclude=exclude, **self.filters)


class _Shards:
    """The actors of all shards, in the order of their items; Ray ends them when nothing refers to them any more."""

    def __init__(self, shards: list[Any], kinds: tuple[str, str], logits: bool) -> None:
        self.shards, self._kinds, self.logits = shards, kinds, logits

    @classmethod
    def start(
        cls,
        folder: str | PathLike[str],
        threads: int,
        sets: Mapping[str, ManyIds],
        filters: Mapping[str, Any],
        logits: bool,
    ) -> _Shards:
        """Start an actor for each shard, which Ray restarts if it dies, and try the filters on all of them."""
        import ray

        actor = ray.remote(num_cpus=threads, max_restarts=-1, max_task_retries=-1)(_Shard)
        paths = [str(path.resolve()) for path in shard_paths(folder)]
        shards = [actor.remote(path, threads, dict(sets), dict(filters)) for path in paths]
        given = {**sets, **{name: filters[name] for name in ("allow", "deny")}}
        try:
            for name, items in given.items():
                if items is not None and not isinstance(items, str):
                    check_known(name, items, ray.get([shard.find.remote(items) for shard in shards]))
            return cls(shards, ray.get([shard.check.remote() for shard in shards])[0], logits)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None

    def kinds(self) -> tuple[str, str]:
        return self._kinds

    def lists(self, users: Any, exclude: list[Any] | None) -> Any:
        import ray

        waiting = [shard.lists.remote(users, exclude) for shard in self.shards]
        return merge(ray.get(waiting), logits=self.logits)


class _Lister:
    """What each actor of Ray Data does with a batch."""

    def __init__(self, source: _WholeModel | _Shards, columns: list[str]) -> None:
        self.source, self.columns = source, columns
        self.kinds = source.kinds()

    def __call__(self, table: pa.Table) -> pa.Table:
        import pyarrow as pa

        users, *lists = (self._column(table, *named) for named in zip(self.columns, self.kinds, strict=False))
        present, ids, exclude = users_and_lists(users, lists[0] if lists else None)
        return pa.table({self.columns[0]: users, **list_columns(self.source.lists(ids, exclude), present)})

    def _column(self, table: pa.Table, name: str, kind: str) -> pa.Array:
        import pyarrow as pa

        column = table.column(name).combine_chunks()
        array = name != self.columns[0]
        inner = getattr(column.type, "value_type", None) if array else column.type
        is_kind = pa.types.is_integer if kind == "int64" else _is_text
        if inner is None or not (is_kind(inner) or pa.types.is_null(inner)):
            what = f"{'lists of ' if array else ''}{'integers' if kind == 'int64' else 'strings'}"
            raise ArgumentError(
                f"{argument('exclude' if array else 'user')}: {name}: expected {what}, as the model's ids, "
                f"got {column.type}"
            )
        return column


def _is_text(type_: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))

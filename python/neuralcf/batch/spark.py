"""Lists and scores for the rows of a Spark DataFrame, through `mapInArrow`.

Every Python worker of Spark opens the model once and keeps it for its later tasks. A row depends on its user and
filters alone, so that the result has the same bits however the rows are partitioned, and a task that Spark repeats
after a failure gives them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np

from neuralcf._core import open_model
from neuralcf.errors import ArgumentError, argument
from neuralcf.serving.ids import ManyIds
from neuralcf.serving.recommender import Recommender

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

__all__ = ["recommend", "score"]

_INTEGERS = ("byte", "short", "integer", "long")


def recommend(
    df: DataFrame,
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
    shipped: bool = False,
    threads: int = 1,
) -> DataFrame:
    """Recommend items to the user of each row.

    Args:
        df: one row for each user, with a column of user ids and any others.
        model: a model directory with ids, at this path on the driver and on every node.
        user: the column of user ids, of the type of the model's ids. A user who is not in the model, or null, keeps
            the row, with no items and `known` false.
        k: items for each user, at least 1.
        exclude_seen: leave out the interactions stored with the model.
        exclude: a column of lists of item ids that the row's user must not get; null for none. Unknown ids are ignored.
        allow: the only items to return: a list of ids, or an expression of the names in `sets`.
        deny: items never to return, likewise.
        sets: named sets of item ids, for expressions such as `"in_stock - adult"`.
        logits: return logits instead of probabilities.
        shipped: workers open what `sparkContext.addFile(model, recursive=True)` has sent them, in place of the path.
        threads: threads of each Python worker; Spark runs one worker for each core.

    Returns:
        The user column; `items`, an array of ids, best first; `scores`, an array of float; `known`, boolean.

    Raises:
        ArgumentError: a column that is missing or has another type; `exclude_seen` for a model without interactions.
        UnknownItemError: ids in `allow`, `deny` or `sets` that are not in the model.
        ImportError: pyspark is not installed.
        ModelFormatError, OSError: the model cannot be opened on the driver. On a worker Spark reports it, also if the
            model there is another than the driver's.
    """
    types = _types()
    recommender = Recommender.load(model, threads=threads)
    filters: dict[str, Any] = {"allow": allow, "deny": deny, "exclude_seen": exclude_seen, "k": k, "logits": logits}
    opening = _Opening.of(recommender, model, shipped, threads, sets or {})
    _check_column(df, user, "user", recommender.user_ids.kind)
    columns = [user]
    if exclude is not None:
        _check_column(df, exclude, "exclude", recommender.item_ids.kind, array=True)
        columns.append(exclude)
    opening.name_sets(recommender)
    recommender.recommend([], threads=threads, **filters)  # bad filters fail here, not on a worker

    item = types.StringType() if recommender.item_ids.kind == "str" else types.LongType()
    fields = [
        df.select(user).schema[0],
        types.StructField("items", types.ArrayType(item, False), False),
        types.StructField("scores", types.ArrayType(types.FloatType(), False), False),
        types.StructField("known", types.BooleanType(), False),
    ]
    return _mapped(df.select(*columns), _Recommend(opening, filters), types.StructType(fields))


def score(
    df: DataFrame,
    model: str | PathLike[str],
    *,
    user: str = "user",
    item: str = "item",
    output: str = "score",
    logits: bool = False,
    shipped: bool = False,
    threads: int = 1,
) -> DataFrame:
    """Score the user and item of each row.

    Args:
        df: rows with a column of user ids, one of item ids, and any others.
        model: as for `recommend`.
        user: the column of user ids.
        item: the column of item ids.
        output: the name of the column of scores.
        logits: return logits instead of probabilities.
        shipped: as for `recommend`.
        threads: as for `recommend`.

    Returns:
        All columns of `df`, and the scores as float; null where the user or item is null or not in the model.

    Raises:
        ArgumentError: a column that is missing or has another type, or `output` if there is such a column.
        ImportError, ModelFormatError, OSError: as for `recommend`.
    """
    types = _types()
    recommender = Recommender.load(model, threads=threads)
    _check_column(df, user, "user", recommender.user_ids.kind)
    _check_column(df, item, "item", recommender.item_ids.kind)
    if output in df.columns:
        raise ArgumentError(f"{argument('output')}: expected a new column, got {output!r}")
    opening = _Opening.of(recommender, model, shipped, threads, {})
    schema = types.StructType([*df.schema.fields, types.StructField(output, types.FloatType(), True)])
    places = df.columns.index(user), df.columns.index(item)
    return _mapped(df, _Score(opening, places, output, logits), schema)


def _types() -> Any:
    try:
        from pyspark.sql import types
    except ImportError as error:
        raise ImportError("neuralcf.batch.spark needs pyspark: pip install 'neuralcf[spark]'") from error
    return types


def _mapped(
    df: DataFrame, run: Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]], schema: Any
) -> DataFrame:
    return df.mapInArrow(run, schema)


def _check_column(df: DataFrame, column: str, name: str, kind: str, *, array: bool = False) -> None:
    if column not in df.columns:
        raise ArgumentError(f"{argument(name)}: expected one of the columns {', '.join(df.columns)}, got {column!r}")
    dtype = df.schema[column].dataType
    inner = getattr(dtype, "elementType", None) if array else dtype
    fits = inner is not None and inner.typeName() in (("string",) if kind == "str" else _INTEGERS)
    if not fits:
        expected = f"{'arrays of ' if array else ''}{'strings' if kind == 'str' else 'integers'}"
        raise ArgumentError(
            f"{argument(name)}: {column}: expected {expected}, as the model's ids, got {dtype.simpleString()}"
        )


# -------------------------------------------------------------------------------------------------- on a Python worker


@dataclass(frozen=True)
class _Opening:
    """What a worker needs to open the model of the driver, and no other."""

    path: str
    digest: str
    shipped: bool
    threads: int
    sets: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, recommender: Recommender, path: str | PathLike[str], shipped: bool, threads: int, sets: Mapping[str, Any]
    ) -> _Opening:
        _, arguments = recommender.scorer.__reduce__()
        return cls(fspath(path) if shipped else arguments[0], arguments[1], shipped, threads, sets)

    def name_sets(self, recommender: Recommender) -> None:
        for name, items in self.sets.items():
            recommender.set_items(name, items)

    def open(self) -> Recommender:
        """Open the model, or return the one that an earlier task on this worker has opened."""
        key = self.path, self.digest, self.shipped, self.threads, repr(sorted(self.sets.items()))
        if key not in _OPENED:
            path = self.path
            if self.shipped:
                from pathlib import Path

                from pyspark import SparkFiles

                path = SparkFiles.get(Path(path).name)
            scorer, user_ids, item_ids = open_model(path, digest=self.digest, threads=self.threads)
            assert user_ids is not None
            assert item_ids is not None
            recommender = Recommender(scorer, user_ids, item_ids)
            self.name_sets(recommender)
            _OPENED.clear()  # a worker serves one model at a time
            _OPENED[key] = recommender
        return _OPENED[key]


_OPENED: dict[tuple[Any, ...], Recommender] = {}


@dataclass(frozen=True)
class _Recommend:
    opening: _Opening
    filters: Mapping[str, Any]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        recommender = self.opening.open()
        strings = recommender.item_ids.kind == "str"
        for batch in batches:
            users = batch.column(0)
            present = ~_nulls(users)
            exclude = None
            if batch.num_columns == 2:
                lists = batch.column(1).to_pylist()
                exclude = [lists[at] or [] for at in np.flatnonzero(present)]
            found = recommender.recommend(
                _ids(users, present), on_unknown="skip", exclude=exclude, threads=self.opening.threads, **self.filters
            )
            counts = np.zeros(len(users), np.int64)
            counts[present] = found.counts
            known = np.zeros(len(users), bool)
            known[present] = found.known
            real = np.arange(found.ids.shape[1]) < found.counts[:, None]
            offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
            items = pa.array(
                found.ids[real].tolist() if strings else found.ids[real], pa.string() if strings else pa.int64()
            )
            columns = [
                users,
                pa.ListArray.from_arrays(offsets, items),
                pa.ListArray.from_arrays(offsets, pa.array(found.scores[real])),
                pa.array(known),
            ]
            yield pa.RecordBatch.from_arrays(columns, names=[batch.schema.names[0], "items", "scores", "known"])


@dataclass(frozen=True)
class _Score:
    opening: _Opening
    places: tuple[int, int]
    output: str
    logits: bool

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        recommender = self.opening.open()
        for batch in batches:
            users, items = (batch.column(place) for place in self.places)
            present = ~(_nulls(users) | _nulls(items))
            pairs = [
                ids.find(_ids(column, present))
                for ids, column in ((recommender.user_ids, users), (recommender.item_ids, items))
            ]
            known = (pairs[0] >= 0) & (pairs[1] >= 0)
            places = np.flatnonzero(present)[known]
            scores = np.zeros(batch.num_rows, np.float32)
            scores[places] = recommender.scorer.score_batch(
                pairs[0][known], pairs[1][known], logits=self.logits, threads=self.opening.threads
            )
            missing = np.ones(batch.num_rows, bool)
            missing[places] = False
            yield pa.RecordBatch.from_arrays(
                [*batch.columns, pa.array(scores, mask=missing)], names=[*batch.schema.names, self.output]
            )


def _nulls(column: Any) -> Any:
    return column.is_null().to_numpy(zero_copy_only=False)


def _ids(column: Any, present: Any) -> Any:
    """Return the ids that are not null: int64, or a list of str."""
    import pyarrow as pa

    kept = column.drop_null() if present.all() else column.filter(pa.array(present))
    return kept.to_pylist() if pa.types.is_string(kept.type) or pa.types.is_large_string(kept.type) else kept.to_numpy()

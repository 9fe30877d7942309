"""Lists and scores for the rows of a Spark DataFrame, through `mapInArrow`.

Every Python worker of Spark opens the model once and keeps it for its later tasks. A row depends on its user and
filters alone, so that the result has the same bits however the rows are partitioned, and a task that Spark repeats
after a failure gives them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuralcf.batch.worker import Opening, list_columns, scores_of, users_and_lists
from neuralcf.errors import ArgumentError, argument
from neuralcf.serving.ids import ManyIds
from neuralcf.serving.listing import Search
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
    search: Search = "exact",
    recall: float | None = None,
    probes: int | None = None,
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
        search: "exact", or "approximate" for a model that was saved with an index; as for `Recommender.recommend`.
        recall: as for `Recommender.recommend`.
        probes: as for `Recommender.recommend`.
        shipped: workers open what `sparkContext.addFile(model, recursive=True)` has sent them, in place of the path.
        threads: threads of each Python worker; Spark runs one worker for each core.

    Returns:
        The user column; `items`, an array of ids, best first; `scores`, an array of float; `known`, boolean.

    Raises:
        ArgumentError: a column that is missing or has another type; `exclude_seen` for a model without interactions,
            "approximate" for one without an index.
        UnknownItemError: ids in `allow`, `deny` or `sets` that are not in the model.
        ImportError: pyspark is not installed.
        ModelFormatError, OSError: the model cannot be opened on the driver. On a worker Spark reports it, also if the
            model there is another than the driver's.
    """
    types = _types()
    recommender = Recommender.load(model, threads=threads)
    filters: dict[str, Any] = {"allow": allow, "deny": deny, "exclude_seen": exclude_seen, "k": k, "logits": logits}
    filters |= {"search": search, "recall": recall, "probes": probes}
    opening = _opening(recommender, model, shipped, threads, sets or {}, search)
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
    opening = _opening(recommender, model, shipped, threads, {})
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
class _Shipped(Opening):
    """Opens what `SparkContext.addFile` has sent to the worker."""

    def place(self) -> str:
        from pyspark import SparkFiles

        return str(SparkFiles.get(Path(self.path).name))


def _opening(
    recommender: Recommender,
    path: str | PathLike[str],
    shipped: bool,
    threads: int,
    sets: Mapping[str, ManyIds],
    search: Search = "exact",
) -> Opening:
    opening = Opening.of(recommender, threads, sets, search)
    return _Shipped(fspath(path), opening.digest, threads, sets, opening.index_digest) if shipped else opening


@dataclass(frozen=True)
class _Recommend:
    opening: Opening
    filters: Mapping[str, Any]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        recommender = self.opening.open()
        for batch in batches:
            lists = batch.column(1) if batch.num_columns == 2 else None
            present, users, exclude = users_and_lists(batch.column(0), lists)
            found = recommender.recommend(
                users, on_unknown="skip", exclude=exclude, threads=self.opening.threads, **self.filters
            )
            columns = {batch.schema.names[0]: batch.column(0), **list_columns(found, present)}
            yield pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


@dataclass(frozen=True)
class _Score:
    opening: Opening
    places: tuple[int, int]
    output: str
    logits: bool

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        recommender = self.opening.open()
        for batch in batches:
            users, items = (batch.column(place) for place in self.places)
            scores = scores_of(recommender, users, items, logits=self.logits, threads=self.opening.threads)
            yield pa.RecordBatch.from_arrays([*batch.columns, scores], names=[*batch.schema.names, self.output])

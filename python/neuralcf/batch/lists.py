"""Lists for many users, written to a file: CSV, JSON lines or Parquet, by its ending.

    .csv, .parquet      a row for each recommended item: user, rank (from 1), item, score [, title]
    .jsonl, .ndjson     an object for each user: {"user": ..., "items": [{"item": ..., "score": ... [, "title"]}]}

Users are worked off in chunks, in constant memory. Each finished chunk is kept beside the target, so that the same call
after a kill goes on where it stopped. The target appears when it is whole, or not at all.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np

from neuralcf.errors import ArgumentError, argument
from neuralcf.files import staged, sync_published, write_atomically
from neuralcf.serving.recommender import Recommender

__all__ = ["ENDINGS", "ListsReport", "write_lists"]

ENDINGS: Final = (".csv", ".jsonl", ".ndjson", ".parquet")
_CHUNK: Final = 4096
"""Users scored at a time."""


@dataclass(frozen=True)
class ListsReport:
    """Account of the lists that were written."""

    users: int
    """Users with at least one item."""
    rows: int
    """Recommended items, over all users."""
    short: int
    """Users with fewer items left than asked for, those without any included."""


def write_lists(
    recommender: Recommender,
    path: str | PathLike[str],
    users: Sequence[int] | Sequence[str] | None = None,
    k: int = 10,
    *,
    exclude_seen: bool = True,
    search: Mapping[str, Any] | None = None,
    titles: Mapping[int | str, str] | None = None,
    model_id: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> ListsReport:
    """Recommend items to many users, and write the lists to a file.

    Args:
        recommender: the model.
        path: the file; its ending tells the format, one of ENDINGS.
        users: ids, each in the model; None for all users of the model.
        k: items for each user.
        exclude_seen: leave out the interactions stored with the model.
        search: the arguments `search`, `recall` and `probes` of `Recommender.recommend`; None for the exact search.
        titles: titles of items, for a column of them; None for none.
        model_id: what tells this model from another, before work of an earlier call is used.
        progress: called after each chunk with the number of users done and of all.

    Raises:
        ArgumentError: an ending that is none of ENDINGS.
        UnknownUserError: a user who is not in the model.
        ImportError: Parquet, and pyarrow is not installed.
        OSError: the file cannot be written; an earlier file stays intact.
    """
    target = Path(path)
    kind = target.suffix.lower()
    if kind not in ENDINGS:
        raise ArgumentError(
            f"{argument('out')}: expected a name that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}, got {path}"
        )
    if kind == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ModuleNotFoundError as error:
            raise ImportError(f"{path}: a Parquet file needs pyarrow: pip install 'neuralcf[data]'") from error
    ids = recommender.user_ids.take(np.arange(recommender.num_users)) if users is None else users
    how = dict(search or {})
    plan = _plan(
        ids, k, exclude_seen=exclude_seen, search=sorted(how.items()), titles=titles, model_id=model_id, kind=kind
    )
    folder = target.with_name(f".{target.name}.chunks")
    if not (folder / "plan").is_file() or (folder / "plan").read_text() != plan:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write_atomically(folder / "plan", plan.encode())
    counts = []
    for n, start in enumerate(range(0, len(ids), _CHUNK)):
        chunk, facts = folder / f"{n:08}", folder / f"{n:08}.json"
        if not facts.is_file():
            found = recommender.recommend(ids[start : start + _CHUNK], k, exclude_seen=exclude_seen, **how)
            lists = _Lists(ids[start : start + _CHUNK], found, titles)
            write_atomically(chunk, lists.content(kind, first=n == 0))
            numbers = found.counts
            account = [int((numbers > 0).sum()), int(numbers.sum()), int((numbers < k).sum())]
            write_atomically(facts, json.dumps(account).encode())
        counts.append(json.loads(facts.read_text()))
        if progress is not None:
            progress(min(start + _CHUNK, len(ids)), len(ids))
    chunks = [folder / f"{n:08}" for n in range(len(counts))]
    with staged(target) as part:
        (_join_parquet if kind == ".parquet" else _join_bytes)(chunks, part)
        part.replace(target)
    sync_published(target)
    shutil.rmtree(folder, ignore_errors=True)
    return ListsReport(*(sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0, 0))


def _plan(ids: Any, k: int, **rest: Any) -> str:
    """Describe what is to be written, so that only chunks of the same call are used."""
    digest = hashlib.sha256(repr((k, sorted((name, rest[name]) for name in rest if name != "titles"))).encode())
    digest.update(repr(sorted((rest["titles"] or {}).items(), key=str)).encode())
    for start in range(0, len(ids), _CHUNK):
        digest.update(repr(list(ids[start : start + _CHUNK])).encode())
    return digest.hexdigest()


class _Lists:
    """The lists of a chunk of users."""

    def __init__(self, users: Any, found: Any, titles: Mapping[int | str, str] | None) -> None:
        self.users = users.tolist() if isinstance(users, np.ndarray) else list(users)
        self.found, self.titles = found, titles

    def content(self, kind: str, *, first: bool) -> bytes:
        """Return the chunk as bytes of a format."""
        if kind == ".parquet":
            return self._parquet()
        text = io.StringIO(newline="")
        if kind == ".csv":
            writer = csv.writer(text, lineterminator="\n")
            if first:
                writer.writerow(["user", "rank", "item", "score", *(["title"] if self.titles is not None else [])])
            writer.writerows(self.rows())
        else:
            for user, items in self.by_user():
                text.write(json.dumps({"user": user, "items": items}, ensure_ascii=False) + "\n")
        return text.getvalue().encode()

    def by_user(self) -> Iterator[tuple[int | str, list[dict[str, Any]]]]:
        """Yield each user with their items, best first."""
        found = self.found
        for n, user in enumerate(self.users):
            count = int(found.counts[n])
            pairs = zip(found.ids[n, :count].tolist(), found.scores[n, :count].tolist(), strict=True)
            items: list[dict[str, Any]] = [{"item": item, "score": score} for item, score in pairs]
            if self.titles is not None:
                items = [{**each, "title": self.titles.get(each["item"])} for each in items]
            yield user, items

    def rows(self) -> Iterator[list[Any]]:
        """Yield a row for each recommended item."""
        for user, items in self.by_user():
            for rank, each in enumerate(items, start=1):
                yield [user, rank, *each.values()]

    def _parquet(self) -> bytes:
        import pyarrow as pa
        import pyarrow.parquet

        found, counts = self.found, self.found.counts
        real = np.arange(found.ids.shape[1]) < counts[:, None]
        users = np.repeat(np.arange(len(self.users)), counts)
        names = pa.array(self.users).take(pa.array(users))
        columns = {
            "user": names,
            "rank": pa.array((np.nonzero(real)[1] + 1).astype(np.int32)),
            "item": pa.array(found.ids[real].tolist(), pa.string() if found.ids.dtype == object else pa.int64()),
            "score": pa.array(found.scores[real]),
        }
        if self.titles is not None:
            columns["title"] = pa.array([self.titles.get(item) for item in found.ids[real].tolist()], pa.string())
        stream = pa.BufferOutputStream()
        pa.parquet.write_table(pa.table(columns), stream)
        return bytes(stream.getvalue())


def _join_bytes(chunks: Sequence[Path], target: Path) -> None:
    with target.open("wb") as file:
        for chunk in chunks:
            with chunk.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)


def _join_parquet(chunks: Sequence[Path], target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    with pa.parquet.ParquetWriter(target, pa.parquet.read_schema(chunks[0])) as writer:
        for chunk in chunks:
            writer.write_table(pa.parquet.read_table(chunk))

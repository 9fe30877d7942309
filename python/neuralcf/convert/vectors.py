"""Vectors with ids: arrays, and indexes of faiss, usearch and hnswlib whose metric is the inner product.

An index holds one side, as a rule the items; the other side comes from an array or an index likewise.
"""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuralcf.convert.converted import Converted, Ids, dot_product, library_ids
from neuralcf.convert.opening import is_path, needs, read_arrays
from neuralcf.errors import ArgumentError, ModelFormatError, argument
from neuralcf.format.checks import Interactions

__all__ = ["Store", "from_vectors"]

Store: TypeAlias = Literal["arrays", "faiss", "usearch", "hnswlib"]


class _Vectors(NamedTuple):
    rows: NDArray[np.float32]
    ids: NDArray[Any] | None


def from_vectors(
    source: str | PathLike[str] | Any,
    user_vectors: str | PathLike[str] | Any,
    *,
    metric: str | None = None,
    ids: Ids | None = None,
    seen: Interactions | None = None,
) -> Converted:
    """Convert vectors of users and of items, whose score is their inner product.

    Args:
        source: the items: an array `[I, d]`, an index of faiss or usearch, or a file: .npy, .npz (with `vectors` and
            optionally `ids`), .safetensors likewise, .usearch of usearch, .bin or .hnsw of hnswlib, any other of faiss.
        user_vectors: the users `[U, d]`, likewise.
        metric: "ip", for what does not say its metric: hnswlib's files.
        ids: the external ids in the order of the vectors, that is of the keys of an index; those of the source, or the
            numbers of the rows, if None.
        seen: the interactions known at training time.

    Raises:
        ArgumentError: another metric than the inner product, vectors that do not fit each other, or ids that are
            neither all integers that fit int64 nor all text, or that are there twice.
        ImportError: an index, and its library is not installed.
        OSError: a file cannot be read.
    """
    if metric not in (None, "ip"):
        raise ArgumentError(f'{argument("metric")}: expected "ip", the inner product, got {metric!r}')
    items = _read(source, "source", metric)
    users = _read(user_vectors, "user_vectors", metric)
    if ids is None and (users.ids is not None or items.ids is not None):
        user_ids, item_ids = (
            np.arange(len(side.rows)) if side.ids is None else library_ids(side.ids, f"{name}: ids")
            for name, side in ((_name_of(user_vectors, "user_vectors"), users), (_name_of(source, "source"), items))
        )
        ids = user_ids, item_ids
    return dot_product(
        "vectors", "inner product", ("user_vectors", users.rows), ("source", items.rows), ids=ids, seen=seen
    )


def _name_of(given: Any, name: str) -> str:
    return fspath(given) if is_path(given) else name


def _read(given: Any, name: str, metric: str | None) -> _Vectors:
    if not is_path(given):
        if hasattr(given, "metric_type"):
            return _from_faiss(given, name)
        if hasattr(given, "keys") and hasattr(given, "metric_kind"):
            return _from_usearch(given, name)
        return _Vectors(np.asarray(given), None)
    ending = Path(given).suffix
    if ending in (".npy", ".npz", ".safetensors"):
        return _from_arrays(given)
    if not Path(given).is_file():
        raise FileNotFoundError(2, "No such file or directory", fspath(given))
    if ending == ".usearch":
        try:
            from usearch.index import Index
        except ImportError as error:
            raise needs("usearch", f"{fspath(given)}: reading an index of usearch") from error
        index = Index.restore(fspath(given))
        if index is None:
            raise ModelFormatError(f"{fspath(given)}: not an index of usearch")
        return _from_usearch(index, fspath(given))
    if ending in (".bin", ".hnsw", ".hnswlib"):
        return _from_hnswlib(Path(given), metric)
    try:
        import faiss
    except ImportError as error:
        raise needs("faiss-cpu", f"{fspath(given)}: reading an index of faiss") from error
    try:
        return _from_faiss(faiss.read_index(fspath(given)), fspath(given))
    except RuntimeError as error:
        raise ModelFormatError(f"{fspath(given)}: not an index of faiss: {str(error).splitlines()[0]}") from error


def _from_arrays(path: str | PathLike[str]) -> _Vectors:
    arrays = read_arrays(path)
    if "array" in arrays:
        return _Vectors(arrays["array"], None)
    if "vectors" not in arrays or arrays.keys() - {"vectors", "ids"}:
        raise ArgumentError(f"{fspath(path)}: expected vectors and optionally ids, got {', '.join(arrays)}")
    return _Vectors(arrays["vectors"], arrays.get("ids"))


def _from_faiss(index: Any, where: str) -> _Vectors:
    import faiss

    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        known = {faiss.METRIC_L2: "L2"}
        got = known.get(index.metric_type, f"metric {index.metric_type}")
        raise ArgumentError(f"{where}: expected an index of faiss by inner product, got {got}")
    ids, inner = None, index  # `index` owns what is in it, so it has to stay
    if isinstance(index, (faiss.IndexIDMap, faiss.IndexIDMap2)):
        ids = faiss.vector_to_array(index.id_map)
        inner = faiss.downcast_index(index.index)
    try:
        if isinstance(inner, faiss.IndexIVF):
            return _from_lists(inner, ids)
        return _Vectors(inner.reconstruct_n(0, inner.ntotal), ids)
    except RuntimeError as error:
        raise ArgumentError(
            f"{where}: expected an index that can reconstruct its vectors, got {type(inner).__name__}"
        ) from error


def _from_lists(index: Any, outer: NDArray[np.int64] | None) -> _Vectors:
    """Take the vectors of an inverted file in ascending order of their ids."""
    import faiss

    found: list[tuple[int, NDArray[np.float32]]] = []
    for at in range(index.nlist):
        size = index.invlists.list_size(at)
        keys = faiss.rev_swig_ptr(index.invlists.get_ids(at), size).copy() if size else ()
        for offset, key in enumerate(keys):
            vector = np.empty(index.d, np.float32)
            index.reconstruct_from_offset(at, offset, faiss.swig_ptr(vector))
            found.append((int(key), vector))
    found.sort(key=lambda entry: entry[0])
    ids = np.array([key for key, _ in found], np.int64)
    rows = np.array([vector for _, vector in found], np.float32).reshape(-1, index.d)
    return _Vectors(rows, ids if outer is None else outer[ids])


def _from_usearch(index: Any, where: str) -> _Vectors:
    metric = str(getattr(index.metric_kind, "name", index.metric_kind))
    if metric != "IP":
        raise ArgumentError(f"{where}: expected an index of usearch by inner product (ip), got {metric}")
    if index.multi:
        raise ArgumentError(f"{where}: expected one vector for each key, got an index of usearch with several")
    keys = np.sort(np.asarray(index.keys).astype(np.uint64))
    return _Vectors(np.asarray(index.get(keys), np.float32), keys)


def _from_hnswlib(path: Path, metric: str | None) -> _Vectors:
    """Read a file of hnswlib: a header of sizes, then one record for each element with links, vector and label.

    The layout is that of `HierarchicalNSW::saveIndex`. Deleted elements are left out.
    """
    if metric is None:
        raise ArgumentError(
            f"{path}: a file of hnswlib does not say its metric; expected {argument('metric', 'ip')} if it is the "
            "inner product"
        )
    header = np.dtype(
        [
            ("offset_level0", "<u8"),
            ("max_elements", "<u8"),
            ("count", "<u8"),
            ("record", "<u8"),
            ("label_offset", "<u8"),
            ("vector_offset", "<u8"),
        ]
    )
    start = (
        header.itemsize + 4 + 4 + 3 * 8 + 8 + 8
    )  # then the top level, the entry point, three sizes of M, and two more
    data = path.read_bytes()
    if len(data) < start:
        raise ModelFormatError(f"{path}: not a file of hnswlib: only {len(data)} bytes")
    sizes = {name: int(np.frombuffer(data, header, 1)[0][name]) for name in header.names or ()}
    count, record, vector, label = (sizes[name] for name in ("count", "record", "vector_offset", "label_offset"))
    fits = 0 < count <= sizes["max_elements"] and 4 <= vector < label and label + 8 <= record
    if not fits or (label - vector) % 4 or start + count * record > len(data) or sizes["offset_level0"] != 0:
        raise ModelFormatError(f"{path}: not a file of hnswlib with vectors of float32")
    records = np.frombuffer(data, np.uint8, count * record, start).reshape(count, record)
    kept = records[records[:, 2] & 1 == 0]  # the mark of a deleted element
    rows = np.ascontiguousarray(kept[:, vector:label]).view("<f4")
    labels = np.ascontiguousarray(kept[:, label : label + 8]).view("<u8").reshape(-1)
    order = np.argsort(labels, kind="stable")
    return _Vectors(rows[order], labels[order])

"""Write models: `save` takes arrays and needs no torch, `export` takes a torch module.

The one writer of the model format, version 1. Arguments are checked before anything is written; the files are written
beside their place, opened once with the reader that will serve them, and only then moved there in one step.
"""

import json
import math
import os
import platform
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuralcf._core import Scorer, __version__, open_model, publish
from neuralcf.errors import ArgumentError, ModelFormatError
from neuralcf.files import sync_directory
from neuralcf.model_config import find_problem

if TYPE_CHECKING:
    from torch import nn

__all__ = ["check_target", "export", "save"]

Kind: TypeAlias = Literal["gmf", "mlp", "neumf"]
_Array: TypeAlias = NDArray[Any]
_Sizes: TypeAlias = dict[str, Any]
_Rows: TypeAlias = Any  # scipy.sparse CSR, or (indptr, indices)
_IdList: TypeAlias = Sequence[int] | Sequence[str] | _Array

_FORMAT = {"format": "neuralcf", "format_version": "1"}
_OWN_KEYS = ("format_version", "model_id", "kind", "sizes")
_DTYPES = {"f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "u1": "U8"}
_BLOCK = 8 << 20
"""Bytes that are copied at a time; a large table is never held twice."""


def save(
    tensors: Mapping[str, ArrayLike],
    path: str | os.PathLike[str],
    *,
    kind: Kind,
    ids: tuple[_IdList, _IdList] | None = None,
    seen: _Rows | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write a model directory, or a single file where `path` ends in `.safetensors`.

    A model that stands at `path` is replaced in one step: at every moment, also after a kill, a reader finds the old
    model or the new one. After an error it is the old one. (A kill may leave a directory `.NAME.*.staging` beside it,
    safe to delete.)

    Args:
        tensors: float32 (or float16) arrays under the names of the model format, such as `output.weight` `[1, G + H]`.
        path: where to; its parent must exist. A directory that holds other things is not replaced.
        kind: "gmf", "mlp" or "neumf".
        ids: the external ids `(users [U], items [I])`, each int64 or str, unique, in the order of the indices.
        seen: all interactions known at training time, a row for each user: scipy CSR `[U, I]`, or `(indptr, indices)`.
            Rows are sorted and made unique here.
        config: what config.json is to hold besides identity, kind and sizes, such as training configuration, metrics
            and a fingerprint of the data. Plain JSON values. `training` and `data` are objects, `history` and `metrics`
            lists; of `metrics`, objects with `name`, `value` and `protocol` are also shown in the model card.

    Raises:
        ModelFormatError: the tensors are not a valid model.
        ArgumentError: `path`, `kind`, `ids`, `seen` or `config` cannot be used.
        TypeError: tensors, ids or interactions of a wrong type.
        OSError: the files cannot be written.
    """
    target = check_target(path)
    arrays, sizes = _check_tensors(tensors, kind)
    id_tensors = None if ids is None else _check_ids(ids, sizes)
    seen_tensors = None if seen is None else _check_seen(seen, sizes["num_users"], sizes["num_items"])
    extra = _check_config(config or {})

    model_id = uuid.uuid4().hex
    weights_metadata = {**_FORMAT, "kind": kind, "activation": "relu", "model_id": model_id}
    staging = target.with_name(f".{target.name}.{model_id[:12]}.staging")

    if target.suffix == ".safetensors":
        extras = [name for name, given in (("ids", ids), ("seen", seen), ("config", config)) if given is not None]
        if extras:
            raise ArgumentError(
                f"{target}: a single .safetensors file cannot hold {', '.join(extras)}; save to a directory"
            )
        staged_file = staging.with_suffix(".safetensors")
        with _removing_on_failure(staged_file.unlink):
            _write_safetensors(staged_file, arrays, weights_metadata)
            Scorer.load(staged_file)
            staged_file.replace(target)
            sync_directory(target.parent)
        return

    with _removing_on_failure(lambda: shutil.rmtree(staging)):
        staging.mkdir()
        _write_safetensors(staging / "model.safetensors", arrays, weights_metadata)
        if id_tensors is not None:
            _write_safetensors(staging / "ids.safetensors", id_tensors, {**_FORMAT, "model_id": model_id})
        if seen_tensors is not None:
            _write_safetensors(staging / "seen.safetensors", seen_tensors, {**_FORMAT, "model_id": model_id})
        described = {"format_version": 1, "model_id": model_id, "kind": kind, "sizes": sizes, **extra}
        (staging / "config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
        (staging / "README.md").write_text(_model_card(described), encoding="utf-8")
        open_model(staging)
        publish(staging, target)


def export(
    model: "nn.Module",
    path: str | os.PathLike[str],
    *,
    kind: Kind | None = None,
    ids: tuple[_IdList, _IdList] | None = None,
    seen: _Rows | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write the weights of a torch module as a model, whatever device they are on.

    Args:
        model: a `GMF`, `MLP` or `NeuMF`, or any module whose `state_dict` has the tensor names of the model format.
            Weights of other precisions are converted to float32.
        path: as for `save`.
        kind: inferred from the tensor names when None.
        ids: as for `save`.
        seen: as for `save`.
        config: as for `save`.

    Raises:
        As `save`.
    """
    tensors = {name: tensor.detach().float().cpu().numpy() for name, tensor in model.state_dict().items()}
    save(tensors, path, kind=kind or _infer_kind(tensors), ids=ids, seen=seen, config=config)


def check_target(path: str | os.PathLike[str]) -> Path:
    """Check, as far as one can beforehand, that a model can be published to `path`; return it without symbolic links.

    Raises:
        ArgumentError: something stands there that is not a model.
        FileNotFoundError: its parent directory does not exist.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: no such directory to write the model {target.name} to")
    if target.suffix == ".safetensors":
        if target.is_dir():
            raise ArgumentError(f"{target}: a directory, expected a file to write to")
    elif target.exists() and not target.is_dir():
        raise ArgumentError(f"{target}: a file, expected a directory to publish to (or a name ending in .safetensors)")
    elif target.is_dir() and not (target / "model.safetensors").is_file() and any(target.iterdir()):
        raise ArgumentError(f"{target}: holds other things and no model.safetensors; it is not replaced")
    return target


@contextmanager
def _removing_on_failure(remove: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):  # it is the first error that tells what happened
            remove()
        raise


# ------------------------------------------------------------------------------------------------------------ arguments


def _infer_kind(tensors: Mapping[str, _Array]) -> Kind:
    gmf, mlp = (any(name.startswith(block) for name in tensors) for block in ("gmf.", "mlp."))
    if not gmf and not mlp:
        names = ", ".join(sorted(tensors)) or "none"
        raise ModelFormatError(f"state_dict: expected tensors named gmf.* or mlp.*, got {names}")
    return "neumf" if gmf and mlp else "gmf" if gmf else "mlp"


def _check_tensors(tensors: Mapping[str, ArrayLike], kind: Kind) -> tuple[dict[str, _Array], _Sizes]:
    """The arrays in the order of the format, and the sizes that config.json states."""
    if kind not in get_args(Kind):
        raise ArgumentError(f"kind: expected one of {', '.join(get_args(Kind))}, got {kind!r}")
    given = {name: _float_array(name, tensor) for name, tensor in tensors.items()}
    sizes = _sizes(given, kind)
    expected = _expected_shapes(sizes)
    if unknown := sorted(given.keys() - expected.keys()):
        raise ModelFormatError(f"tensors: unknown in a {kind} model: {', '.join(unknown)}")
    for name, shape in expected.items():
        if _shape(given, name, len(shape)) != shape:
            raise ModelFormatError(f"{name}: expected shape {list(shape)}, got {list(given[name].shape)}")
        if 0 in shape:
            raise ModelFormatError(f"{name}: expected every dimension to be at least 1, got shape {list(shape)}")
    for name in expected:
        _check_finite(name, given[name])
    return {name: given[name] for name in expected}, sizes


def _sizes(given: Mapping[str, _Array], kind: Kind) -> _Sizes:
    """Read each size off the first tensor that has it."""
    first = "mlp" if kind == "mlp" else "gmf"
    sizes: _Sizes = {
        "num_users": _shape(given, f"{first}.user_embedding.weight", 2)[0],
        "num_items": _shape(given, f"{first}.item_embedding.weight", 2)[0],
    }
    if kind != "mlp":
        sizes["gmf_width"] = _shape(given, "gmf.user_embedding.weight", 2)[1]
    if kind != "gmf":
        num_layers = sum(re.fullmatch(r"mlp\.layers\.\d+\.weight", name) is not None for name in given)
        sizes["mlp_user_width"] = _shape(given, "mlp.user_embedding.weight", 2)[1]
        sizes["mlp_item_width"] = _shape(given, "mlp.item_embedding.weight", 2)[1]
        sizes["mlp_layers"] = [_shape(given, f"mlp.layers.{n}.weight", 2)[0] for n in range(max(num_layers, 1))]
    return sizes


def _expected_shapes(sizes: _Sizes) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a model of these sizes."""
    users, items = sizes["num_users"], sizes["num_items"]
    shapes: dict[str, tuple[int, ...]] = {}
    blocks = 0  # G + H
    if "gmf_width" in sizes:
        blocks += sizes["gmf_width"]
        shapes["gmf.user_embedding.weight"] = (users, sizes["gmf_width"])
        shapes["gmf.item_embedding.weight"] = (items, sizes["gmf_width"])
    if "mlp_layers" in sizes:
        blocks += sizes["mlp_layers"][-1]
        shapes["mlp.user_embedding.weight"] = (users, sizes["mlp_user_width"])
        shapes["mlp.item_embedding.weight"] = (items, sizes["mlp_item_width"])
        inputs = sizes["mlp_user_width"] + sizes["mlp_item_width"]
        for n, outputs in enumerate(sizes["mlp_layers"]):
            shapes[f"mlp.layers.{n}.weight"] = (outputs, inputs)
            shapes[f"mlp.layers.{n}.bias"] = (outputs,)
            inputs = outputs
    return {**shapes, "output.weight": (1, blocks), "output.bias": (1,)}


def _float_array(name: object, tensor: ArrayLike) -> _Array:
    if not isinstance(name, str):
        raise TypeError(f"tensors: expected names as keys, got {name!r}")
    array = np.asarray(tensor)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4):
        raise TypeError(f"{name}: expected float32 or float16, got {array.dtype}")
    return array


def _shape(arrays: Mapping[str, _Array], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in arrays:
        raise ModelFormatError(f"tensors: {name} is missing")
    shape = arrays[name].shape
    if len(shape) != dimensions:
        raise ModelFormatError(f"{name}: expected {dimensions} dimension(s), got shape {list(shape)}")
    return shape


def _check_finite(name: str, array: _Array) -> None:
    rows = 0
    for block in _blocks(array):
        finite = np.isfinite(block)
        if not finite.all():
            at = np.argwhere(~finite)[0]
            value = block[tuple(at)]
            at[0] += rows
            raise ModelFormatError(f"{name}: expected finite values, got {value} at {at.tolist()}")
        rows += len(block)


def _check_ids(ids: tuple[_IdList, _IdList], sizes: _Sizes) -> dict[str, _Array]:
    """The tensors of ids.safetensors."""
    if not isinstance(ids, tuple) or len(ids) != 2:
        raise TypeError(f"ids: expected a tuple (user ids, item ids), got {type(ids).__name__}")
    users = _id_tensors("users", ids[0], sizes["num_users"])
    return users | _id_tensors("items", ids[1], sizes["num_items"])


def _id_tensors(what: str, ids: _IdList, expected: int) -> dict[str, _Array]:
    array = ids if isinstance(ids, np.ndarray) else np.asarray(ids, dtype=object)
    if array.ndim != 1 or isinstance(ids, str):
        raise TypeError(f"ids: {what}: expected one dimension of int or str, got {type(ids).__name__} {array.shape}")
    if len(array) != expected:
        raise ArgumentError(f"ids: {what}: expected {expected}, as many as the model has, got {len(array)}")
    if array.dtype.kind in "iu":
        if array.dtype.kind == "u" and array.max() > np.iinfo(np.int64).max:
            raise ArgumentError(f"ids: {what}: {array.max()} is beyond int64")
        integers = array.astype(np.int64)
    else:
        listed = array.tolist()
        kinds = {str if isinstance(one, str) else type(one) for one in listed}
        if kinds == {str}:
            return _string_tensors(what, listed)
        wrong = next((kind for kind in kinds if kind is bool or not issubclass(kind, (int, np.integer, str))), None)
        if wrong is not None or str in kinds:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise TypeError(f"ids: {what}: expected all int or all str, got {names}")
        try:
            integers = np.asarray([int(one) for one in listed], dtype=np.int64)
        except OverflowError:
            raise ArgumentError(f"ids: {what}: expected integers of 64 bits, got larger ones") from None
    values, counts = np.unique(integers, return_counts=True)
    if len(values) != len(integers):
        raise ArgumentError(f"ids: {what}: expected each id once, got {values[counts > 1][0]} more than once")
    return {what: integers}


def _string_tensors(what: str, ids: list[str]) -> dict[str, _Array]:
    seen: set[str] = set()
    encoded = []
    for one in ids:
        if one in seen:
            raise ArgumentError(f"ids: {what}: expected each id once, got {one!r} more than once")
        seen.add(one)
        try:
            encoded.append(one.encode())
        except UnicodeEncodeError:
            raise ArgumentError(f"ids: {what}: {one!r} is not valid Unicode") from None
    offsets = np.zeros(len(ids) + 1, np.int64)
    np.cumsum([len(one) for one in encoded], out=offsets[1:])
    return {f"{what}.bytes": np.frombuffer(b"".join(encoded), np.uint8), f"{what}.offsets": offsets}


def _check_seen(seen: _Rows, num_users: int, num_items: int) -> dict[str, _Array]:
    """The tensors of seen.safetensors, rows sorted and unique."""
    if isinstance(seen, tuple) and len(seen) == 2:
        indptr, indices = (np.asarray(part) for part in seen)
    elif getattr(seen, "format", None) == "csr":
        if seen.shape != (num_users, num_items):
            raise ArgumentError(f"seen: expected shape {(num_users, num_items)}, got {seen.shape}")
        indptr, indices = seen.indptr, seen.indices
    else:
        got = getattr(seen, "format", type(seen).__name__)
        raise TypeError(f"seen: expected scipy CSR or (indptr, indices), got {got}")

    for name, part in (("indptr", indptr), ("indices", indices)):
        if part.ndim != 1 or (part.dtype.kind not in "iu" and part.size):
            raise TypeError(f"seen: {name}: expected one dimension of integers, got {part.dtype} {list(part.shape)}")
    if len(indptr) != num_users + 1:
        raise ArgumentError(f"seen: indptr: expected {num_users + 1} entries for {num_users} users, got {len(indptr)}")
    indptr = indptr.astype(np.int64)
    if indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        raise ArgumentError(f"seen: indptr: expected to run from 0 to {len(indices)} without falling")
    if indices.size and (indices.min() < 0 or indices.max() >= num_items):
        bad = indices[(indices < 0) | (indices >= num_items)][0]
        raise ArgumentError(f"seen: indices: expected 0 to {num_items - 1}, got {bad}")

    rows = np.repeat(np.arange(num_users, dtype=np.int64), np.diff(indptr))
    keys = rows * num_items + indices.astype(np.int64)
    if (np.diff(keys) <= 0).any():
        keys = np.unique(keys)
        np.cumsum(np.bincount(keys // num_items, minlength=num_users), out=indptr[1:])
    return {"indptr": indptr, "indices": (keys % num_items).astype(np.int32)}


def _check_config(config: Mapping[str, Any]) -> dict[str, Any]:
    if own := [key for key in _OWN_KEYS if key in config]:
        raise ArgumentError(f"config: {', '.join(own)} are written by save itself")
    if not isinstance(config.get("versions", {}), Mapping):
        raise ArgumentError("config: versions: expected an object of names and versions")
    _check_json(config, "config")
    if problem := find_problem(config):
        raise ArgumentError(f"config: {problem}")
    made_with = {"neuralcf": __version__, "numpy": np.__version__, "python": platform.python_version()}
    return {**config, "versions": {**made_with, **config.get("versions", {})}}


def _check_json(value: object, where: str) -> None:
    if value is None or isinstance(value, (str, bool, int)):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ArgumentError(f"{where}: expected a finite number, got {value}")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ArgumentError(f"{where}: expected strings as keys, got {key!r}")
            _check_json(inner, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for at, inner in enumerate(value):
            _check_json(inner, f"{where}[{at}]")
    else:
        raise ArgumentError(f"{where}: expected a plain JSON value, got {type(value).__name__}")


# ---------------------------------------------------------------------------------------------------------------- files


def _write_safetensors(path: Path, tensors: Mapping[str, _Array], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file; wider elements first, so that every tensor is aligned."""
    ordered = dict(sorted(tensors.items(), key=lambda entry: -entry[1].dtype.itemsize))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, array in ordered.items():
        start, end = end, end + array.nbytes
        dtype = _DTYPES[f"{array.dtype.kind}{array.dtype.itemsize}"]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in ordered.values():
            for block in _blocks(array):
                file.write(np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("<")).data)
        file.flush()
        os.fsync(file.fileno())


def _blocks(array: _Array) -> "list[_Array]":
    """Views of successive rows, of some megabytes each."""
    if array.size == 0:
        return []
    rows = max(1, _BLOCK // (array.nbytes // len(array)))
    return [array[start : start + rows] for start in range(0, len(array), rows)]


def _model_card(config: Mapping[str, Any]) -> str:
    sizes = config["sizes"]
    shape = ", ".join(f"{key} {value}" for key, value in sizes.items() if key not in ("num_users", "num_items"))
    lines = [
        "---",
        "library_name: neuralcf",
        "tags: [recommender-systems, collaborative-filtering]",
        "---",
        "",
        f"# {config['kind']} model",
        "",
        f"{sizes['num_users']:,} users, {sizes['num_items']:,} items; {shape}. Model id `{config['model_id']}`.",
        "",
        "```python",
        "import neuralcf",
        "",
        'scorer = neuralcf.Scorer.load("path/to/this/directory")',
        "ids, scores = scorer.top_k(0, k=10)",
        "```",
        "",
        "`config.json` tells how it was trained. `seen.safetensors`, where present, holds the users' histories:",
        "leave it out when you publish the model and they are not public.",
        "",
    ]
    metrics = config.get("metrics", [])
    shown = [row for row in metrics if isinstance(row, Mapping) and {"name", "value", "protocol"} <= row.keys()]
    if shown:
        lines += ["| metric | value | protocol |", "|---|---|---|"]
        lines += [f"| {row['name']} | {_number(row['value'])} | {row['protocol']} |" for row in shown]
        lines.append("")
    return "\n".join(lines)


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)

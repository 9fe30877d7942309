"""What a conversion gives: a model in our tensors, with ids and interactions, ready to be saved.

A score that is a dot product with biases becomes a GMF whose output weights are ones. A bias is held as a factor,
beside a factor that is one for everybody on the other side:

    b + bu[u] + bi[i] + p_u . q_i  =  output.bias + [p_u, 1, bu[u]] . [q_i, bi[i], 1]
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralcf.errors import ArgumentError, Message, argument
from neuralcf.format.checks import IdList, Interactions, Kind, check_id_list
from neuralcf.format.save import save

__all__ = ["Converted", "Ids", "dot_product", "float_array", "ids_or", "library_ids"]

Ids = tuple[IdList, IdList]


@dataclass(frozen=True)
class Converted:
    """A model from another library, in the tensors of the model format."""

    tensors: Mapping[str, NDArray[np.float32]]
    """Arrays under the names of the model format."""
    kind: Kind
    ids: Ids
    """External ids `(users [U], items [I])`, in the order of the rows."""
    seen: Interactions | None = None
    """Interactions known at training time, one row per user: scipy CSR `[U, I]` or `(indptr, indices)`."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """What config.json says of the source."""

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.ids[0])

    @property
    def num_items(self) -> int:
        """Number of items."""
        return len(self.ids[1])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a model directory.

        Raises:
            ModelFormatError, ArgumentError, TypeError, PublishedError, OSError: as for `neuralcf.save`.
        """
        save(self.tensors, path, kind=self.kind, ids=self.ids, seen=self.seen, config=self.config)


def dot_product(
    library: str,
    model: str,
    users: tuple[str, Any],
    items: tuple[str, Any],
    *,
    user_biases: tuple[str, Any] | None = None,
    item_biases: tuple[str, Any] | None = None,
    bias: float = 0.0,
    ids: Ids | None = None,
    seen: Interactions | None = None,
) -> Converted:
    """Make a GMF of a dot product with biases.

    Args:
        library: where the model comes from, for config.json.
        model: the library's name of it.
        users: the name of the array, for messages, and user factors `[U, d]`.
        items: likewise, item factors `[I, d]`.
        user_biases: likewise, `[U]` or `[U, 1]`.
        item_biases: likewise, `[I]` or `[I, 1]`.
        bias: added to every score.
        ids: the external ids; the numbers of the rows if None.
        seen: the interactions known at training time.

    Raises:
        ArgumentError: shapes that disagree, or what is not a finite number in float32.
    """
    p, q = float_array(*users, dimensions=2), float_array(*items, dimensions=2)
    if p.shape[1] != q.shape[1]:
        raise ArgumentError(
            f"{users[0]} and {items[0]}: expected equally many factors, got {p.shape[1]} and {q.shape[1]}"
        )
    left, right = [p], [q]
    for biases, rows, own, other in ((item_biases, len(q), right, left), (user_biases, len(p), left, right)):
        if biases is None:
            continue
        column = float_array(*biases).reshape(-1)
        if len(column) != rows:
            raise ArgumentError(f"{biases[0]}: expected {rows} biases, one for each row of factors, got {len(column)}")
        if not column.any():
            continue
        own.append(column[:, None])
        other.append(np.ones((len(p) + len(q) - rows, 1), np.float32))
    tensors = {
        "gmf.user_embedding.weight": np.hstack(left),
        "gmf.item_embedding.weight": np.hstack(right),
    }
    tensors["output.weight"] = np.ones((1, tensors["gmf.user_embedding.weight"].shape[1]), np.float32)
    tensors["output.bias"] = float_array("the common bias", np.array([bias], np.float64))
    return Converted(tensors, "gmf", ids_or(ids, len(p), len(q)), seen, source_of(library, model))


def source_of(library: str, model: str) -> dict[str, Any]:
    """Say in config.json where a model comes from."""
    return {"converted_from": {"library": library, "model": model}}


def ids_or(ids: Ids | None, users: int, items: int) -> Ids:
    """Return the ids, or the numbers of the rows if there are none.

    Raises:
        ArgumentError: ids of one side alone, as many as do not fit, or an id twice.
        TypeError: not a pair, or ids that are neither all int nor all str.
    """
    if ids is None:
        return np.arange(users), np.arange(items)
    if not isinstance(ids, tuple) or len(ids) != 2:
        raise TypeError(f"ids: expected a tuple (user ids, item ids), got {type(ids).__name__}")
    for name, given, expected in (("user_ids", ids[0], users), ("item_ids", ids[1], items)):
        if given is None:
            raise ArgumentError(f"{argument(name)}: expected ids of users and of items, or of neither")
        if len(given) != expected:
            what = name.removesuffix("_ids")
            raise ArgumentError(f"{argument(name)}: expected {expected} ids, one for each {what}, got {len(given)}")
        try:
            check_id_list(given, expected, argument(name))
        except TypeError as error:
            raise TypeError(Message(str(error))) from None
    return ids


def library_ids(ids: Iterable[Any], where: str) -> IdList:
    """Return ids that a library holds as int or str, or refuse them: none becomes another one.

    Floats that are integers, such as those of a column with gaps in pandas, become int: a library finds 1.0 by 1.

    Raises:
        ArgumentError: ids of another type, of both types, beyond int64, or one twice.
    """
    plain: Any = ids
    if not isinstance(ids, np.ndarray) or ids.dtype.kind not in "iu":
        plain = [id_.item() if isinstance(id_, np.generic) else id_ for id_ in ids]
        plain = [int(id_) if isinstance(id_, float) and id_.is_integer() else id_ for id_ in plain]
    try:
        checked = check_id_list(plain, len(plain), where)
    except (ArgumentError, TypeError) as error:
        given = f"{argument('user_ids')} and {argument('item_ids')}"
        raise ArgumentError(f"{error}; others can be given by {given}") from None
    return plain if isinstance(plain, list) else checked


def float_array(name: str, array: Any, *, dimensions: int | None = None) -> NDArray[np.float32]:
    """Check an array of a foreign model, and round it to float32.

    Raises:
        ArgumentError: the wrong number of dimensions, nothing in it, or what is not a finite number in float32.
    """
    given = np.asarray(array)
    if given.dtype.kind not in "fiu":
        raise ArgumentError(f"{name}: expected an array of numbers, got {given.dtype}")
    if dimensions is not None and given.ndim != dimensions:
        raise ArgumentError(f"{name}: expected {dimensions} dimensions, got shape {given.shape}")
    if not given.size:
        raise ArgumentError(f"{name}: expected at least one row and one column, got shape {given.shape}")
    with np.errstate(over="ignore"):
        rounded = given.astype(np.float32)
    finite = np.isfinite(rounded)
    if not finite.all():
        at = tuple(int(place) for place in np.argwhere(~finite)[0])
        raise ArgumentError(f"{name}: expected finite numbers that fit float32, got {given[at]} at {list(at)}")
    return rounded

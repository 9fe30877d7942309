"""The same array in every memory layout of NumPy."""

from collections.abc import Callable

import numpy as np


class Offered:
    """An object that converts to an array, as a pandas Series or a tensor does."""

    def __init__(self, values: object, dtype: str | None = None) -> None:
        self.values, self.dtype = values, dtype

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return np.asarray(self.values, self.dtype)

    def __len__(self) -> int:
        return len(self.values)


def misaligned(array: np.ndarray) -> np.ndarray:
    room = np.zeros(array.nbytes + 1, np.uint8)
    moved = room[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def in_a_record(array: np.ndarray) -> np.ndarray:
    record = np.zeros(array.shape, [("other", "i1"), ("field", array.dtype)])
    record["field"] = array
    return record["field"]


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": lambda a: a.copy(),
    "strided": lambda a: np.repeat(a, 3, axis=0)[::3],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "misaligned": misaligned,
    "misaligned and swapped": lambda a: misaligned(a.astype(a.dtype.newbyteorder())),
    "read-only": read_only,
    "columns first": np.asfortranarray,
    "field of a record": lambda a: (
        np.rec.fromarrays([np.zeros(len(a), "i1"), a])["f1"] if a.ndim == 1 else a.T.copy().T
    ),
}

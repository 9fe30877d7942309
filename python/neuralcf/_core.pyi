"""The compiled core: `neuralcf.Scorer`, and what the Python side builds upon."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Final, Literal, SupportsIndex, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuralcf.results import TopK, UserVectors

__all__ = ["Ids", "Scorer", "__version__", "machine", "open_model", "publish", "reopen"]

__version__: Final[str]

_Users: TypeAlias = SupportsIndex | Sequence[int] | NDArray[np.integer[Any]] | UserVectors
_Items: TypeAlias = Sequence[int] | NDArray[np.integer[Any]]
_Mask: TypeAlias = NDArray[np.bool_]
_Rows: TypeAlias = Any  # scipy.sparse CSR, or (indptr, indices)

@final
class Scorer:
    """Scores pairs and ranks the catalogue with a trained model.

    Users and items are dense integer indices. Scores are probabilities, or logits with `logits=True`; ranking is always
    by logit, descending, equal logits by ascending item index. A pair has the same bits from every method, batch size,
    thread count and instruction set. Frozen: any number of threads may share one. Pickles as path and digest.

    Errors are those of `neuralcf.errors`, and Python's own TypeError, MemoryError, OSError and KeyboardInterrupt.
    """

    @staticmethod
    def load(path: str | PathLike[str], *, threads: int | None = None, isa: str | None = None) -> Scorer:
        """Open a model directory or a single `.safetensors` file.

        Args:
            path: where the model is.
            threads: how many threads a call may use; else NEURALCF_NUM_THREADS, else what the process may really use.
            isa: "portable", "avx2", "avx512" or "neon"; else NEURALCF_ISA, else the best that the CPU has.

        Raises:
            ModelFormatError: the files are not a valid model; the message says which part and why.
            OSError: they cannot be read (FileNotFoundError where there is nothing).
            MemoryError: the model does not fit.
        """
    @staticmethod
    def from_tensors(
        tensors: Mapping[str, ArrayLike],
        *,
        kind: Literal["gmf", "mlp", "neumf"] | None = None,
        seen: _Rows | None = None,
        threads: int | None = None,
        isa: str | None = None,
    ) -> Scorer:
        """Make a scorer from arrays in memory.

        Args:
            tensors: float32 (or float16) arrays under the names of the model format.
            kind: checked against the names; inferred from them when None.
            seen: known interactions, one row for each user: scipy CSR or `(indptr, indices)`.
            threads: as for `load`.
            isa: as for `load`.

        Raises:
            ModelFormatError: the tensors are not a valid model.
            ArgumentError: another argument cannot be used, or an array was changed while it was read.
            TypeError: a value is not an array of floats.
            MemoryError: the model does not fit.
        """
    @property
    def num_users(self) -> int:
        """Users in the model."""
    @property
    def num_items(self) -> int:
        """Items in the model."""
    @property
    def kind(self) -> Literal["gmf", "mlp", "neumf"]:
        """Which parts the model has."""
    @property
    def isa(self) -> Literal["portable", "avx2", "avx512", "neon"]:
        """The instruction set in use."""
    @property
    def threads(self) -> int:
        """How many threads a call may use."""
    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the weights' file."""
    @property
    def nbytes(self) -> dict[str, int]:
        """Bytes of memory held, by part."""
    def score_batch(
        self,
        users: _Users,
        items: _Items,
        *,
        logits: bool = False,
        out: NDArray[np.float32] | None = None,
        threads: int | None = None,
    ) -> NDArray[np.float32]:
        """Score pairs.

        Args:
            users: `[B]` user indices, one index for all items, or `UserVectors` of `B` users.
            items: `[B]` item indices.
            logits: give logits instead of probabilities.
            out: a float32 array `[B]` to write to and return; untouched after an error.
            threads: for this call.

        Returns:
            float32 `[B]`.

        Raises:
            OutOfRangeError: an index outside the model (-1 never wraps).
            ArgumentError: lengths or shapes that do not fit.
            TypeError: indices that are no integers.
        """
    def top_k(
        self,
        users: _Users,
        k: SupportsIndex = 10,
        *,
        exclude: _Rows | Literal["seen"] | None = None,
        allow: _Items | _Mask | _Rows | None = None,
        deny: _Items | _Mask | None = None,
        search: Literal["exact", "approximate"] = "exact",
        logits: bool = False,
        threads: int | None = None,
    ) -> TopK:
        """Find the best items of each user.

        Args:
            users: `[B]` user indices, one index (then the result has one dimension), or `UserVectors`.
            k: how many items, at least 1.
            exclude: items that a row must not get: scipy CSR or `(indptr, indices)`, one row for each given user, or
                "seen" for the interactions stored with the model.
            allow: items that may be returned: indices or a boolean mask `[num_items]`; or CSR rows, a candidate list
                for each given user.
            deny: items that must not be returned: indices or a boolean mask `[num_items]`.
            search: "exact" is what scoring every item and sorting would give, bit for bit; "approximate" uses the
                index.
            logits: give logits instead of probabilities.
            threads: for this call.

        Returns:
            `TopK(ids int64 [B, k], scores float32 [B, k])`. Where fewer than `k` items are left, the rest of the row is
            id -1, score negative infinity.

        Raises:
            OutOfRangeError, ArgumentError, TypeError: as for `score_batch`; also where "seen" or an index is asked for
                and the model has none.
        """
    def rank_of(
        self,
        users: _Users,
        items: _Items,
        *,
        exclude: _Rows | Literal["seen"] | None = None,
        allow: _Items | _Mask | _Rows | None = None,
        deny: _Items | _Mask | None = None,
        threads: int | None = None,
    ) -> NDArray[np.int64]:
        """Count, for each pair, the other unfiltered items that score at least as high as the pair's item.

        Rank 0 is the best; ties count against the item. The filters are those of `top_k`, with one row for each pair;
        an item that is itself filtered is ranked among the others all the same.

        Args:
            users: `[B]` user indices, one index for all items, or `UserVectors` of `B` users.
            items: `[B]` item indices.
            exclude: as for `top_k`.
            allow: as for `top_k`.
            deny: as for `top_k`.
            threads: for this call.

        Returns:
            int64 `[B]`.
        """
    def user_vectors(self, users: SupportsIndex | _Items) -> UserVectors:
        """Look up the embeddings of users: `UserVectors(gmf float32 [B, G] | None, mlp float32 [B, Mu] | None)`.

        Queries take such vectors in place of users: those of new users, or of users changed by way of experiment.
        """
    def __copy__(self) -> Scorer: ...
    def __deepcopy__(self, memo: Any, /) -> Scorer: ...

@final
class Ids:
    """The external ids of a model's users or items: all int64 or all str, unique, in the order of the dense indices."""

    @property
    def kind(self) -> Literal["int64", "str"]:
        """The type of every id."""
    def __len__(self) -> int: ...
    def find(self, ids: Sequence[int] | Sequence[str] | NDArray[Any]) -> NDArray[np.int64]:
        """Look up the dense indices of ids, int64 `[n]`; -1 where unknown. Another type is refused, not coerced."""
    def take(self, indices: _Items) -> NDArray[np.int64] | list[str]:
        """Look up the ids at dense indices."""

def open_model(
    path: str | PathLike[str], *, threads: int | None = None, isa: str | None = None, digest: str | None = None
) -> tuple[Scorer, Ids | None, Ids | None]:
    """Open a model and its external user and item ids as one generation; the arguments are those of `Scorer.load`.

    With `digest`, ModelFormatError where the files are not those that it was pickled with.
    """

def reopen(path: str | PathLike[str], digest: str, threads: int | None, isa: str | None) -> Scorer:
    """Open the very model that was pickled; ModelFormatError where the files have changed."""

def check_tensors(
    tensors: Mapping[str, ArrayLike], *, kind: Literal["gmf", "mlp", "neumf"] | None = None
) -> tuple[Literal["gmf", "mlp", "neumf"], dict[str, Any]]:
    """Check tensors as the reader of model files does; return the model's kind and its sizes as config.json has them.

    Args:
        tensors: float32 (or float16) arrays under the names of the model format.
        kind: checked against the names; inferred from them when None.

    Raises:
        ModelFormatError: tensors are missing or unknown, their shapes disagree, or a score could overflow.
        ArgumentError: an unknown `kind`.
        TypeError: not an array of float32 or float16.
    """

def publish(staging: str | PathLike[str], target: str | PathLike[str]) -> None:
    """Put the complete directory `staging` in place of `target` at once, on disk, and remove the old one."""

def machine() -> dict[str, Any]:
    """Tell what this machine offers: `isa` (chosen), `supported` (list), `threads`, `cpu_features` (a dict)."""

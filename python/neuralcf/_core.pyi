"""The compiled core: `neuralcf.Scorer`, and the functions that the Python side builds on."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Final, Literal, SupportsIndex, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuralcf.results import IndexRecall, IndexSummary, ItemVectors, TopK, UserVectors

__all__ = [
    "Groups",
    "Ids",
    "ItemSet",
    "ItemSets",
    "Sampler",
    "Scorer",
    "StopToken",
    "__version__",
    "check_memory",
    "check_tensors",
    "machine",
    "open_model",
    "publish",
    "read_features",
    "read_weights",
    "reopen",
]

__version__: Final[str]

_Users: TypeAlias = SupportsIndex | Sequence[int] | NDArray[np.integer[Any]] | UserVectors
_Items: TypeAlias = Sequence[int] | NDArray[np.integer[Any]]
_Mask: TypeAlias = NDArray[np.bool_] | ItemSet
_Rows: TypeAlias = Any  # scipy.sparse CSR, or (indptr, indices)

@final
class Scorer:
    """Scores pairs and ranks the catalogue with a trained model.

    Users and items are dense integer indices. Scores are probabilities, or logits with `logits=True`. Ranking is always
    by logit, descending; ties by item index, ascending. A pair gets the same bits from every method, batch size, thread
    count and instruction set. Immutable: any number of threads may share one. Pickles as path and digest.

    Raises the errors of `neuralcf.errors`, and Python's own TypeError, MemoryError, OSError and KeyboardInterrupt.
    """

    @staticmethod
    def load(
        path: str | PathLike[str],
        *,
        threads: int | None = None,
        isa: str | None = None,
        max_bytes: SupportsIndex | None = None,
    ) -> Scorer:
        """Load a model directory or a single `.safetensors` file.

        Args:
            path: the model directory or file.
            threads: maximum number of threads per call; defaults to NEURALCF_NUM_THREADS, else to what CPU affinity and
                cgroup quota allow.
            isa: "portable", "avx2", "avx512" or "neon"; defaults to NEURALCF_ISA, else to the best the CPU supports.
            max_bytes: the memory that the model may take while it is laid out, computed from its sizes before anything
                is built; defaults to NEURALCF_MAX_BYTES, else to what the machine and the cgroup have free.

        Raises:
            ModelFormatError: the files are not a valid model; the message says which part and why.
            OSError: the files cannot be read (FileNotFoundError if there are none).
            MemoryError: the model takes more than `max_bytes`, or does not fit in memory.
        """
    @staticmethod
    def from_tensors(
        tensors: Mapping[str, ArrayLike],
        *,
        kind: Literal["gmf", "mlp", "neumf"] | None = None,
        seen: _Rows | None = None,
        history: Mapping[str, ArrayLike] | None = None,
        threads: int | None = None,
        isa: str | None = None,
        max_bytes: SupportsIndex | None = None,
    ) -> Scorer:
        """Make a scorer from arrays in memory.

        Args:
            tensors: float32 (or float16) arrays under the names of the model format.
            kind: checked against the names; inferred from them if None.
            seen: known interactions, one row for each user: scipy CSR or `(indptr, indices)`.
            history: how a history becomes a user's vectors, for `fold_in`: arrays under the names of
                history.safetensors.
            threads: as for `load`.
            isa: as for `load`.
            max_bytes: as for `load`.

        Raises:
            ModelFormatError: the tensors are not a valid model, or `history` does not fit it.
            ArgumentError: another argument is invalid, or an array was modified while being read.
            TypeError: a value is not an array of floats.
            MemoryError: the model does not fit in memory.
        """
    @property
    def num_users(self) -> int:
        """Number of users in the model."""
    @property
    def num_items(self) -> int:
        """Number of items in the model, and of their indices; those that were removed from it count too."""
    @property
    def kind(self) -> Literal["gmf", "mlp", "neumf"]:
        """The kind of model."""
    @property
    def isa(self) -> Literal["portable", "avx2", "avx512", "neon"]:
        """The instruction set in use."""
    @property
    def scan_precision(self) -> Literal["float32", "int16", "int8", "int4"]:
        """How the catalogue is scanned, chosen at load by counted cost. Results are the same bits with each."""
    @property
    def scan_reason(self) -> str:
        """Why the catalogue is scanned in this precision, in words."""
    @property
    def threads(self) -> int:
        """Maximum number of threads per call."""
    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the weights file."""
    @property
    def nbytes(self) -> dict[str, int]:
        """Memory in bytes, by part."""
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
            logits: return logits instead of probabilities.
            out: a float32 array `[B]` to fill and return; unchanged after an error.
            threads: maximum number of threads for this call.

        Returns:
            float32 `[B]`.

        Raises:
            OutOfRangeError: an index outside the model (-1 never wraps).
            ArgumentError: lengths or shapes that do not match.
            TypeError: indices that are not integers.
        """
    def top_k(
        self,
        users: _Users,
        k: SupportsIndex = 10,
        *,
        exclude: _Rows | Literal["seen"] | None = None,
        allow: _Items | _Mask | _Rows | None = None,
        deny: _Items | _Mask | None = None,
        max_per_group: Sequence[tuple[Groups, SupportsIndex]] | None = None,
        after: tuple[NDArray[np.floating[Any]], _Items] | None = None,
        search: Literal["exact", "approximate"] = "exact",
        recall: float | None = None,
        probes: SupportsIndex | None = None,
        logits: bool = False,
        threads: int | None = None,
    ) -> TopK:
        """Find the best items of each user.

        Args:
            users: `[B]` user indices, one index (the result then has one dimension), or `UserVectors`.
            k: how many items to return, at least 1.
            exclude: items that a user must not get: scipy CSR or `(indptr, indices)`, one row for each given user, or
                "seen" for the interactions stored with the model.
            allow: items that may be returned: indices, a boolean mask `[num_items]` or an `ItemSet`; or CSR rows, a
                candidate list for each given user.
            deny: items that must not be returned: indices, a boolean mask `[num_items]` or an `ItemSet`.
            max_per_group: pairs of groups and the number of items of a group that a list may hold, at least 1. The list
                is what walking down the whole ranking gives.
            after: the next page: scores, floats `[B]`, and item indices `[B]` of the last items of the page before, -1
                for an item that is gone. The list has the items that follow in the ranking; if an item no longer scores
                this, those that score less. Items before it still count for `max_per_group`.
            search: "exact" returns, bit for bit, what scoring every item and sorting would return; "approximate" uses
                the index of `build_index` and may miss items. Those it returns have their exact scores.
            recall: of an approximate search: the share of the exact list that it finds, in the mean over users; 0.99 by
                default, at most 0.999. `Scorer.index` has what was measured.
            probes: in place of `recall`: how many lists of the index to visit.
            logits: return logits instead of probabilities.
            threads: maximum number of threads for this call.

        Returns:
            `TopK(ids int64 [B, k], scores float32 [B, k])`. If fewer than `k` items are left, the row is padded with
            id -1 and score negative infinity.

        Raises:
            MemoryError: the result, 12 bytes for each of `B * k` items, takes more than is free.
            OutOfRangeError, ArgumentError, TypeError: as for `score_batch`. ArgumentError also for "seen" or
                "approximate" if the model has no stored interactions or no index.
        """
    def build_index(
        self,
        *,
        lists: SupportsIndex | None = None,
        seed: SupportsIndex = 0,
        progress: Callable[[float], object] | None = None,
        threads: int | None = None,
    ) -> Scorer:
        """Return a scorer of the same model with an index, for `top_k(search="approximate")`; this one stays as it is.

        The index clusters the items by what tells their scores apart and lets the network itself score the clusters.
        How far a search goes for a recall is calibrated on users of the model that have no part in the clustering. It
        depends on the model, `lists` and `seed` alone. Items that are changed, added or removed later (`with_items` and
        the like) are found as in the exact search.

        Args:
            lists: the number of clusters, 1 to the number of items; chosen by the number of items if None.
            seed: 0 to 2^64 - 1, chooses the samples of items and of users.
            progress: called with the share that is done, 0 to 1; its exception ends the building.
            threads: maximum number of threads for this call.

        Raises:
            ArgumentError: `lists` or `seed` outside its range, or items of this scorer were changed.
            TypeError: a number that is not an integer.
            MemoryError: the index does not fit in memory.
        """
    def save_index(self) -> None:
        """Write the index into the directory of the model, as index.safetensors; `load` reads it from then on.

        One that is there is replaced in one atomic step. It belongs to the weights of this model alone: beside any
        others it is refused when an approximate search asks for it, and exact searches go on.

        Raises:
            ArgumentError: this scorer has no index, or was not loaded from a model directory, or its items were changed
                since.
            ModelFormatError: the directory holds another model by now.
            PublishedError: the index is written, but may not survive a power failure.
            OSError: it cannot be written; a previous one stays.
        """
    @property
    def index(self) -> IndexSummary | None:
        """What the index consists of, and its measured recalls; None without one.

        Raises:
            ModelFormatError: the index.safetensors of the model is damaged, or is that of another model.
        """
    def index_recall(
        self,
        k: SupportsIndex = 10,
        recall: float = 0.99,
        *,
        users: _Users | None = None,
        threads: int | None = None,
    ) -> IndexRecall:
        """Measure the recall of approximate searches beside the exact search, as the items are now.

        Args:
            k: how many items a search returns, at least 1.
            recall: as for `top_k`.
            users: those to measure with, as for `top_k`; by default those of the calibration. For a check, take users
                who are not in `index_sample`.
            threads: maximum number of threads for this call.

        Returns:
            `IndexRecall`; its `advice` says why the index should be built again, or is None.

        Raises:
            ArgumentError: no index, no users, or a recall out of range.
            ModelFormatError: as for `index`.
        """
    def index_sample(self) -> NDArray[np.int64]:
        """Return the users of the model who had a part in building the index, ascending."""
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

        Rank 0 is the best; ties count against the item. The filters are those of `top_k`, with one row for each pair.
        An item that is itself filtered is still ranked.

        Args:
            users: `[B]` user indices, one index for all items, or `UserVectors` of `B` users.
            items: `[B]` item indices.
            exclude: as for `top_k`.
            allow: as for `top_k`.
            deny: as for `top_k`.
            threads: maximum number of threads for this call.

        Returns:
            int64 `[B]`.
        """
    def explain(self, users: _Users, items: _Items) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """Return the terms of the logits of pairs.

        Args:
            users: `[B]` user indices, one index for all items, or `UserVectors` of `B` users.
            items: `[B]` item indices.

        Returns:
            The bias of the output layer; the terms of the GMF factors, float64 `[B, G]`; and those of the outputs of
            the last hidden layer, float64 `[B, H]`. Summed in this order in float64 and rounded to float32, they are
            the logit, bit for bit.

        Raises:
            OutOfRangeError, ArgumentError, TypeError: as for `score_batch`.
        """
    def with_items(self, items: _Items, vectors: ItemVectors) -> Scorer:
        """Return a scorer in which items have other vectors; this one stays as it is. Removed items are back.

        Its scores are those of a model that was saved with these vectors, bit for bit. It shares all memory with this
        one but a copy of what changes, so it takes milliseconds whatever the size of the catalogue. Changed and new
        items are scanned in float32. It cannot be pickled.

        Args:
            items: `[n]` item indices, each once.
            vectors: their embeddings.

        Raises:
            ArgumentError: an item that is given twice; vectors that do not fit the model, are not finite, or are so
                large that a score could overflow float32.
            OutOfRangeError, TypeError: as for `score_batch`.
        """
    def with_new_items(self, vectors: ItemVectors) -> Scorer:
        """Return a scorer with `n` more items, whose indices follow the last one; this one stays as it is.

        Args:
            vectors: their embeddings.

        Raises:
            ArgumentError, TypeError: as for `with_items`.
        """
    def without_items(self, items: _Items) -> Scorer:
        """Return a scorer without these items; this one stays as it is.

        No query returns them any more, and to ask for one by its index raises OutOfRangeError. `num_items` still counts
        them: their indices are given to no other item, and `with_items` brings them back.

        Args:
            items: `[n]` item indices, each once.

        Raises:
            ArgumentError, OutOfRangeError, TypeError: as for `with_items`.
        """
    def user_vectors(self, users: SupportsIndex | _Items) -> UserVectors:
        """Return the embeddings of users: `UserVectors(gmf float32 [B, G] | None, mlp float32 [B, Mu] | None)`.

        Queries accept such vectors in place of users, for new users (cold start) and experiments.
        """
    def seen_items(self, users: _Items) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the stored interactions of users, as CSR rows `(indptr [B + 1], indices)`, both int64.

        Items that have been removed are left out.

        Raises:
            ArgumentError: the model was saved without interactions.
            OutOfRangeError, TypeError: as for `score_batch`.
        """
    def fold_in(
        self, histories: _Rows, *, weights: NDArray[np.floating[Any]] | None = None, threads: int | None = None
    ) -> UserVectors:
        """Compute the embeddings of users from their histories, as training would have, for users not in the model.

        A model saved with `history`, as `neuralcf train` does by default, has encoders for it; for any other the
        vectors are fitted to the history, with the items fixed and the distribution of the model's users as a prior. An
        item counts once. A history gives the same bits in any batch, on any number of threads and with any instruction
        set. `rust/format/README.md` and `rust/queries/fit_user.rs` have the formulas.

        Args:
            histories: the items of each user: scipy CSR `[B, num_items]`, or `(indptr, indices)`.
            weights: how much each of the indices counts, above 0, an array of floats `[nnz]`; those of a repeated item
                are summed. By default each item counts 1, however often it is repeated.
            threads: maximum number of threads for this call.

        Returns:
            `UserVectors` of `B` users, which `score_batch`, `top_k` and `rank_of` take in place of users.

        Raises:
            ArgumentError: rows or weights that are malformed, or vectors that overflow float32.
            OutOfRangeError: an item outside the model.
            TypeError: neither scipy CSR nor a pair of integer arrays.
        """
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]: ...
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
        """Return the dense indices of ids, int64 `[n]`; -1 if unknown. Other types are refused, never coerced."""
    def take(self, indices: _Items) -> NDArray[np.int64] | list[str]:
        """Return the ids at dense indices; raises OutOfRangeError for one whose id has been removed."""
    def indices(self) -> NDArray[np.int64]:
        """Return the indices that have an id, ascending: all below `len`, until ids are added and removed."""
    def with_ids(self, ids: Sequence[int] | Sequence[str] | NDArray[Any]) -> tuple[Ids, NDArray[np.int64]]:
        """Return these ids and others, with the indices of the latter, int64 `[n]`.

        An id that has been removed gets the index that it had, any other the next one.

        Raises:
            ArgumentError: an id that is there already, or given twice.
        """
    def without(self, indices: _Items) -> Ids:
        """Return these ids without those at dense indices, which no other id gets."""

@final
class Groups:
    """A group for each item of a catalogue, such as its brand; immutable. For `max_per_group` of `Scorer.top_k`."""

    def __new__(cls, groups: _Items) -> Groups:
        """Make them of the number of each item's group, `[num_items]`; -1 for an item that has none."""
    def __len__(self) -> int:
        """Number of items in the catalogue."""
    def numbers(self) -> NDArray[np.int64]:
        """Return the number of each item's group, `[num_items]`; -1 for an item that has none."""
    def for_catalogue(self, num_items: SupportsIndex, removed: _Items) -> Groups:
        """Return these groups for a catalogue that has grown to `num_items`; new and removed items have none."""

@final
class ItemSet:
    """A set of items of a catalogue, one bit for each; immutable. `allow` and `deny` take it as it is."""

    def __new__(cls, num_items: SupportsIndex, items: _Items | _Mask) -> ItemSet:
        """Make a set of item indices, or of a boolean mask, for a catalogue of `num_items`."""
    @property
    def num_items(self) -> int:
        """Number of items in the catalogue, not in the set."""
    def __len__(self) -> int:
        """Number of items in the set."""
    def indices(self) -> NDArray[np.int64]:
        """Return the items, ascending."""
    def changed(self, add: _Items | _Mask, remove: _Items | _Mask) -> ItemSet:
        """Return a copy with the items in `add`, and then without those in `remove`."""

@final
class ItemSets:
    """Sets of items by name; immutable: a change returns new ones, which share the sets that stay."""

    def __new__(cls, num_items: SupportsIndex) -> ItemSets:
        """Make none, for a catalogue of `num_items`."""
    @property
    def names(self) -> list[str]:
        """The names, ascending."""
    def get(self, name: str) -> ItemSet | None:
        """Return the set with this name; None if there is none."""
    def with_set(self, name: str, items: ItemSet) -> ItemSets:
        """Return these sets with `items` under `name`; raises ArgumentError for a name that no expression can hold."""
    def for_catalogue(self, num_items: SupportsIndex, removed: _Items) -> ItemSets:
        """Return these sets for a catalogue that has grown to `num_items`, without the items that were removed."""
    def without(self, name: str) -> ItemSets | None:
        """Return these sets without `name`; None if there is none."""
    def evaluate(self, expression: str, *, what: str = "expression") -> ItemSet:
        """Return the items that an expression describes; its operators `-`, `&`, `^`, `|` are those of Python's sets.

        Raises:
            ArgumentError: not an expression, with the position, or a name without a set; `what` begins the message.
        """

@final
class StopToken:
    """A context manager: calls of this thread inside it stop when another thread calls `stop`, or when time is over.

    A stopped call raises `StoppedError`, within some 20 ms on a machine that is not overloaded. Calls of less than a
    millisecond may end first. Tokens nest: the innermost counts.
    """

    def __new__(cls, seconds: float | None = None) -> StopToken:
        """Make a token.

        Args:
            seconds: calls stop so many seconds after the token was made; None never.

        Raises:
            ArgumentError: `seconds` is NaN.
            TypeError: `seconds` is not a number.
        """
    @property
    def stopped(self) -> bool:
        """Whether calls stop: `stop` was called, or time is over."""
    def stop(self) -> None:
        """Stop the calls inside this token; any thread may call it."""
    def __enter__(self) -> StopToken: ...
    def __exit__(self, _type: Any, _value: Any, _traceback: Any, /) -> None: ...

@final
class Sampler:
    """Negative sampling: the shuffled batches of an epoch, every interaction once with its sampled negatives.

    Negatives are independent, never items that the user has, and uniform but for preferred dislikes. An epoch is a
    function of its seed: any part of it can be drawn at any time, by any number of threads. Users who have every item
    are left out. Immutable: any number of threads may share one.
    """

    def __new__(
        cls,
        user_items: _Rows,
        num_items: SupportsIndex,
        *,
        negatives: SupportsIndex,
        labels: bool,
        dislikes: _Rows | None = None,
        dislike_share: float = 0.0,
    ) -> Sampler:
        """Make a sampler.

        Args:
            user_items: the interactions, one row for each user: scipy CSR or `(indptr, indices)`.
            num_items: number of items.
            negatives: negatives for each interaction, 1 to 2^20.
            labels: True makes each negative a sample of its own, so that a sample is a user, an item and a label. False
                keeps them together: a sample is a user, an item, and the negatives.
            dislikes: items that users dislike, rows like `user_items` and without an item of those; None for none.
            dislike_share: of the negatives of a user with dislikes, the share that is sampled from them, 0 to 1.

        Raises:
            OutOfRangeError: an item outside the catalogue.
            ArgumentError: another argument is invalid, or no user has an item and lacks one.
            TypeError: not rows of integers.
            MemoryError: the interactions do not fit in memory.
        """
    def __len__(self) -> int:
        """Number of samples in an epoch: of interactions, or with labels of interactions and negatives."""
    def draw(
        self,
        seed: SupportsIndex,
        start: SupportsIndex,
        stop: SupportsIndex,
        *,
        batch_size: SupportsIndex,
        threads: int | None = None,
    ) -> NDArray[np.int32]:
        """Draw samples `start` to `stop - 1` of an epoch, in batches of `batch_size`; the last may have fewer.

        Args:
            seed: determines the epoch, 0 to 2^64 - 1.
            start: position of the first sample.
            stop: position after the last sample.
            batch_size: samples in a batch, B.
            threads: maximum number of threads; they change nothing else.

        Returns:
            int32, one dimension: batch after batch, each `[3, B]`, users, items and the bits of float32 labels, or
            `[2 + negatives, B]`.

        Raises:
            ArgumentError: positions outside the epoch, or another invalid argument.
            TypeError: not an integer.
            MemoryError: the samples do not fit in memory.
        """

def open_model(
    path: str | PathLike[str],
    *,
    threads: int | None = None,
    isa: str | None = None,
    max_bytes: SupportsIndex | None = None,
    digest: str | None = None,
    index_digest: str | None = None,
) -> tuple[Scorer, Ids | None, Ids | None]:
    """Load a model with its external user and item ids, all of one generation; arguments as for `Scorer.load`.

    With `digest` and `index_digest`, raises ModelFormatError if the files or the index have changed since the model was
    pickled.
    """

def reopen(
    path: str | PathLike[str], digest: str, threads: int | None, isa: str | None, index_digest: str | None
) -> Scorer:
    """Load the model that was pickled; raises ModelFormatError if the files have changed since."""

def check_tensors(
    tensors: Mapping[str, ArrayLike],
    *,
    kind: Literal["gmf", "mlp", "neumf"] | None = None,
    history: Mapping[str, ArrayLike] | None = None,
) -> tuple[Literal["gmf", "mlp", "neumf"], dict[str, Any]]:
    """Validate tensors as the reader of model files does; return the kind and the sizes as config.json stores them.

    Args:
        tensors: float32 (or float16) arrays under the names of the model format.
        kind: checked against the names; inferred from them if None.
        history: arrays under the names of history.safetensors, checked too.

    Raises:
        ModelFormatError: tensors are missing or unknown, their shapes disagree, or a score could overflow; `history`
            does not fit them.
        ArgumentError: an unknown `kind`.
        TypeError: not an array of float32 or float16.
    """

def read_features(
    path: str | PathLike[str],
) -> (
    tuple[
        str,
        dict[
            Literal["user", "item"],
            tuple[
                list[tuple[str, Literal["category", "multi", "number"], list[str], float, float]],
                NDArray[np.float32] | None,
                NDArray[np.float32] | None,
            ],
        ],
    ]
    | None
):
    """Read what gives embeddings to users and items by their features alone, from a model directory.

    Returns:
        None without features.safetensors. Otherwise the model's id and, for each side that has features: its columns as
        tuples (name, kind, known values, mean, deviation), and the maps to GMF and to MLP embeddings, float32 `[F, G]`
        and `[F, M]`, each None if the model has no such embeddings.

    Raises:
        ModelFormatError: the file is not valid or belongs to another model.
        OSError: the model cannot be read.
    """

def read_weights(
    path: str | PathLike[str],
) -> tuple[str | None, dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]] | None, Ids | None, Ids | None]:
    """Read a model's id, its tensors, those of history.safetensors, and its external user and item ids.

    Tensors have the names of the model format; all are of one generation. A single file has no history and no ids, and
    may lack an id.

    Raises:
        ModelFormatError: the model is not valid.
        OSError: the model cannot be read.
        MemoryError: the weights do not fit in memory.
    """

def check_memory(what: str, bytes: int) -> None:
    """Check that `bytes` are free on this machine and in this process's cgroup, before `what` is built.

    Raises:
        MemoryError: they are not; the message has both numbers.
        OverflowError: `bytes` is negative or not below 2**64.
    """

def publish(staging: str | PathLike[str], target: str | PathLike[str]) -> None:
    """Move the complete directory `staging` to `target` atomically, flush it to disk, and remove the old directory."""

def machine() -> dict[str, Any]:
    """Describe this machine: `isa` (chosen), `supported` (list), `threads`, `cpu_features` (a dict)."""

"""`exclude`, `allow`, `deny`: a filtered item is never returned, by any method or combination of filters."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp

from conftest import ISAS, random_rows
from neuralcf import ArgumentError, OutOfRangeError, Scorer, UserVectors
from reference import Shape, best, random_tensors, ranks

U, I = 9, 101  # noqa: E741 - users and items of `small`
USERS = np.array([4, 0, 8, 4, 2, 7])
ITEMS = np.array([0, 100, 50, 33, 16, 15])
B = len(USERS)


def rows_of(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([[0], cells.sum(axis=1).cumsum()]), np.nonzero(cells)[1]


def cells_of(indptr: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return sp.csr_array((np.ones(len(indices)), indices, indptr), shape=(len(indptr) - 1, I)).toarray() > 0


def untidy(cells: np.ndarray) -> sp.csr_matrix:
    """Return the same matrix with unsorted rows, duplicates, and explicit zeros."""
    indptr, indices = rows_of(cells)
    pieces = [np.tile(indices[a:b][::-1], 2) for a, b in pairwise(indptr)]
    indices = np.concatenate(pieces)
    matrix = sp.csr_matrix((np.zeros(len(indices)), indices, 2 * indptr), shape=cells.shape)
    assert not matrix.has_sorted_indices
    return matrix


def of_row(argument: object, row: int) -> object:
    """Return the filter of a single row."""
    if sp.issparse(argument):
        return argument[[row]]
    if isinstance(argument, tuple) and argument:
        indptr, indices = argument
        return [0, indptr[row + 1] - indptr[row]], indices[indptr[row] : indptr[row + 1]]
    return argument


CELLS = cells_of(*random_rows(B, I, 0.4, seed=1))
CELLS[2] = True  # a full row
CELLS[3] = False  # an empty row
CANDIDATES = cells_of(*random_rows(B, I, 0.2, seed=2))
CANDIDATES[1] = False
SEEN = cells_of(*random_rows(U, I, 0.3))[USERS]
FEW, MANY = np.array([100, 3, 16, 3, 15, 0]), np.flatnonzero(np.arange(I) % 7)
few, many = np.isin(np.arange(I), FEW), np.isin(np.arange(I), MANY)
NONE = np.zeros(I, bool)

# name: (arguments, mask of the items that remain in each row)
CASES = {
    "nothing": ({}, ~NONE),
    "exclude csr_array": ({"exclude": sp.csr_array(CELLS)}, ~CELLS),
    "exclude csr_matrix": ({"exclude": sp.csr_matrix(CELLS)}, ~CELLS),
    "exclude untidy csr": ({"exclude": untidy(CELLS)}, ~CELLS),
    "exclude (indptr, indices)": ({"exclude": rows_of(CELLS)}, ~CELLS),
    "exclude lists": ({"exclude": tuple(part.tolist() for part in rows_of(CELLS))}, ~CELLS),
    "exclude nothing": ({"exclude": sp.csr_array((B, I))}, ~NONE),
    "exclude everything": ({"exclude": rows_of(np.ones((B, I), bool))}, NONE),
    "exclude seen": ({"exclude": "seen"}, ~SEEN),
    "allow few": ({"allow": FEW}, few),
    "allow few as list": ({"allow": FEW.tolist()}, few),
    "allow few as mask": ({"allow": few}, few),
    "allow many": ({"allow": MANY}, many),
    "allow many as mask": ({"allow": np.repeat(many, 2)[::2]}, many),
    "allow none": ({"allow": []}, NONE),
    "allow none as mask": ({"allow": NONE}, NONE),
    "allow all": ({"allow": range(I)}, ~NONE),
    "allow candidates": ({"allow": sp.csr_array(CANDIDATES)}, CANDIDATES),
    "allow untidy candidates": ({"allow": untidy(CANDIDATES)}, CANDIDATES),
    "allow candidate lists": ({"allow": rows_of(CANDIDATES)}, CANDIDATES),
    "deny few": ({"deny": FEW}, ~few),
    "deny many": ({"deny": many}, ~many),
    "deny none": ({"deny": ()}, ~NONE),
    "deny all": ({"deny": ~NONE}, NONE),
    "allow and deny": ({"allow": MANY, "deny": FEW}, many & ~few),
    "allow, deny, exclude": ({"allow": many, "deny": few, "exclude": rows_of(CELLS)}, many & ~few & ~CELLS),
    "few, exclude": ({"allow": few, "exclude": "seen"}, few & ~SEEN),
    "candidates, deny, exclude": (
        {"allow": rows_of(CANDIDATES), "deny": FEW, "exclude": "seen"},
        CANDIDATES & ~few & ~SEEN,
    ),
}


@pytest.fixture(scope="module")
def logits(small: Scorer) -> np.ndarray:
    return np.array([small.score_batch(user, np.arange(I), logits=True) for user in USERS])


@pytest.mark.parametrize("case", CASES)
def test_a_filtered_item_is_never_returned(small: Scorer, logits: np.ndarray, case: str) -> None:
    arguments, kept = CASES[case]
    kept = np.broadcast_to(kept, (B, I))
    for k in (1, 5, I, I + 9):
        ids, scores = best(logits, kept, k)
        top = small.top_k(USERS, k, logits=True, **arguments)
        assert top.ids.tolist() == ids.tolist()
        assert top.scores.tolist() == scores.tolist()
        probabilities = small.top_k(USERS, k, **arguments)
        assert probabilities.ids.tolist() == ids.tolist()
        assert (np.isneginf(probabilities.scores) == (ids < 0)).all()
    assert small.rank_of(USERS, ITEMS, **arguments).tolist() == ranks(logits, kept, ITEMS).tolist()


@pytest.mark.parametrize("case", CASES)
def test_filters_apply_to_a_single_user(small: Scorer, logits: np.ndarray, case: str) -> None:
    arguments, kept = CASES[case]
    for row, user in enumerate(USERS):
        mine = {name: of_row(value, row) for name, value in arguments.items()}
        ids, scores = best(logits[row : row + 1], np.broadcast_to(kept, (B, I))[row : row + 1], 12)
        top = small.top_k(user, 12, logits=True, **mine)
        assert top.ids.tolist() == ids[0].tolist()
        assert top.scores.tolist() == scores[0].tolist()


def test_filters_apply_to_user_vectors(small: Scorer, logits: np.ndarray) -> None:
    vectors = small.user_vectors(USERS)
    top = small.top_k(vectors, 20, exclude=rows_of(CELLS), allow=many)
    assert top.ids.tolist() == best(logits, many & ~CELLS, 20)[0].tolist()
    with pytest.raises(ArgumentError, match='exclude: "seen" needs users of the model, got user vectors'):
        small.top_k(vectors, exclude="seen")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("share", [0.001, 0.3, 0.9])
def test_filters_apply_if_threads_share_the_catalogue(isa: str, share: float) -> None:
    shape = Shape(3, 30_001, g=4, mlp=(2, 2), layers=(16, 8))
    scorer = Scorer.from_tensors(random_tensors(shape), isa=isa)
    users, items = np.array([2, 0]), np.array([30_000, 7])
    logits = np.array([scorer.score_batch(user, np.arange(shape.items), logits=True) for user in users])
    random = np.random.default_rng(3)
    allow, excluded = random.random(shape.items) < share, random.random((2, shape.items)) < 0.3
    kept = allow & ~excluded
    for threads in (1, 2):
        for k in (10, 3000):
            top = scorer.top_k(users, k, allow=allow, exclude=rows_of(excluded), threads=threads)
            assert (top.ids == best(logits, kept, k)[0]).all()
        found = scorer.rank_of(users, items, allow=allow, exclude=rows_of(excluded), threads=threads)
        assert found.tolist() == ranks(logits, kept, items).tolist()


def test_filters_without_users(small: Scorer) -> None:
    no_rows = ([0], [])
    assert small.top_k([], 4, exclude=no_rows, allow=no_rows).ids.shape == (0, 4)
    assert small.rank_of([], [], exclude=sp.csr_array((0, I))).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"exclude": sp.csc_array(CELLS)}, TypeError, r"exclude: expected compressed sparse rows, got format .*csc"),
        ({"exclude": sp.coo_array(CELLS)}, TypeError, r"exclude: .*coo.*\.tocsr\(\)"),
        ({"allow": sp.csc_matrix(CELLS)}, TypeError, r"allow: .*csc"),
        ({"exclude": sp.csr_array(CELLS[:-1])}, ArgumentError, "exclude: expected one row for each of 6 users, got 5"),
        ({"allow": sp.csr_array(CELLS[:-1])}, ArgumentError, "allow: expected one row for each of 6 users, got 5"),
        ({"exclude": sp.csr_array(CELLS[:, 1:])}, ArgumentError, "exclude: .* each of 101 items, got 100"),
        ({"allow": sp.csr_array((B, I + 1))}, ArgumentError, "allow: .* each of 101 items, got 102"),
        ({"exclude": ([0] * B, [])}, ArgumentError, "exclude: expected one row for each of 6 users, got 5"),
        ({"exclude": ([], [])}, ArgumentError, "exclude: indptr is empty"),
        ({"exclude": ([0, 2, 1, 1, 1, 1, 1], [0])}, ArgumentError, "indptr decreases at row 1, from 2 to 1"),
        ({"exclude": ([0, 1, 1, 1, 1, 1, 2], [0])}, ArgumentError, "from 0 to the number of indices, 1; got 0 to 2"),
        ({"exclude": ([1, 1, 1, 1, 1, 1, 1], [0])}, ArgumentError, "got 1 to 1"),
        ({"exclude": ([0, -1, 1, 1, 1, 1, 1], [0])}, ArgumentError, r"exclude.indptr\[1\]: .*at least 0, got -1"),
        ({"exclude": ([0, 1, 1, 1, 1, 1, 1], [I])}, OutOfRangeError, r"exclude.indices\[0\]: .*101.* 101 items"),
        ({"exclude": ([0, 1, 1, 1, 1, 1, 1], [-1])}, OutOfRangeError, r"exclude.indices\[0\]: .*-1"),
        ({"exclude": ([0.0] * (B + 1), [])}, TypeError, r"exclude.indptr\[0\]: expected an integer, got float"),
        ({"exclude": [1, 2]}, TypeError, r"exclude: expected scipy CSR, \(indptr, indices\) or \"seen\", got list"),
        ({"exclude": CELLS}, TypeError, r"exclude: .*got an array of bool"),
        ({"exclude": 3}, TypeError, "exclude: .*got int"),
        ({"exclude": "SEEN"}, ArgumentError, 'exclude: expected "seen" or CSR rows, got "SEEN"'),
        ({"allow": [I]}, OutOfRangeError, r"allow\[0\]: item index 101 is out of range for 101 items"),
        ({"deny": [0, -1]}, OutOfRangeError, r"deny\[1\]: item index -1 is out of range for 101 items"),
        ({"allow": few[1:]}, ArgumentError, "allow: .*one value for each of 101 items, got 100"),
        ({"deny": CELLS}, ArgumentError, r"deny: expected one dimension, got shape \[6, 101\]"),
        ({"allow": [True, False]}, TypeError, r"allow\[0\]: expected an integer, got bool"),
        ({"allow": [1.0]}, TypeError, r"allow\[0\]: expected an integer, got float"),
        ({"allow": FEW.astype(float)}, TypeError, "allow: expected an integer dtype, got float64"),
        ({"allow": 5}, TypeError, "allow: expected an array or a list of integers, got int"),
        (
            {"deny": sp.csr_array(CELLS)},
            TypeError,
            "deny: .*or a boolean mask; use exclude for CSR rows",
        ),
        ({"deny": rows_of(CELLS)}, TypeError, "deny: .*or a boolean mask; use exclude for CSR rows"),
    ],
)
@pytest.mark.parametrize("method", ["top_k", "rank_of"])
def test_wrong_filters_are_rejected(
    small: Scorer, method: str, arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    pairs = (USERS,) if method == "top_k" else (USERS, ITEMS)
    with pytest.raises(error, match=message):
        getattr(small, method)(*pairs, **arguments)


def test_a_filter_never_switches_itself_off(scorer_of: Callable[..., Scorer]) -> None:
    scorer = scorer_of([1, 2, 3])
    for call in (lambda: scorer.top_k(0, exclude="seen"), lambda: scorer.rank_of(0, [1], exclude="seen")):
        with pytest.raises(ArgumentError, match='"seen" needs stored interactions, and this model was saved without'):
            call()


def test_approximate_search_without_an_index_is_an_error(small: Scorer) -> None:
    assert small.top_k(0, 3, search="exact").ids.tolist() == small.top_k(0, 3).ids.tolist()
    with pytest.raises(ArgumentError, match="needs an index, and this model has none"):
        small.top_k(0, search="approximate")
    with pytest.raises(ArgumentError, match='expected "exact" or "approximate", got "fast"'):
        small.top_k(0, search="fast")


def test_only_the_real_class_counts_as_user_vectors(small: Scorer) -> None:
    gmf, mlp = small.user_vectors([1])
    with pytest.raises(TypeError):
        small.top_k((gmf, mlp))
    assert small.top_k(UserVectors(gmf, mlp), 3).ids.shape == (1, 3)

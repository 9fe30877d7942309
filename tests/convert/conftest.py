"""What the tests beside real libraries share: data, the comparison, and the table of what was found."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

import neuralcf
from neuralcf.convert import Converted

ROOT = Path(__file__).resolve().parents[2]
K = 10
"""Length of the lists that are compared."""


@pytest.fixture(scope="session")
def user_items() -> scipy.sparse.csr_matrix:
    """Interactions of 120 users with 80 items in groups, each row and column with at least one: float32 CSR."""
    rng = np.random.default_rng(7)
    taste = rng.random((120, 3)) @ rng.random((3, 80))
    chosen = rng.random(taste.shape) < taste / taste.max() * 0.3
    chosen[np.arange(120), np.arange(120) % 80] = True
    return scipy.sparse.csr_matrix(chosen.astype(np.float32))


@pytest.fixture
def triples(user_items: scipy.sparse.csr_matrix) -> list[tuple[str, str, float]]:
    """The same as (user, item, rating from 1 to 5), in a shuffled order."""
    rng = np.random.default_rng(1)
    pairs = user_items.tocoo()
    order = rng.permutation(pairs.nnz)
    ratings = rng.integers(1, 6, pairs.nnz).astype(float)
    return [(f"u{pairs.row[at]}", f"i{pairs.col[at]}", ratings[at]) for at in order]


@pytest.fixture
def compare(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., None]:
    """Compare a conversion with the library, and add a row to the table.

    Its arguments: the conversion; the library's scores of all pairs, `[U, I]` in the order of its rows; the library's
    own lists of item ids of length K, where it makes lists; whether the scores are probabilities; and whether lists
    leave out what was seen.
    """

    def compare(
        library: str,
        model: str,
        converted: Converted,
        scores: np.ndarray,
        lists: list[list[object]] | None = None,
        *,
        probabilities: bool = False,
        exclude_seen: bool = False,
    ) -> None:
        converted.save(tmp_path / "compared")
        recommender = neuralcf.Recommender.load(tmp_path / "compared")
        users, items = (np.arange(count) for count in (recommender.num_users, recommender.num_items))
        assert scores.shape == (len(users), len(items))
        found = recommender.scorer.score_batch(
            np.repeat(users, len(items)), np.tile(items, len(users)), logits=not probabilities
        )
        scale = max(1.0, float(np.abs(scores).max()))
        difference = float(np.abs(found.reshape(scores.shape) - scores).max()) / scale
        assert difference <= 1e-5, f"{library} {model}: {difference}"
        assert scores.std() > 1e-4, "scores that do not differ show nothing"

        item_ids = recommender.item_ids.take(items)
        if lists is None:  # the library has scores alone: its lists are those
            order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
            lists = [[item_ids[item] for item in row] for row in order]
        top = recommender.recommend(recommender.user_ids.take(users), K, exclude_seen=exclude_seen, logits=True)
        equal = 0
        place = {id_: at for at, id_ in enumerate(item_ids)}
        for user, theirs in enumerate(lists):
            ours = list(top.ids[user, : len(theirs)])
            equal += ours == list(theirs)
            # where a list differs, the library scores both items the same up to rounding
            swapped = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
            apart = [abs(scores[user, place[a]] - scores[user, place[b]]) for a, b in swapped]
            assert max(apart, default=0) <= 2e-6 * scale, f"{library} {model}: user {user}: {ours}, expected {theirs}"
        row = f"| {library} | {model} | {difference:.1e} | {equal} of {len(lists)} |\n"
        name = Path(request.node.fspath).stem.removeprefix("test_")
        (ROOT / "build" / "convert").mkdir(parents=True, exist_ok=True)
        with (ROOT / "build" / "convert" / f"{name}.md").open("a") as table:
            table.write(row)

    return compare

"""The NCF authors' weights for MovieLens-1M: logits against float64, ranks, HR@10 and NDCG@10.

Neither weights nor data may be copied into the project; the tests are skipped if they are missing.
"""

import gzip
from typing import NamedTuple

import numpy as np
import pytest

from conftest import DATA, ISAS
from neuralcf import Scorer

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"real data and weights are not in {DATA}")

# HR@10 and NDCG@10 of the held-out item among its 99 negatives, to six digits.
METRICS = {"gmf8": (0.636755, 0.369085), "mlp8": (0.671026, 0.396254), "neumf8_init": (0.671026, 0.396939)}


class Candidates(NamedTuple):
    """For each user, one row: the held-out item, and the distinct items that it is ranked among."""

    positives: np.ndarray
    rivals: list[list[int]]

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """CSR rows of held-out items together with their rivals."""
        rows = [sorted([positive, *rivals]) for positive, rivals in zip(self.positives, self.rivals, strict=True)]
        return np.concatenate([[0], np.cumsum([len(row) for row in rows])]), np.concatenate(rows)


@pytest.fixture(scope="module")
def candidates() -> Candidates:
    folder = DATA / "ml-1m"
    with gzip.open(folder / "ml-1m.test.negative.gz", "rt") as file:
        lines = [line.split() for line in file]
    pairs = [tuple(map(int, line[0].strip("()").split(","))) for line in lines]
    assert [user for user, _ in pairs] == list(range(6040))
    positives = np.array([item for _, item in pairs])
    # For some users the held-out item is among its own negatives; it counts once.
    rivals = [sorted(set(map(int, line[1:])) - {positive}) for line, positive in zip(lines, positives, strict=True)]
    return Candidates(positives, rivals)


def oracle(name: str) -> dict[str, np.ndarray]:
    with np.load(DATA / "ncf-weights" / f"{name}.oracle.npz") as file:
        return dict(file)


@pytest.fixture(scope="module", params=METRICS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def scorer(name: str) -> Scorer:
    return Scorer.load(DATA / "ncf-weights" / f"{name}.safetensors")


def metrics(ranks: np.ndarray) -> tuple[float, float]:
    """Compute HR@10 and NDCG@10 of ranks that start at 0."""
    hits = ranks < 10
    return round(float(hits.mean()), 6), round(float((hits / np.log2(ranks + 2)).mean()), 6)


@pytest.mark.parametrize("isa", ISAS)
def test_logits_and_probabilities_match_float64(name: str, isa: str) -> None:
    scorer, expected = Scorer.load(DATA / "ncf-weights" / f"{name}.safetensors", isa=isa), oracle(name)
    assert (scorer.num_users, scorer.num_items) == (6040, 3706)
    logits = scorer.score_batch(expected["user"], expected["item"], logits=True)
    assert len(logits) == 2000
    assert (np.abs(logits - expected["logit"]) <= 1e-5 * np.maximum(1, np.abs(expected["logit"]))).all()
    assert np.abs(scorer.score_batch(expected["user"], expected["item"]) - expected["prob"]).max() <= 1e-6


def test_ranks_and_metrics_are_the_published_ones(name: str, scorer: Scorer, candidates: Candidates) -> None:
    ranks = scorer.rank_of(np.arange(6040), candidates.positives, allow=candidates.rows())
    assert (ranks == oracle(name)["test_rank"]).all()
    assert metrics(ranks) == METRICS[name]


def test_score_batch_gives_the_same_metrics(name: str, scorer: Scorer, candidates: Candidates) -> None:
    indptr, items = candidates.rows()
    users = np.repeat(np.arange(6040), np.diff(indptr))
    logits = scorer.score_batch(users, items, logits=True)
    own = scorer.score_batch(np.arange(6040), candidates.positives, logits=True)
    rivals = (logits >= own[users]) & (items != candidates.positives[users])
    assert metrics(np.bincount(users[rivals], minlength=6040)) == METRICS[name]


def test_top_k_gives_the_same_hits(name: str, scorer: Scorer, candidates: Candidates) -> None:
    top = scorer.top_k(np.arange(6040), 10, allow=candidates.rows())
    hits = (top.ids == candidates.positives[:, None]).any(axis=1)
    assert round(float(hits.mean()), 6) == METRICS[name][0]

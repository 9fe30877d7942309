"""The graph filter against dense float64 linear algebra."""

import numpy as np
import pytest

from matrices import dataset_of, matrix_with_edges
from neuralcf import ArgumentError
from neuralcf.baselines import GraphFilter


@pytest.fixture
def matrix():
    return matrix_with_edges()


def graph_of(matrix):
    by_user, by_item = (np.maximum(matrix.sum(axis=axis), 1) for axis in (1, 0))
    normal = by_user[:, None] ** -0.5 * matrix * by_item**-0.5
    return normal.T @ normal, by_user[:, None] ** -0.5


@pytest.mark.parametrize("neighbours", [4, 17, 500])
def test_scores_are_those_of_the_pruned_dense_graph(matrix, neighbours):
    graph, scale = graph_of(matrix)
    for row in graph:
        row[np.argsort(-row, kind="stable")[neighbours:]] = 0
    model = GraphFilter(dataset_of(matrix), neighbours=neighbours)
    assert model.scores(np.arange(30)) == pytest.approx(scale * (matrix @ graph), abs=1e-6)


def test_a_sample_of_long_histories_stands_for_them(matrix):
    """On average over seeds; off the diagonal, where a pair is what is sampled."""
    expected, _ = graph_of(matrix)
    graphs = np.zeros((17, 17))
    for seed in range(300):
        model = GraphFilter(dataset_of(matrix), neighbours=17, longest=4, seed=seed)
        np.add.at(graphs, (np.arange(17)[:, None], model.neighbours), model.weights / 300)
    np.fill_diagonal(graphs, 0)
    np.fill_diagonal(expected, 0)
    assert np.abs(graphs - expected).max() < 0.1 * expected.max()
    assert graphs.sum() == pytest.approx(expected.sum(), rel=0.02)


def test_wrong_settings_are_refused(matrix):
    for setting, value in (("neighbours", 0), ("longest", 1)):
        with pytest.raises(ArgumentError, match=f"{setting}: expected an integer >= "):
            GraphFilter(dataset_of(matrix), **{setting: value})

"""Interaction matrices for tests, and data sets from them."""

import numpy as np

from neuralcf.data import Dataset


def dataset_of(matrix):
    """Make the data set of a binary matrix [U, I]; ids are 0, 1, 2, ..."""
    users, items = np.nonzero(matrix)
    return Dataset(users, items, None, np.arange(matrix.shape[0]), np.arange(matrix.shape[1]))


def matrix_with_edges():
    """Binary interactions [30, 17]; the last user and the last item have none, one user has every other item."""
    matrix = (np.random.default_rng(0).random((30, 17)) < 0.3).astype(float)
    matrix[5] = 1
    matrix[-1] = matrix[:, -1] = 0
    return matrix

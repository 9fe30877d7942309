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


def two_tastes(users=40, items=16):
    """Half the users take most of the even items, the others of the odd ones; the last user has nothing."""
    likes = (np.arange(users)[:, None] + np.arange(items)) % 2 == 0
    matrix = likes & (np.random.default_rng(0).random((users, items)) < 0.7)
    matrix[-1] = False
    return matrix

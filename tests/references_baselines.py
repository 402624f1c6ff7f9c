"""Naive dense versions, in float64, of the linear baselines; written for reading.

They share no code with the library. Matrices are users × items with 0 and 1; each function returns W [items, items],
of which a row of the matrix times W is a user's scores, unless it says otherwise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Matrix = NDArray[np.float64]


def similarities(rows: Matrix, shrinkage: float) -> Matrix:
    """Shrunk cosine of each pair of rows, 0 on the diagonal and where nothing is in common."""
    result = np.zeros((len(rows), len(rows)))
    for one, ours in enumerate(rows):
        for other, theirs in enumerate(rows):
            common = sum(a and b for a, b in zip(ours, theirs, strict=True))
            if one != other and common:
                result[one, other] = common / (np.sqrt(ours.sum() * theirs.sum()) + shrinkage)
    return result


def keep_largest(matrix: Matrix, count: int) -> Matrix:
    """The `count` largest entries of each row; of equal ones the first."""
    result = np.zeros(matrix.shape)
    for row, values in enumerate(matrix):
        for column in sorted(range(len(values)), key=lambda column: (-values[column], column))[:count]:
            result[row, column] = values[column]
    return result


def item_knn(matrix: Matrix, neighbours: int, shrinkage: float, normalise: bool, of: str) -> Matrix:
    """The neighbours are those of the items of the history, of the rows of W (Deshpande and Karypis 2004), or those of
    the candidates, of its columns (Sarwar et al. 2001)."""
    alike = similarities(matrix.T, shrinkage)
    weights = keep_largest(alike, neighbours) if of == "history" else keep_largest(alike.T, neighbours).T
    return _with_sum_1(weights) if normalise else weights


def user_knn(matrix: Matrix, neighbours: int, shrinkage: float, of: str) -> Matrix:
    """Scores [users, items]. The neighbours are those of the user scored, or those who have this user among theirs."""
    near = keep_largest(similarities(matrix, shrinkage), neighbours)
    return (near if of == "user" else near.T) @ matrix


def rp3beta(matrix: Matrix, neighbours: int, alpha: float, beta: float, normalise: bool) -> Matrix:
    """Walk by walk (Paudel et al. 2017)."""
    num_users, num_items = matrix.shape
    weights = np.zeros((num_items, num_items))
    for start in range(num_items):
        for user in range(num_users):
            for end in range(num_items):
                if start != end and matrix[user, start] and matrix[user, end]:
                    to_user = (1 / matrix[:, start].sum()) ** alpha
                    to_item = (1 / matrix[user].sum()) ** alpha
                    weights[start, end] += to_user * to_item / matrix[:, end].sum() ** beta
    weights = keep_largest(weights, neighbours)
    return _with_sum_1(weights) if normalise else weights


def _with_sum_1(weights: Matrix) -> Matrix:
    return np.array([row / row.sum() if row.any() else row for row in weights])


def puresvd(matrix: Matrix, factors: int) -> Matrix:
    """V Vᵀ from a full singular value decomposition."""
    right = np.linalg.svd(matrix)[2][:factors]
    return right.T @ right


def ease(matrix: Matrix, l2: float) -> Matrix:
    """A ridge regression of each item on all the others, without the closed form."""
    num_items = matrix.shape[1]
    weights = np.zeros((num_items, num_items))
    for item in range(num_items):
        others = [other for other in range(num_items) if other != item]
        columns = matrix[:, others]
        system = columns.T @ columns + l2 * np.eye(len(others))
        weights[others, item] = np.linalg.solve(system, columns.T @ matrix[:, item])
    return weights


def slim(matrix: Matrix, l1: float, l2: float) -> Matrix:
    """The elastic net of each item on all the others, as a least squares problem for an active set method.

    With G + l2 = L Lᵀ the objective is ½ ‖Lᵀw - L⁻¹(g - l1)‖² and a constant.
    """
    num_items = matrix.shape[1]
    weights = np.zeros((num_items, num_items))
    for item in range(num_items):
        others = [other for other in range(num_items) if other != item]
        columns = matrix[:, others]
        root = np.linalg.cholesky(columns.T @ columns + l2 * np.eye(len(others)))
        weights[others, item] = nnls(root.T, np.linalg.solve(root, columns.T @ matrix[:, item] - l1))[0]
    return weights

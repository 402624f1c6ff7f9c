"""Naive dense versions, in float64, of the baselines that factorise or filter; written for reading.

They share no code with the library. Matrices are users × items with 0 and 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def ials_loss(matrix: Matrix, users: Matrix, items: Matrix, l2: float, unobserved: float, exponent: float) -> float:
    """The loss that iALS lowers, pair by pair (Rendle et al. 2021)."""
    loss = 0.0
    for user in range(len(matrix)):
        for item in range(matrix.shape[1]):
            score = float(users[user] @ items[item])
            loss += matrix[user, item] * (score - 1) ** 2 + unobserved * score**2
    for table, degrees, others in ((users, matrix.sum(1), len(items)), (items, matrix.sum(0), len(users))):
        for row, degree in zip(table, degrees, strict=True):
            loss += l2 * (degree + unobserved * others) ** exponent * float(row @ row)
    return loss


def ials_half(matrix: Matrix, table: Matrix, l2: float, unobserved: float, exponent: float) -> Matrix:
    """The best row vectors for given column vectors: one linear system for each row."""
    solved = np.zeros((len(matrix), table.shape[1]))
    for row, seen in enumerate(matrix):
        system = np.zeros((table.shape[1], table.shape[1]))
        right = np.zeros(table.shape[1])
        for column, vector in enumerate(table):
            system += (seen[column] + unobserved) * np.outer(vector, vector)
            right += seen[column] * vector
        system += l2 * (seen.sum() + unobserved * len(table)) ** exponent * np.eye(table.shape[1])
        solved[row] = np.linalg.solve(system, right)
    return solved


def normalised(matrix: Matrix, user_exponent: float = 0.5) -> Matrix:
    """Dᵤ^-a R Dᵢ^(a-1), entry by entry."""
    result = np.zeros(matrix.shape)
    for user, item in np.argwhere(matrix):
        users_of_item, items_of_user = matrix[:, item].sum(), matrix[user].sum()
        result[user, item] = items_of_user**-user_exponent * users_of_item ** (user_exponent - 1)
    return result


def ideal(matrix: Matrix, factors: int) -> Matrix:
    """Dᵢ^-½ V Vᵀ Dᵢ^½ with V from a full singular value decomposition; items nobody has are 0."""
    right = np.linalg.svd(normalised(matrix))[2][:factors]
    degrees = matrix.sum(0)
    down = np.array([degree**-0.5 if degree else 0.0 for degree in degrees])
    return np.diag(down) @ right.T @ right @ np.diag(degrees**0.5)


def gfcf(matrix: Matrix, factors: int, weight: float) -> Matrix:
    """Scores of GF-CF (Shen et al. 2021)."""
    filtered = normalised(matrix)
    return matrix @ (filtered.T @ filtered + weight * ideal(matrix, factors))


def turbo_cf(matrix: Matrix, alpha: float, power: float, coefficients: tuple[float, ...]) -> Matrix:
    """Scores of Turbo-CF (Park et al. 2024)."""
    filtered = normalised(matrix, alpha)
    graph = (filtered.T @ filtered) ** power
    return matrix @ sum(
        coefficient * np.linalg.matrix_power(graph, 1 + number) for number, coefficient in enumerate(coefficients)
    )


def bspm(
    matrix: Matrix, factors: int, weight: float, time: float, steps: int, solver: str, early: bool, average: bool
) -> Matrix:
    """Scores of BSPM (Choi et al. 2023), by solvers that know nothing of the equations being linear."""
    filtered = normalised(matrix)
    graph = filtered.T @ filtered
    passed = weight * matrix @ ideal(matrix, factors)
    blurred = matrix + (matrix @ graph - matrix)  # one Euler step of length 1
    states = [blurred]
    state = blurred + passed if early else blurred
    for _ in range(steps):
        state = _step(lambda y: -y @ graph, state, time / steps, solver)
        states.append(state)
    result = sum(states) / len(states) if average else state
    return result if early else result + passed


def _step(slope, state: Matrix, length: float, solver: str) -> Matrix:
    """A step of Euler's method, or of the classical method of Runge and Kutta."""
    first = slope(state)
    if solver == "euler":
        return state + length * first
    second = slope(state + length / 2 * first)
    third = slope(state + length / 2 * second)
    fourth = slope(state + length * third)
    return state + length / 6 * (first + 2 * second + 2 * third + fourth)

"""User × item matrices for a ranking: relevant items, seen items and stored candidates.

A ranking of candidates, which are a few sampled negatives, may order models differently than a ranking of the whole
catalogue (Krichene & Rendle, "On Sampled Metrics for Item Recommendation", KDD 2020,
https://doi.org/10.1145/3394486.3403226). It is supported for comparison with published figures. Candidates come with a
dataset and are never sampled here; each metric's name includes their number of negatives.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from scipy import sparse
from torch import Tensor

from recgraph.errors import DataError


def pattern(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """A boolean matrix that is True where `matrix` is not zero, without duplicates and with sorted columns."""
    found = sparse.csr_matrix(matrix, dtype=bool, copy=True)
    found.sum_duplicates()
    found.eliminate_zeros()
    return found


def check_disjoint(test: sparse.csr_matrix, seen: sparse.csr_matrix) -> None:
    """Check that no test item is masked as seen, which would be a leak between parts or the wrong mask.

    Raises:
        DataError: shapes differ, or a pair is in both matrices.
    """
    if test.shape != seen.shape:
        raise DataError(f"test is {test.shape}, seen is {seen.shape}: expected the same users × items")
    both = test.multiply(seen).tocoo()
    if both.nnz:
        raise DataError(
            f"{both.nnz} test pairs are also in seen, the first: user {both.row[0]}, item {both.col[0]}; "
            "expected parts that do not overlap"
        )


def count_negatives(candidates: sparse.csr_matrix, test: sparse.csr_matrix, seen: sparse.csr_matrix) -> int:
    """Number of candidates that are not relevant: the maximum over users with test items.

    Users have fewer where a stored negative happens to be their own test item.

    Args:
        candidates: users × items, made by `pattern` like the others.
        test: relevant items.
        seen: items never to recommend.

    Raises:
        DataError: shapes differ, a test item is not a candidate, a candidate was seen, or nobody has a negative.
    """
    if candidates.shape != test.shape:
        raise DataError(f"candidates are {candidates.shape}, test is {test.shape}: expected the same users × items")
    lost = (test > candidates).tocoo()
    if lost.nnz:
        raise DataError(
            f"{lost.nnz} test pairs are not among the candidates, the first: user {lost.row[0]}, item {lost.col[0]}"
        )
    both = candidates.multiply(seen).tocoo()
    if both.nnz:
        raise DataError(
            f"{both.nnz} candidates are also in seen, the first: user {both.row[0]}, item {both.col[0]}; "
            "expected items that are new to the user"
        )
    relevant = test.getnnz(axis=1)
    most = int((candidates.getnnz(axis=1) - relevant)[relevant > 0].max())
    if not most:
        raise DataError("candidates: nobody has one beside the test items; expected negatives")
    return most


def padded(candidates: sparse.csr_matrix) -> Int[Tensor, "users width"]:
    """Candidates of each user, ascending if columns are sorted; padded with -1 to the longest row, or to one."""
    counts = np.diff(candidates.indptr)
    items = np.full((len(counts), max(1, counts.max(initial=1))), -1, np.int64)
    items[np.arange(items.shape[1]) < counts[:, None]] = candidates.indices
    return torch.from_numpy(items)

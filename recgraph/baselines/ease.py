"""EASE: the optimal ridge-regularised linear model with a zero diagonal, in closed form.

Steck, "Embarrassingly shallow autoencoders for sparse data", 2019, https://arxiv.org/abs/1905.03375, equation 8: with
the Gram matrix G = RᵀR and P = (G + λI)⁻¹, the weights are B_ij = -P_ij / P_jj off the diagonal, and 0 on it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from recgraph.baselines.linear import LinearModel, binary
from recgraph.data.interactions import Interactions
from recgraph.environment import check_memory
from recgraph.errors import DataError
from recgraph.graph.sparse import SparseRows, dense_product
from recgraph.models.model import Scorer
from recgraph.registry import baselines
from recgraph.types import PositiveFloat

DOUBLE_UP_TO = 16384
"""Up to this many items P is computed in double precision, in 2 GiB and about a minute on two cores. Beyond it, single
precision halves both; it is accurate enough if λ is at least a millionth of the largest eigenvalue of G."""

CHUNK = 2**22
"""Numbers in a chunk of rows of G: 16 MB, see `evaluation.ranking.CHUNK_SCORES`."""

BLOCK = 512
"""Rows and columns in a swept block."""

PANEL = 2048
"""Rows updated at once; a multiple of `BLOCK`."""


@baselines.register("ease")
class EASE(LinearModel):
    """Ridge regression of each item on all others.

    Takes 4 bytes for each pair of items (12 up to 16,384 items) and items³ operations: Gowalla's 40,981 items take
    7.4 GB in all and 7 minutes on two cores.

    Args:
        l2: λ, above 0. The BARS benchmark found 80 for Gowalla and 300 for Yelp2018.
    """

    weights: Tensor

    def __init__(self, num_users: int, num_items: int, *, l2: PositiveFloat = 80.0) -> None:
        super().__init__(num_users, num_items)
        self.l2 = l2
        self.register_buffer("weights", torch.zeros(0, 0), persistent=False)

    def fit(self, train: Interactions) -> None:
        """Keep the histories and invert the Gram matrix in place.

        Raises:
            DataError: there is not enough memory, or `l2` is too small for the precision.
        """
        super().fit(train)
        double = self.num_items <= DOUBLE_UP_TO
        check_memory(self.num_items**2 * (12 if double else 4), f"ease: the weights of {self.num_items:,} items need")
        gram = _gram(*binary(train), torch.float64 if double else torch.float32)
        gram.diagonal().add_(self.l2)
        weights = _negated_inverse(gram, self.l2)
        weights.div_(-weights.diagonal())  # the negation makes a copy, so div_ does not change the divisor
        self.weights = weights.fill_diagonal_(0).float()

    def scorer(self) -> Scorer:
        """See `Model.scorer`."""
        return lambda users: self.rows(users) @ self.weights

    def contributions(self, user: int, item: int) -> Float[Tensor, "history"]:
        """See `LinearModel.contributions`."""
        history = self.rows(torch.tensor([user], device=self.device)).columns
        return self.weights[history.long(), item]


def _gram(by_user: SparseRows, by_item: SparseRows, dtype: torch.dtype) -> Float[Tensor, "items items"]:
    """RᵀR."""
    size = by_item.num_rows
    gram = torch.empty(size, size, dtype=dtype)
    right = by_user.csr(size)
    for rows in torch.arange(size).split(max(1, CHUNK // size)):
        gram[rows[0] : rows[-1] + 1] = dense_product(by_item.select(rows).csr(by_user.num_rows), right)
    return gram


def _negated_inverse(matrix: Float[Tensor, "n n"], l2: float) -> Float[Tensor, "n n"]:
    """-A⁻¹ of a positive definite matrix A, in place.

    The sweep operator (Goodnight, 1979, https://doi.org/10.1080/00031305.1979.10482685) by blocks in the lower
    triangle: n³ operations, as with LAPACK's potrf and potri. potrf of scipy 1.17.1 (OpenBLAS) crashes at 40,981 rows.
    """
    size = len(matrix)
    for start in range(0, size, BLOCK):
        pivot = slice(start, start + BLOCK)
        columns = torch.cat([matrix[pivot, :start].T, matrix[start:, pivot]])
        factor, failed = torch.linalg.cholesky_ex(columns[pivot].double())
        if failed:
            raise DataError(f"ease: l2 of {l2} is too small: the Gram matrix is singular to {matrix.dtype} precision")
        inverse = torch.cholesky_inverse(factor).to(matrix.dtype)
        swept = columns @ inverse
        for row in range(0, size, PANEL):
            matrix[row : row + PANEL, : row + PANEL].addmm_(
                columns[row : row + PANEL], swept[: row + PANEL].T, alpha=-1
            )
        matrix[pivot, :start] = swept[:start].T
        matrix[start:, pivot] = swept[start:]
        matrix[pivot, pivot] = -inverse
    for start in range(0, size, BLOCK):
        end = start + BLOCK
        for row in range(end, size, BLOCK):
            matrix[start:end, row : row + BLOCK] = matrix[row : row + BLOCK, start:end].T
    return matrix

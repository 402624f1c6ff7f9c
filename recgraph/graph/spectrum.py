"""The leading singular vectors of a sparse matrix, by block Lanczos.

A Krylov space of A Aᵀ grows by a block of vectors at a time, each orthogonal to all before, until its Ritz vectors have
converged (Golub and Van Loan, Matrix Computations, section 10.3.6). All work is in products with dense blocks: 256
singular vectors of Gowalla take 2.4 seconds on two cores; ARPACK, which goes vector by vector, takes 54.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from recgraph.graph.sparse import SparseRows
from recgraph.random import torch_generator

BLOCK = 32
"""Vectors in a block. Of 32 and 64 the faster on Gowalla: smaller blocks converge in a smaller space."""

SMALL = 1024
"""Up to this size, or four times the vectors wanted, the dense matrix is quicker to decompose than a space to grow."""

TOLERANCE = 1e-4
"""Residual ‖A Aᵀ u - σ² u‖ at which a vector has converged, relative to the largest σ²."""

NEGLIGIBLE = 1e-5
"""σ², relative to the largest, that is 0 but for rounding in single precision."""


def right_singular_vectors(matrix: SparseRows, transposed: SparseRows, count: int) -> Float[Tensor, "found columns"]:
    """The right singular vectors of the largest singular values, one per row, largest value first.

    Args:
        matrix: A.
        transposed: Aᵀ.
        count: number of vectors wanted; if the rank of A is lower, only as many as the rank are found.
    """
    wide = matrix.num_rows <= transposed.num_rows  # decompose the smaller Gram matrix
    squares, vectors = _leading(matrix, transposed, count) if wide else _leading(transposed, matrix, count)
    kept = squares > NEGLIGIBLE * squares[:1]
    squares, vectors = squares[kept], vectors[:, kept]
    if wide:
        vectors = (transposed @ vectors) / squares.sqrt()
    return vectors.T.contiguous()


def _leading(
    matrix: SparseRows, transposed: SparseRows, count: int
) -> tuple[Float[Tensor, "found"], Float[Tensor, "rows found"]]:
    """The largest eigenvalues of A Aᵀ, descending, and their vectors: `count`, or as many as there are."""
    size, device = matrix.num_rows, matrix.values.device
    if size <= max(SMALL, 4 * count):
        gram = matrix @ (transposed @ torch.eye(size, device=device))
        values, vectors = torch.linalg.eigh(gram.double())
        return values[-count:].flip(0).float(), vectors[:, -count:].flip(1).float()
    start = torch.randn(size, BLOCK, generator=torch_generator(0, "spectrum")).to(device)
    newest = torch.linalg.qr(start).Q
    basis = newest.T.contiguous()
    projection = torch.zeros(0, 0, device=device)  # of A Aᵀ onto the basis
    next_check = 2 * count
    while True:
        image = matrix @ (transposed @ newest.contiguous())
        inside = basis @ image
        newest, outside = torch.linalg.qr(image - basis.T @ inside)
        again = basis @ newest  # orthogonalise twice: once is inexact if little is left outside
        newest, correction = torch.linalg.qr(newest - basis.T @ again)
        inside, outside = inside + again @ outside, correction @ outside
        projection = torch.cat([F.pad(projection, (0, 0, 0, BLOCK)), inside], 1)
        if len(basis) >= next_check:
            values, vectors = torch.linalg.eigh(projection, UPLO="U")
            values, vectors = values[-count:].flip(0), vectors[:, -count:].flip(1)
            residuals = (outside @ vectors[-BLOCK:]).norm(dim=0)
            if residuals.max() <= TOLERANCE * values[0]:
                return values, basis.T @ vectors
            next_check = min(len(basis) * 5 // 4, size // BLOCK * BLOCK)
        basis = torch.cat([basis, newest.T])

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

PROBES = 2
"""Power iterations on a random block that looks for what the space has missed. One was enough for graphs of 100 to 300
components; without a block, the 128 largest σ² of a graph with 100 were 3 too little in all."""

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
        return _dense(matrix, transposed, count)
    generator = torch_generator(0, "spectrum")
    newest = torch.linalg.qr(torch.randn(size, BLOCK, generator=generator).to(device)).Q
    basis = newest.T.contiguous()
    projection = torch.zeros(0, 0, device=device)  # of A Aᵀ onto the basis
    next_check = 2 * count
    while len(basis) + newest.shape[1] <= size:
        width = newest.shape[1]
        image = matrix @ (transposed @ newest.contiguous())
        inside = basis @ image
        newest, outside = torch.linalg.qr(image - basis.T @ inside)
        again = basis @ newest  # orthogonalise twice: once is inexact if little is left outside
        newest, correction = torch.linalg.qr(newest - basis.T @ again)
        inside, outside = inside + again @ outside, correction @ outside
        projection = torch.cat([F.pad(projection, (0, 0, 0, width)), inside], 1)
        if len(basis) >= next_check:
            values, vectors = torch.linalg.eigh(projection, UPLO="U")
            values, vectors = values[-count:].flip(0), vectors[:, -count:].flip(1)
            residuals = (outside @ vectors[-width:]).norm(dim=0)
            if residuals.max() <= TOLERANCE * values[0]:
                missed = _missed(matrix, transposed, torch.cat([basis, newest.T]), values, generator)
                if missed is None:
                    return values, basis.T @ vectors
                newest = torch.cat([newest, missed], 1)
            next_check = len(basis) * 5 // 4
        basis = torch.cat([basis, newest.T])
    return _dense(matrix, transposed, count)


def _dense(
    matrix: SparseRows, transposed: SparseRows, count: int
) -> tuple[Float[Tensor, "found"], Float[Tensor, "rows found"]]:
    """`_leading` from all of A Aᵀ."""
    gram = matrix @ (transposed @ torch.eye(matrix.num_rows, device=matrix.values.device))
    values, vectors = torch.linalg.eigh(gram.double())
    return values[-count:].flip(0).float(), vectors[:, -count:].flip(1).float()


def _missed(
    matrix: SparseRows,
    transposed: SparseRows,
    basis: Float[Tensor, "space rows"],
    values: Float[Tensor, "count"],
    generator: torch.Generator,
) -> Float[Tensor, "rows block"] | None:
    """A block orthogonal to the basis with an eigenvalue above the least of `values`; None if there seems to be none.

    A Krylov space holds no more copies of an eigenvalue than its blocks have vectors. A graph has as many copies of the
    largest as it has components.
    """
    size = basis.shape[1]
    if len(basis) + BLOCK > size:
        return None
    block = torch.randn(size, BLOCK, generator=generator).to(basis)
    for _ in range(PROBES):
        block = matrix @ (transposed @ block)
        for _ in range(2):  # as above
            block = torch.linalg.qr(block - basis.T @ (basis @ block)).Q.contiguous()
    largest = torch.linalg.matrix_norm(transposed @ block, 2).square()
    return block if largest > values[-1] + TOLERANCE * values[0] else None

"""iALS: matrix factorisation of all user-item pairs, observed or not, by alternating least squares.

Hu, Koren and Volinsky, 2008, https://doi.org/10.1109/ICDM.2008.22, with the loss and the frequency-scaled
regularisation of Rendle, Krichene, Zhang and Koren, 2021, https://arxiv.org/abs/2110.14037, which make it a strong
baseline:

    Σ_{(u,i) seen} (xᵤ·yᵢ - 1)² + α₀ Σ_{u,i} (xᵤ·yᵢ)² + λ Σᵤ (dᵤ + α₀ |I|)^ν ‖xᵤ‖² + λ Σᵢ (dᵢ + α₀ |U|)^ν ‖yᵢ‖²

An epoch solves for the users with the items fixed, then for the items with the users fixed; the loss never rises.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

from recgraph.baselines.base import Baseline
from recgraph.data.interactions import Interactions
from recgraph.errors import DataError
from recgraph.models.model import Scorer
from recgraph.random import torch_generator
from recgraph.registry import baselines
from recgraph.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

CHUNK = 2**22
"""Numbers in the gathered vectors of rows solved together: 16 MB, see `evaluation.ranking.CHUNK_SCORES`."""


@baselines.register("ials")
class IALS(Baseline):
    """Implicit alternating least squares, solved exactly.

    An epoch costs O(Σ d² dim) over the rows with d < dim entries, and O(Σ (d dim² + dim³)) over the others.

    Args:
        dim: width of the vectors. Gains continue up to larger widths than expected (Rendle et al., 2021, figure 2).
        l2: λ, above 0.
        unobserved_weight: α₀, weight of every squared score, 0 or more. The most important option.
        frequency_exponent: ν, how regularisation grows with a row's entries. 1 is best in most of the paper's runs;
            with 0 it is the same for every row.
        epochs: sweeps over users and items.
        stdev: root mean square length of the initial item vectors (normal, with standard deviation stdev / √dim).
        seed: seed of the initial item vectors, the only random numbers.

    The defaults are those of the authors' README for MovieLens-20M, except `dim`, which is 256 there.
    """

    users: Tensor
    items: Tensor

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: PositiveInt = 64,
        l2: PositiveFloat = 0.003,
        unobserved_weight: NonNegativeFloat = 0.1,
        frequency_exponent: NonNegativeFloat = 1.0,
        epochs: PositiveInt = 16,
        stdev: PositiveFloat = 0.1,
        seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__(num_users, num_items)
        self.dim, self.l2, self.unobserved_weight = dim, l2, unobserved_weight
        self.frequency_exponent, self.epochs, self.stdev, self.seed = frequency_exponent, epochs, stdev, seed
        self.register_buffer("users", torch.zeros(num_users, dim))
        self.register_buffer("items", torch.zeros(num_items, dim))

    def fit(self, train: Interactions) -> None:
        """Draw the item vectors, then solve for users and items in turn, and once more for users.

        The last solve fits the users to the final items, as the authors' code does when it scores.
        """
        by_user = train.csr()
        by_item = by_user.T.tocsr()
        generator = torch_generator(self.seed, "ials")
        items = torch.randn(self.num_items, self.dim, generator=generator) * (self.stdev / self.dim**0.5)
        for _ in range(self.epochs):
            users = self._solve(by_user, items)
            items = self._solve(by_item, users)
        self.users.copy_(self._solve(by_user, items))
        self.items.copy_(items)

    def scorer(self) -> Scorer:
        """See `Model.scorer`."""
        return lambda users: self.users[users] @ self.items.T

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """See `Baseline.embeddings`."""
        return self.users, self.items

    def _solve(self, history: sparse.csr_matrix, table: Float[Tensor, "columns dim"]) -> Float[Tensor, "rows dim"]:
        """The row vectors that minimise the loss when the column vectors are fixed to `table`.

        A row vector x solves (YᵀY + α₀ G + λ_d) x = Yᵀ1, where Y holds the vectors of the row's d columns, G is the
        Gram matrix of all columns, and λ_d = λ (d + α₀ columns)^ν. In the eigenbasis of G the last two terms are a
        diagonal matrix D. With Z = Y D^-½, x = D^-½ (1 + ZᵀZ)⁻¹ Zᵀ1 = D^-½ Zᵀ (1 + ZZᵀ)⁻¹ 1: a system of dim unknowns
        or one of d, of which the smaller is solved. Rows without entries are 0.
        """
        gram, basis = torch.linalg.eigh(table.T.double() @ table.double())
        unobserved = self.unobserved_weight * gram.clamp(min=0).float()
        rotated = torch.cat([table @ basis.float(), torch.zeros(1, self.dim)])  # the last row is padding
        solved = torch.zeros(history.shape[0], self.dim)
        for rows, columns in _padded(history, self.dim):
            degree = (columns < len(table)).sum(1, keepdim=True)
            l2 = self.l2 * (degree + self.unobserved_weight * len(table)) ** self.frequency_exponent
            scale = (unobserved + l2).rsqrt()
            scaled = rotated[columns] * scale[:, None]
            solved[rows] = scale * _ridge(scaled)
        return solved @ basis.float().T


def _ridge(vectors: Float[Tensor, "rows degree dim"]) -> Float[Tensor, "rows dim"]:
    """(1 + ZᵀZ)⁻¹ Zᵀ1 for each matrix Z [degree, dim]; zero rows of Z do not change it."""
    _, degree, dim = vectors.shape
    if degree < dim:
        dual = _solve_shifted(vectors @ vectors.mT, vectors.new_ones(1).expand(len(vectors), degree))
        return (dual[:, None] @ vectors)[:, 0]
    return _solve_shifted(vectors.mT @ vectors, vectors.sum(1))


def _solve_shifted(gram: Float[Tensor, "rows n n"], right: Float[Tensor, "rows n"]) -> Float[Tensor, "rows n"]:
    """(1 + G)⁻¹ r; the diagonal of `gram` is overwritten."""
    gram.diagonal(dim1=1, dim2=2).add_(1)
    factors, failed = torch.linalg.cholesky_ex(gram)
    if failed.any():
        raise DataError("ials: l2 and unobserved_weight are too small: a system is singular to float32 precision")
    return torch.cholesky_solve(right[..., None], factors)[..., 0]


def _padded(history: sparse.csr_matrix, dim: int) -> Iterator[tuple[Int[Tensor, "rows"], Int[Tensor, "rows degree"]]]:
    """Chunks of non-empty rows of similar degree, with their columns, padded by the index num_columns."""
    degrees = np.diff(history.indptr)
    order = np.argsort(degrees, kind="stable")[(degrees == 0).sum() :]
    end = len(order)
    while end:
        width = degrees[order[end - 1]]
        rows = order[max(0, end - max(1, CHUNK // (int(width) * dim))) : end]
        end -= len(rows)
        places = history.indptr[rows][:, None] + np.arange(width)
        inside = np.arange(width) < degrees[rows][:, None]
        columns = np.where(inside, history.indices[np.where(inside, places, 0)], history.shape[1])
        yield torch.from_numpy(rows), torch.from_numpy(columns).long()

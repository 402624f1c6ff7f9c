"""PureSVD: a truncated singular value decomposition of the interaction matrix.

Cremonesi, Koren and Turrin, 2010, https://doi.org/10.1145/1864708.1864721. A user with the row r of R has the scores
r V Vᵀ, where the columns of V are the leading right singular vectors of R. Unobserved pairs count as 0.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from recgraph.baselines.linear import LinearModel, binary
from recgraph.data.interactions import Interactions
from recgraph.graph.spectrum import right_singular_vectors
from recgraph.models.model import Scorer
from recgraph.registry import baselines
from recgraph.types import PositiveInt


@baselines.register("puresvd")
class PureSVD(LinearModel):
    """Projects each user's history onto the leading singular vectors.

    Memory is O(items · dim). The decomposition starts from fixed vectors, so the same data give the same model.

    Args:
        dim: number of singular vectors; all of them if the rank is lower. The paper has 50 and 150.
    """

    vectors: Tensor

    def __init__(self, num_users: int, num_items: int, *, dim: PositiveInt = 50) -> None:
        super().__init__(num_users, num_items)
        self.dim = dim
        self.register_buffer("vectors", torch.zeros(num_items, 0), persistent=False)

    def fit(self, train: Interactions) -> None:
        """Keep the histories and decompose the matrix."""
        super().fit(train)
        self.vectors = right_singular_vectors(*binary(train), self.dim).T.contiguous()

    def scorer(self) -> Scorer:
        """See `Model.scorer`."""
        return lambda users: (self.rows(users) @ self.vectors) @ self.vectors.T

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """See `Baseline.embeddings`."""
        everybody = torch.arange(self.num_users, device=self.device)
        return self.rows(everybody) @ self.vectors, self.vectors

    def contributions(self, user: int, item: int) -> Float[Tensor, "history"]:
        """See `LinearModel.contributions`."""
        history = self.rows(torch.tensor([user], device=self.device)).columns
        return self.vectors[history.long()] @ self.vectors[item]

"""GF-CF: a linear filter of the item graph plus an ideal low-pass filter.

Shen et al. 2021, How Powerful is Graph Convolution for Recommendation? (arXiv 2108.07567). A user's scores are
r (R̃ᵀR̃ + w Dᵢ^-½ V Vᵀ Dᵢ^½), where r is the user's row of R and V has the leading right singular vectors of R̃.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recgraph.baselines.filters import GraphFilter
from recgraph.data.interactions import Interactions
from recgraph.graph.spectrum import right_singular_vectors
from recgraph.model import Scorer
from recgraph.registry import baselines
from recgraph.types import NonNegativeFloat, PositiveInt


@baselines.register("gfcf")
class GFCF(GraphFilter):
    """Filters each user's history by the item graph and by its leading eigenvectors.

    Memory O(items · factors); scoring a user costs two sparse products with R̃ and O(items · factors).

    Args:
        factors: singular vectors that the ideal filter passes; all, where the rank is lower.
        ideal_weight: w. The authors' code has 0.3, and 0, the linear filter alone, for Amazon-Book.
    """

    vectors: Tensor

    def __init__(
        self, num_users: int, num_items: int, *, factors: PositiveInt = 256, ideal_weight: NonNegativeFloat = 0.3
    ) -> None:
        super().__init__(num_users, num_items)
        self.factors, self.ideal_weight = factors, ideal_weight
        self.register_buffer("vectors", torch.zeros(0, num_items), persistent=False)

    def fit(self, train: Interactions) -> None:
        """Keep the history and decompose the normalised matrix."""
        super().fit(train)
        if self.ideal_weight:
            self.vectors = right_singular_vectors(*self.normalised(), self.factors)

    def scorer(self) -> Scorer:
        """See `Model.scorer`."""
        by_user, by_item = self.normalised()
        ideal = self.ideal(self.vectors)

        def scores(users: Int[Tensor, "batch"]) -> Float[Tensor, "batch items"]:
            filtered = by_item @ (by_user @ self.columns(users))
            return filtered.add_(ideal(users), alpha=self.ideal_weight).T

        return scores

"""GF-CF: a linear filter of the item graph plus an ideal low-pass filter.

Shen et al. 2021, How Powerful is Graph Convolution for Recommendation? (arXiv 2108.07567). A user's scores are
r (R̃ᵀR̃ + w Dᵢ^-½ V Vᵀ Dᵢ^½), where r is the user's row of R and V has the leading right singular vectors of R̃.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from recgraph.baselines.filters import IdealFilter
from recgraph.models.model import Scorer
from recgraph.registry import baselines
from recgraph.types import NonNegativeFloat, PositiveInt


@baselines.register("gfcf")
class GFCF(IdealFilter):
    """Filters each user's history by the item graph and by its leading eigenvectors.

    Memory O(items · factors); scoring a user costs two sparse products with R̃ and O(items · factors).

    Args:
        factors: singular vectors that the ideal filter passes; all, where the rank is lower.
        ideal_weight: w. The authors' code has 0.3, and 0, the linear filter alone, for Amazon-Book.
    """

    def __init__(
        self, num_users: int, num_items: int, *, factors: PositiveInt = 256, ideal_weight: NonNegativeFloat = 0.3
    ) -> None:
        super().__init__(num_users, num_items, factors=factors, ideal_weight=ideal_weight)

    def scorer(self) -> Scorer:
        """See `Model.scorer`."""
        by_user, by_item = self.normalised()
        ideal = self.ideal()

        def scores(users: Int[Tensor, "batch"]) -> Float[Tensor, "batch items"]:
            filtered = by_item @ (by_user @ self.columns(users))
            return filtered.add_(ideal(users), alpha=self.ideal_weight).T

        return scores

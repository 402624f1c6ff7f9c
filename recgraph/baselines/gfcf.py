"""GF-CF: a linear filter of the item graph plus an ideal low-pass filter.

Shen et al., "How powerful is graph convolution for recommendation?", 2021, https://arxiv.org/abs/2108.07567. A user's
scores are r (R̃ᵀR̃ + w Dᵢ^-½ V Vᵀ Dᵢ^½), where r is the user's row of R and the columns of V are the leading right
singular vectors of R̃.
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

    Memory is O(items · factors) and two chunks of 64 MB. Scoring a user costs a product with the item graph, and
    O(items · factors).

    Args:
        factors: number of singular vectors of the ideal filter; all of them if the rank is lower.
        ideal_weight: w. The authors' code has 0.3, but 0 (the linear filter alone) for Amazon-Book.
    """

    def __init__(
        self, num_users: int, num_items: int, *, factors: PositiveInt = 256, ideal_weight: NonNegativeFloat = 0.3
    ) -> None:
        super().__init__(num_users, num_items, factors=factors, ideal_weight=ideal_weight)

    def scorer(self) -> Scorer:
        """See `Model.scorer`."""
        smoothed, ideal = self.item_graph(), self.ideal()

        def scores(users: Int[Tensor, "batch"]) -> Float[Tensor, "batch items"]:
            return smoothed(self.columns(users)).add_(ideal(users), alpha=self.ideal_weight).T

        return scores

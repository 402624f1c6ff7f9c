"""BSPM: blurring and then sharpening the interaction matrix.

Choi et al., "Blurring-sharpening process models for collaborative filtering", 2023, https://arxiv.org/abs/2211.09324.
Blurring is one Euler step of length 1 of dy/dt = y P - y from a user's row r, that is r P with P = R̃ᵀR̃, plus the ideal
low-pass filter of GF-CF. Sharpening partly undoes it: dy/dt = -y P, from time 0 to T. This equation is linear, so a
solver step multiplies by a polynomial of P: the series of the exponential, truncated after the first power (Euler) or
the fourth (any Runge-Kutta method of order four in four stages).
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from recgraph.baselines.filters import IdealFilter
from recgraph.models.model import Scorer
from recgraph.registry import baselines
from recgraph.types import NonNegativeFloat, PositiveFloat, PositiveInt

ORDERS = {"euler": 1, "rk4": 4}


@baselines.register("bspm")
class BSPM(IdealFilter):
    """Blurs each user's history over the item graph and sharpens the result.

    Memory is O(items · factors) and some chunks of 64 MB. Scoring a user costs a product with the item graph, and one
    more per solver step and order. The defaults are the authors' for Gowalla (their README).

    Args:
        factors: number of singular vectors of the ideal filter; all of them if the rank is lower.
        ideal_weight: β, weight of the ideal filter. The authors' code has 0 for Amazon-Book.
        time: T, duration of the sharpening.
        steps: solver steps, each of length T / steps.
        solver: "euler" or "rk4".
        merge: "early" (the paper's EM) adds the ideal filter's output before sharpening, "late" (LM) after it.
        average: score by the mean of the blurred state and the states after each sharpening step, not by the last one.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        factors: PositiveInt = 448,
        ideal_weight: NonNegativeFloat = 0.2,
        time: PositiveFloat = 2.5,
        steps: PositiveInt = 1,
        solver: Literal["euler", "rk4"] = "rk4",
        merge: Literal["early", "late"] = "early",
        average: bool = False,
    ) -> None:
        super().__init__(num_users, num_items, factors=factors, ideal_weight=ideal_weight)
        self.time, self.steps, self.solver, self.merge, self.average = time, steps, solver, merge, average

    def scorer(self) -> Scorer:
        """See `Model.scorer`."""
        smoothed, ideal = self.item_graph(), self.ideal()
        step = self.time / self.steps

        def scores(users: Int[Tensor, "batch"]) -> Float[Tensor, "batch items"]:
            blurred = smoothed(self.columns(users))
            passed = self.ideal_weight * ideal(users)
            state = blurred + passed if self.merge == "early" else blurred
            total = blurred
            for _ in range(self.steps):
                term = state
                for order in range(1, ORDERS[self.solver] + 1):  # e^-hP = Σ (-hP)ⁿ / n!
                    term = smoothed(term).mul_(-step / order)
                    state = state + term
                total = total + state
            if self.average:
                state = total / (1 + self.steps)
            return (state if self.merge == "early" else state + passed).T

        return scores

"""Objectives that compare positives and negatives with fixed targets, not with each other."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor

from recgraph.objectives.ranking import Ranking, fill, mean_of_valid, num_valid
from recgraph.registry import objectives
from recgraph.types import NonNegativeFloat


@objectives.register("ccl")
class CCL(Ranking):
    """Cosine contrastive loss: max(0, 1 - s⁺) + w · mean of max(0, s⁻ - m), the mean over rows.

    Mao et al., "SimpleX: a simple and strong baseline for collaborative filtering", CIKM 2021,
    https://arxiv.org/abs/2109.12613. It is meant for the head `cosine`, with which the first maximum always is 1 - s⁺;
    it is kept as in the authors' code (https://github.com/reczoo/RecBox). Negatives of a shared set that the row's user
    likes are left out.

    Args:
        margin: m, in [-1, 1]; negatives below it have no gradient. The authors' settings for SimpleX, in RecZoo, are
            0.9 on Gowalla and Yelp2018 and 0.4 on Amazon-Book.
        negative_weight: w of the mean over negatives (250, 150 and 300 there, of 2000, 1000 and 1000 negatives).
        head: name of the head whose scores are compared.
    """

    def __init__(
        self,
        *,
        margin: Annotated[float, Ge(-1), Le(1)] = 0.9,
        negative_weight: NonNegativeFloat = 150.0,
        head: str = "rank",
    ) -> None:
        super().__init__(head=head)
        self.margin, self.negative_weight = margin, negative_weight

    def row_losses(self, positives: Tensor, negatives: Tensor, hits: Tensor | None, num_items: int) -> Tensor:
        """See the class."""
        above = mean_of_valid(F.relu(negatives - self.margin), hits)
        return F.relu(1 - positives.squeeze(-1)) + self.negative_weight * above


@objectives.register("gbce")
class GBCE(Ranking):
    """Generalised binary cross-entropy: -(β ln σ(s⁺) + Σ ln(1 - σ(s⁻))) / (1 + N), the mean over rows.

    With N negatives of |I| items, α = N / (|I| - 1) is the sampling rate and β = α (t (1 - 1/α) + 1/α), which is
    1 - t (1 - α). With few negatives, plain cross-entropy (t = 0) is overconfident; t = 1 makes σ(s) the probability
    that training on all negatives would give. Petrov and Macdonald, "gSASRec: reducing overconfidence in sequential
    recommendation trained with negative sampling", RecSys 2023, https://arxiv.org/abs/2308.07192. The authors' PyTorch
    code counts one item less in α. Negatives of a shared set that the row's user likes are left out of the sum and of N
    in the denominator, but not of α.

    Args:
        calibration: t, in [0, 1] (0.75 with 256 negatives in the authors' settings for MovieLens-1M).
        head: name of the head whose scores are compared; σ wants unbounded ones, such as inner products.
    """

    def __init__(self, *, calibration: Annotated[float, Ge(0), Le(1)] = 0.75, head: str = "rank") -> None:
        super().__init__(head=head)
        self.calibration = calibration

    def row_losses(self, positives: Tensor, negatives: Tensor, hits: Tensor | None, num_items: int) -> Tensor:
        """See the class; β ln σ(s⁺) is -β softplus(-s⁺), and ln(1 - σ(s⁻)) is -softplus(s⁻)."""
        # A large set holds items twice, and no rate is above 1.
        rate = min(1.0, negatives.shape[-1] / max(1, num_items - 1))
        beta = 1 - self.calibration * (1 - rate)
        below = fill(F.softplus(negatives), hits, 0.0).sum(-1)
        return (beta * F.softplus(-positives.squeeze(-1)) + below) / (1 + num_valid(negatives, hits))


@objectives.register("bce")
class BCE(GBCE):
    """Binary cross-entropy: -(ln σ(s⁺) + Σ ln(1 - σ(s⁻))) / (1 + N), the mean over rows.

    He et al., "Neural collaborative filtering", WWW 2017, https://arxiv.org/abs/1708.05031, section 3.1; with 4
    negatives in its experiments. It is `gbce` without calibration. The authors' batches consist of pairs; a row here is
    a positive with its N negatives, so 256 rows with 4 negatives are 1,280 pairs.

    Args:
        head: name of the head whose scores are compared; σ wants unbounded ones, such as inner products.
    """

    def __init__(self, *, head: str = "rank") -> None:
        super().__init__(calibration=0.0, head=head)

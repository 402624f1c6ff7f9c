"""Objectives that put positives above negatives."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from recgraph.objectives.base import Objective, masked_mean
from recgraph.recommender import Recommender
from recgraph.registry import objectives
from recgraph.types import Batch, Encoding


@objectives.register("bpr")
class BPR(Objective):
    """Bayesian personalised ranking: -ln σ(score of the positive - score of a negative).

    The mean over rows and negatives of softplus(s⁻ - s⁺), which equals -ln σ(s⁺ - s⁻) without its overflow. Rendle et
    al., "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009, https://arxiv.org/abs/1205.2618,
    section 4.1 (BPR-Opt), without its regulariser, which is an objective of its own here.

    Args:
        head: name of the head whose scores are ranked.
    """

    needs = frozenset({"negatives"})

    def __init__(self, *, head: str = "rank") -> None:
        super().__init__()
        self.head = head

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """Mean of softplus(s⁻ - s⁺)."""
        positive = recommender.score(encoding, batch.items.unsqueeze(-1), head=self.head)
        negative = recommender.score(encoding, batch.negatives, head=self.head)
        return masked_mean(F.softplus(negative - positive).mean(-1), batch.mask)

"""Objectives that put positives above negatives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recgraph.objectives.base import Objective
from recgraph.objectives.rows import mean_over_rows
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
        """Mean of softplus(s⁻ - s⁺); negatives of a shared set that the row's user likes are left out."""

        def losses(part: Batch, encoding: Encoding) -> Tensor:
            assert part.negatives is not None  # `needs` has them built
            positives = part.items.unsqueeze(-1)
            if part.hits is None:
                scores = recommender.score(encoding, torch.cat([positives, part.negatives], -1), head=self.head)
                return F.softplus(scores[..., 1:] - scores[..., :1]).mean(-1)
            scores = recommender.score(encoding, part.negatives[0], head=self.head)
            values = F.softplus(scores - recommender.score(encoding, positives, head=self.head))
            valid = torch.ones_like(values).view(-1).index_fill_(0, part.hits[0], 0).view(values.shape)
            return (values * valid).sum(-1) / valid.sum(-1).clamp(min=1)

        assert batch.negatives is not None
        num = batch.negatives.shape[-1]
        return mean_over_rows(
            losses,
            batch,
            encoding,
            width=num if batch.hits is not None else (1 + num) * encoding.items.shape[1],
            parameters=tuple(recommender.heads.parameters()),
        )

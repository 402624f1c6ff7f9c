"""Objectives for rows labelled as click or no click."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from recgraph.models.recommender import Recommender
from recgraph.objectives.base import Objective, masked_mean
from recgraph.registry import objectives
from recgraph.types import Batch, Encoding


class Click(Objective):
    """Base class: the mean over rows of a loss that depends on the score and the label of each row's item.

    Args:
        head: name of the head that scores.
    """

    needs = frozenset({"click"})

    def __init__(self, *, head: str = "rank") -> None:
        super().__init__()
        self.head = head

    def row_losses(self, scores: Float[Tensor, "*batch"], labels: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """The loss of each row."""
        raise NotImplementedError

    def forward(self, recommender: Recommender, batch: Batch, encoding: Encoding) -> Tensor:
        """Score each row's item."""
        scores = recommender.score_pairs(encoding, batch.items, head=self.head)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))  # autocast's are too coarse for sums
        return masked_mean(self.row_losses(scores, batch.labels["click"].to(scores.dtype)), batch.mask)


@objectives.register("log_loss")
class LogLoss(Click):
    """-(y ln σ(s) + (1 - y) ln(1 - σ(s))), the mean over rows: binary cross-entropy of the score and the label.

    Args:
        head: name of the head whose score is the logit of a click.
    """

    def row_losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        """See the class; softplus(s) - y s."""
        return F.binary_cross_entropy_with_logits(scores, labels, reduction="none")


@objectives.register("squared_error")
class SquaredError(Click):
    """(y - σ(s))², the mean over rows: Brier's score of the probability.

    Args:
        head: name of the head whose score is the logit of a click.
    """

    def row_losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        """See the class."""
        return (labels - scores.sigmoid()).square()
